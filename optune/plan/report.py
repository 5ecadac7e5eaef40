"""`python -m optune plan`: what a run will take, stage by stage: its command, time, memory, disk and price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optune.config import RunConfig
from optune.plan.cost_model import (
    Lengths,
    StageCost,
    expected_lengths,
    judge_cost,
    offline_pairs,
    plan_run,
    prompts_of,
    spread_of,
    training_bytes,
)
from optune.plan.hardware import MACHINES, Machine, shape_of
from optune.plan.measured_cost import ledger_errors, measured, plan_measured
from optune.plan.nodes import fitted, named, node_commands, run_command, training_command
from optune.plan.own_machine import OwnMachine, plan_here
from optune.plan.shares import row, shares_told
from optune.plan.writer_cost import SANDBOX_FAMILIES, SHP_CATEGORIES, told, writer_cost
from optune.prompts.files import load_prompts
from optune.types import UserError
from optune.utils.files import read_json, read_yaml

CLOCK = "seconds-"


def plan(
    config: RunConfig,
    *,
    machine: str = "a100",
    gpus: int | None = None,
    nodes: int = 1,
    prompt_tokens: float | None = None,
    response_tokens: float | None = None,
    ledgers: Path | None = None,
    prices: Path | None = None,
    arguments: str | None = None,
    own: OwnMachine | None = None,
) -> str:
    """The plan as text: from `own` speeds, if they were measured; else a run in an embedded world (sandbox,
    instructions) is predicted from `ledgers`, any other from the data sheet of `machine`.

    ledgers: a folder of raw results; the plan's error is measured against them. prices: judges' prices (YAML). gpus:
    the number in each of `nodes` machines, by default what the configuration uses; for another number the plan sets the
    options that make the run use them. arguments: those that name the run on the command line. Raises UserError for an
    unknown machine, and where the configuration does not say how many prompts there are.
    """
    if machine not in MACHINES:
        raise UserError(f"--machine: unknown {machine!r}; known: {', '.join(MACHINES)}.")
    config = _counted(config)
    prompts = prompts_of(config)
    if prompts is None:
        raise UserError("prompts.limit: say how many prompts there are; a plan counts only those of a local file.")
    if nodes < 1 or (gpus is not None and gpus < 1):
        raise UserError("--nodes and --gpus: at least 1 of each.")
    rows = measured(read_timed(ledgers)) if ledgers else []
    listed = _prices(prices) if prices else {}
    embedded = config.sandbox is not None or config.instructions is not None
    arguments = arguments or named(config)
    lengths = expected_lengths(config, prompt_tokens, response_tokens)
    changes: dict[str, Any] = {}
    if own:
        if gpus or nodes > 1:
            raise UserError("--measure is of this machine as it is configured: leave out --gpus and --nodes.")
        gpus, lengths = spread_of(config).gpus, own.lengths
        stages, where = plan_here(config, own, prompts), own.name
    elif embedded:
        if not rows:
            example = f"results/{'tiny' if config.sandbox else 'smollm2'}/raw"
            raise UserError(f"A run in an embedded world is planned from measured ones: give --ledgers {example}.")
        stages, where, gpus = plan_measured(config, rows, prompts), "the CPU that the ledgers are of", 1
    else:
        gpus = gpus or spread_of(config).gpus
        changes = fitted(config, nodes, gpus)
        config = config.with_overrides(changes)
        stages = plan_run(config, MACHINES[machine], prompts, lengths)
        where = f"{nodes * gpus} x {MACHINES[machine].name}"
    parts = [
        f"{config.preset or 'The run'}: {prompts:,} prompts, {config.generation.n} responses each, "
        f"{config.iterations + 1} iterations, selection {config.selection.strategy} at {config.selection.ratio:g}, "
        f"engine {config.generation.engine}, on {where}.",
        f"{run_command(arguments, changes)}\n{_table(stages, nodes * gpus)}",
        _writer(config, lengths, listed, None if embedded or own else MACHINES[machine], nodes * gpus),
        _evaluation(config, lengths, listed),
    ]
    if own:
        return "\n\n".join(part for part in [*parts, own.told()] if part)
    if embedded:
        parts.append("Not counted: the world's own models, which the first run builds.")
    else:
        compared = "" if machine == "laptop" else shares_told(config, MACHINES[machine], nodes * gpus, prompts, lengths)
        parts += [
            _assumptions(config, MACHINES[machine], lengths),
            compared,
            node_commands(config, changes, nodes, gpus, arguments) if nodes > 1 else "",
        ]
    parts.append(_errors(rows, ledgers) if rows else "No ledgers given (--ledgers), so the error is not known.")
    return "\n\n".join(part for part in parts if part)


def _prices(file: Path) -> dict[str, Any]:
    """Judges' prices by model. Raises UserError naming a file that has none."""
    listed = read_yaml(file)
    if not isinstance(listed, dict) or not isinstance(listed.get("models"), dict):
        raise UserError(f"{file}: holds no prices; expected a mapping `models`, as in eval/judges/prices.yaml.")
    return listed["models"]


