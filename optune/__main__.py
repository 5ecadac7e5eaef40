"""The method from the command line: `python -m optune run`, check, view, select, sft, reward, preference, audit, ..."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from optune.types import UserError
from optune.utils import quiet  # noqa: F401  (before any library that phones home)
from optune.utils.command import exit_status

if TYPE_CHECKING:
    from optune.config import RunConfig


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0; 1 where an audit finds a problem; else as `command.exit_status` has it."""
    parser = argparse.ArgumentParser(prog="python -m optune", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="online DPO with selective regeneration, on a preset or your own YAML")
    run.add_argument("--config", metavar="FILE", help="YAML file; may name a preset to start from")
    run.add_argument("--preset", help="nano, tiny, smollm2, small or paper")
    run.add_argument("--recipe", help="optune, vanilla, ... (optune/presets/recipes), or a .yaml file")
    run.add_argument("--run-dir", type=Path, help="default: runs/<preset or file name>[-<recipe>]-seed<seed>")
    run.add_argument("--store", type=Path, metavar="DIR", help="stages shared by many runs; default: RUN_DIR/stages")
    run.add_argument(
        "--push-to-hub",
        metavar="NAME",
        help="afterwards: the policy to user/name, its pairs to user/name-pairs, private",
    )
    run.add_argument("--push-to", type=Path, metavar="DIR", help="write what --push-to-hub would upload to DIR instead")
    run.add_argument("overrides", nargs="*", metavar="name=value", help="for example selection.ratio=0.4")
    run.set_defaults(function=_run)

    view = commands.add_parser("view", help="a run, or two beside each other, as one HTML page; also while it runs")
    view.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN_DIR", help="one run directory, or two")
    view.add_argument("--output", type=Path, metavar="FILE", help="default: view.html in the (first) run directory")
    view.add_argument("--max-mb", type=float, default=20.0, help="largest page; of more prompts a random part is shown")
    view.add_argument("--extra", type=Path, metavar="FILE", help="JSON list of sections to add: see optune/view")
    view.set_defaults(function=_view)

    check = commands.add_parser("check", help="whether policy, reward, prompts and limits fit; `run` does it, too")
    check.add_argument("--config", metavar="FILE", help="YAML file; may name a preset to start from")
    check.add_argument("--preset", help="nano, tiny, smollm2, small or paper")
    check.add_argument("--recipe", help="optune, vanilla, ... (optune/presets/recipes), or a .yaml file")
    check.add_argument("overrides", nargs="*", metavar="name=value", help="for example selection.ratio=0.4")
    check.set_defaults(function=_check)

    select = commands.add_parser(
        "select",
        help="which prompts to regenerate, from a file of rewards",
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    select.add_argument("-h", "--help", action=_HelpWithStrategies, help="show this, with all strategies, and exit")
    select.add_argument("--rewards", required=True, metavar="FILE", help="JSONL, CSV or Parquet: prompt_id, reward")
    select.add_argument("--ratio", required=True, help="share of the prompts, in (0, 1]")
    select.add_argument(
        "--strategy",
        default="lowest_reward",
        metavar="NAME",
        help="one of the strategies below, or package.module:function; default: lowest_reward",
    )
    select.add_argument("--seed", type=int, default=0)
    select.set_defaults(function=_select)

    _takes_data(commands.add_parser("sft", help="fine-tune a start policy on your demonstrations"), "sft")
    _takes_data(commands.add_parser("reward", help="train a reward model (Eq. 1) on your preferences"), "reward")
    _takes_data(commands.add_parser("preference", help="offline DPO or wDPO on your preferences"), "preference")

    audit = commands.add_parser("audit", help="check a finished run: hashes, counts, selection, pairs")
    audit.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    audit.set_defaults(function=_audit)

    plan = commands.add_parser("plan", help="time, memory, disk and judge calls of every stage, before a run")
    plan.add_argument("--config", metavar="FILE", help="YAML file; may name a preset to start from")
    plan.add_argument("--preset", help="nano, tiny, smollm2, small or paper")
    plan.add_argument("--recipe", help="optune, vanilla, ... (optune/presets/recipes), or a .yaml file")
    plan.add_argument("--machine", default="a100", help="a100, h100, h200, or laptop: a CPU without a GPU")
    plan.add_argument("--measure", action="store_true", help="in its place: some ten seconds of your models here")
    plan.add_argument("--gpus", type=int, help="of a node; default: as many as the configuration uses")
    plan.add_argument("--nodes", type=int, default=1, help="machines; for several, the commands of each are printed")
    plan.add_argument("--prompt-tokens", type=float, help="mean length of a prompt")
    plan.add_argument("--response-tokens", type=float, help="mean length of a response")
    plan.add_argument("--ledgers", type=Path, help="raw results to measure the prediction against")
    plan.add_argument("--prices", type=Path, help="YAML file of judges' prices")
    plan.add_argument("overrides", nargs="*", metavar="name=value", help="for example selection.ratio=0.4")
    plan.set_defaults(function=_plan)

    clean = commands.add_parser("clean-runs", help="list the files that can be deleted, with sizes; --yes deletes them")
    clean.add_argument("--runs", type=Path, default=Path("runs"))
    clean.add_argument("--yes", action="store_true", help="delete them")
    clean.set_defaults(function=_clean_runs)

    push = commands.add_parser("push", help="upload a run's final policy and pairs to the hub; lists them first")
    push.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    push.add_argument("--policy", metavar="NAME", help="repository of the policy: user/name")
    push.add_argument("--pairs", metavar="NAME", help="repository of the preference data: user/name")
    push.add_argument("--to", type=Path, metavar="DIR", help="write what would be uploaded to DIR/NAME instead")
    push.add_argument("--public", action="store_true", help="repositories are private without it")
    push.add_argument("--yes", action="store_true", help="upload")
    push.set_defaults(function=_push)

    options = parser.parse_args(arguments)
    return exit_status(lambda: options.function(options))


class _HelpWithStrategies(argparse.Action):
    """`--help` with the registry of strategies, which is imported only then."""

    def __init__(self, option_strings: list[str], dest: str, help: str):
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from optune.selection.from_file import strategies_told

        parser.epilog = strategies_told()
        parser.print_help()
        parser.exit()


def _takes_data(parser: argparse.ArgumentParser, command: str) -> None:
    parser.add_argument("--model", metavar="M", help="to start from: a folder, hub name or packaged:name")
    parser.add_argument("--data", metavar="DATA", help="JSONL, JSON, Parquet or CSV file, or a hub data set, as TRL's")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the model and its record")
    parser.add_argument("--config", metavar="FILE", help="YAML file: optune/pipeline/settings.py has the options")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="for example training.learning_rate=2e-5")
    parser.set_defaults(function=lambda options: _train_start_model(command, options))