def read_timed(folder: Path) -> list[dict[str, Any]]:
    """Raw results with stages and seconds. If there are runs made for the clock, their seconds replace the others.

    A run for the clock, `seconds-<arm>/seed<k>.json`, repeats the run of `<arm>/seed<k>.json` on an idle machine.
    """
    again = {path: read_json(path)["timing"] for path in sorted(folder.glob(f"{CLOCK}*/seed*.json"))}
    if again:
        timed = [(folder / path.parent.name.removeprefix(CLOCK) / path.name, timing) for path, timing in again.items()]
        return [read_json(path) | {"timing": timing} for path, timing in timed]
    results = [read_json(path) for path in sorted(folder.glob("*/seed*.json"))]
    return [result for result in results if "stages" in (result.get("iterations") or [{}])[0]]


def _table(stages: Sequence[StageCost], gpus: int) -> str:
    """The stages of one command, a line each, and their total. GPU-hours include GPUs that wait for a stage."""
    lines = [row("stage", "GPUs", "hours", "GPU-hours", "GB per GPU", "disk GB")]
    for s in stages:
        memory = f"{s.memory / 1e9:.1f}" if s.memory else "-"
        label = f"iteration {s.iteration} {s.stage}"
        lines.append(row(label, str(s.gpus), *_hours(s.seconds, gpus), memory, f"{s.disk / 1e9:.2f}"))
    kept = sum(s.disk for s in stages)
    lines.append(row("in all", "", *_hours(sum(s.seconds for s in stages), gpus), "", f"{kept / 1e9:.2f}"))
    return "\n".join(lines)


def _hours(seconds: float, gpus: int) -> tuple[str, str]:
    return f"{seconds / 3600:.3f}", f"{seconds * gpus / 3600:.2f}"


def _writer(config: RunConfig, lengths: Lengths, prices: Mapping[str, Any], on: Machine | None, gpus: int) -> str:
    cost = writer_cost(config, lengths, prices, on, gpus, SANDBOX_FAMILIES if config.sandbox else SHP_CATEGORIES)
    return told(cost, config.prompts.synthetic.writer.model or config.prompts.synthetic.writer.name) if cost else ""


def _evaluation(config: RunConfig, lengths: Lengths, prices: Mapping[str, Any]) -> str:
    cost = judge_cost(config, lengths, prices)
    if cost is None:
        return ""
    judge = config.evaluation.judge
    if judge.name == "sandbox":
        price = "no price: the judge is the sandbox's own"
    elif cost.price is None:
        price = f"price unknown: {judge.model} is in no --prices file"
    else:
        price = f"about {cost.price:,.2f} at list price"
    return (
        f"make eval-lima PRESET={config.preset} CHECKPOINT=... (each policy against {config.evaluation.baseline})\n"
        f"  {cost.calls:,} calls of {judge.model}, {cost.tokens_in:,.0f} tokens in, {cost.tokens_out:,.0f} out; {price}"
    )


def _assumptions(config: RunConfig, machine: Machine, lengths: Lengths) -> str:
    settings, spread = config.training, spread_of(config)
    memory = training_bytes(shape_of(config.policy.model), config, spread.training)
    fits = "fits" if memory < machine.memory else "does not fit"
    passes = ["two rows a pair" if settings.batching is None else "one row a pair, the prompt once"]
    if settings.fresh_reference:
        passes.append("no reference pass for fresh pairs")
    if settings.lora:
        passes.append("a LoRA, whose other weights need no gradient")
    offline = offline_pairs(config)
    lines = [
        f"Assumed: a mean prompt of {lengths.prompt:.0f} and a mean response of {lengths.response:.0f} tokens "
        f"(--prompt-tokens, --response-tokens); {machine.train_efficiency:.0%} of the peak in training and "
        f"{machine.forward_efficiency:.0%} in forward passes; {machine.bandwidth_efficiency:.0%} of the memory "
        "bandwidth in decoding; each stage's work spread evenly over its GPUs.",
        f"Sampling: {spread.generation} GPU(s) (engine vllm, ray or generation.workers). Rewarding: "
        f"{spread.rewarding} (reward.workers, on one machine). Training: {spread.training}, {', '.join(passes)}; it "
        f"takes {memory / 1e9:.0f} GB and {fits} on one {machine.name}.",
    ]
    if config.launch:
        lines.append(f"Each training is {training_command(config.launch)}")
    if offline:
        lines.append(f"{offline:,} pairs of {config.pairs.offline} are counted in training.")
    elif offline is None:
        lines.append(f"Training leaves out the pairs of {config.pairs.offline}: it is not here to count them.")
    return "\n".join(lines)


def _errors(rows: Sequence[Mapping[str, Any]], folder: Path) -> str:
    errors = ", ".join(f"{phase} {error:.0%}" for phase, error in ledger_errors(rows).items())
    arms = len({row["arm"] for row in rows})
    return (
        f"Error on {len(rows)} timings of {arms} arms in {folder}, each arm predicted from the others (median): "
        f"{errors}. It tells how time grows with work on that machine; the rates assumed for GPUs are not tested by it."
    )


def _counted(config: RunConfig) -> RunConfig:
    """With the number of prompts of a local file as the limit, where the configuration sets none or a higher one."""
    own = config.prompts
    if own.synthetic or not Path(own.path).is_file():
        return config
    there = len(load_prompts(own.path, own.split, own.columns))
    return config if own.limit and own.limit <= there else config.with_overrides({"prompts.limit": there})