def _train_start_model(command: str, options: argparse.Namespace) -> None:
    from optune.config import load_section
    from optune.pipeline import settings
    from optune.pipeline.card import measured
    from optune.pipeline.train import train_start_model

    given = {"model": options.model, "data.path": options.data}
    given = {name: value for name, value in given.items() if value is not None}
    if not (options.config or len(given) == 2):
        raise UserError("Say what to train on what: --model M --data DATA, or --config FILE that has both.")
    config = load_section(settings.KINDS[command], options.config, given, options.overrides)
    trained = train_start_model(command, config, options.out, progress=True)
    for name, value in measured(trained.measures):
        print(f"{name}: {value}")
    print(f"The model is in {trained.model}: it can be {trained.role}.model of a run. Its card is README.md there.")


def _check(options: argparse.Namespace) -> None:
    from optune.instructions.parts.names import made_from_policy
    from optune.loop.checks import check_run

    config = _resolved(_config(options, evaluated=False), make=False)
    made = made_from_policy(config)
    for line in check_run(config, made_later=made):
        print(line)
    for field, name in made.items():
        print(f"{field}: {name!r} is made from this policy when the run starts, and is not checked before.")
    print("All of it fits.")


def _run(options: argparse.Namespace) -> None:
    from optune.finished.export import export_policy
    from optune.loop.algorithm import run_optune
    from optune.loop.progress import Progress
    from optune.utils.precision import advice

    if options.push_to and not options.push_to_hub:
        raise UserError("--push-to DIR says where --push-to-hub NAME writes; give the name, too.")
    config = _config(options, evaluated=False)
    name = Path(options.config).stem if options.config else options.preset
    name += f"-{Path(options.recipe).stem}" if options.recipe else ""
    run_dir = options.run_dir or Path("runs") / f"{name}-seed{config.seed}"
    if slow := advice(config):
        print(slow, file=sys.stderr)
    config = _resolved(config)
    with Progress(config) as progress:
        result = run_optune(config, run_dir, options.store, on_stage=progress.stage, on_progress=progress.sampled)
    policy = export_policy(result.best, result.stages, config, run_dir)
    print(f"The policy is in {policy}; what every stage did is in {run_dir / 'manifest.json'}.")
    if options.push_to_hub:
        from optune.finished.hub import push

        name = options.push_to_hub
        push(run_dir, name, f"{name}-pairs", options.push_to, yes=options.push_to is None)


def _view(options: argparse.Namespace) -> None:
    from optune.utils.files import read_json
    from optune.view.page import write_page

    path = options.output or options.run_dirs[0] / "view.html"
    extra = read_json(options.extra) if options.extra else []
    made = write_page(options.run_dirs, path, extra, int(options.max_mb * 1e6))
    shown = "all of its" if made["prompts"] == made["of"] else f"{made['prompts']:,} of"
    print(f"{path}: {made['bytes'] / 1e6:.1f} MB, with {shown} {made['of']:,} prompts. Open it in a browser.")


def _resolved(config: RunConfig, make: bool = True) -> RunConfig:
    """With folders and files in the place of `packaged:`, `instructions:` and `sandbox:` names.

    make: also where a model of the world `instructions` must be trained for it.
    """
    from optune.instructions.parts.names import resolve_instructions
    from optune.packaged_models.names import resolve_packaged

    config = resolve_instructions(resolve_packaged(config), Path("runs") / "instructions", make)
    if config.sandbox:
        from optune.sandbox.parts.names import resolve_sandbox

        config = resolve_sandbox(config, Path("runs") / "sandbox")
    return config


def _config(options: argparse.Namespace, evaluated: bool = True) -> RunConfig:
    """What the options name. evaluated: with the section `evaluation`, whose models a run itself has no use for."""
    from optune.config import load_config

    if not (options.config or options.preset):
        raise UserError("Say what to run: --preset tiny, or --config FILE.")
    config = load_config(options.preset, options.config, options.overrides, options.recipe)
    return config if evaluated else config.with_overrides({"evaluation": None})


def _plan(options: argparse.Namespace) -> None:
    from optune.plan.report import plan

    names = ("machine", "gpus", "nodes", "prompt_tokens", "response_tokens", "ledgers", "prices")
    config, own = _config(options), None
    if options.measure:
        from optune.loop.measure import measure

        config = _resolved(config)
        print("Measuring how fast this machine samples, rewards and trains ...", file=sys.stderr)
        own = measure(config, options.response_tokens)
    words = []
    for name in ("config", "preset", "recipe"):
        if getattr(options, name):
            words += [f"--{name}", getattr(options, name)]
    words += options.overrides
    given = {name: getattr(options, name) for name in names}
    print(plan(config, **given, arguments=shlex.join(words), own=own))


def _push(options: argparse.Namespace) -> None:
    from optune.finished.hub import push

    push(options.run_dir, options.policy, options.pairs, options.to, options.public, options.yes)


def _clean_runs(options: argparse.Namespace) -> None:
    from optune.finished.clean import clean_runs

    clean_runs(options.runs, options.yes)


def _select(options: argparse.Namespace) -> None:
    from optune.selection.from_file import select_from_file

    for prompt_id in select_from_file(Path(options.rewards), options.ratio, options.strategy, options.seed):
        print(prompt_id)


def _audit(options: argparse.Namespace) -> int:
    from optune.finished.audit import audit_run

    audit = audit_run(options.run_dir)
    for line in audit.lines():
        print(line)
    return 1 if audit.problems else 0


if __name__ == "__main__":
    sys.exit(main())
