"""Evaluations of the paper for any checkpoint, by a preset's baseline and judge: `make eval-lima`, `make eval-alpaca`.

`lima`: win score against the baseline (Eq. 7) on the 300 LIMA prompts, or the sandbox's 300 in their stead.
`alpaca`: AlpacaEval 2, whose reference is GPT-4's answers; in the sandbox its 805 prompts, against the baseline.
`human-study`: the three models' answers for the paper's two comparisons, from the arms' final policies (seed 0).
`checkpoint`: only the path of the checkpoint.
A checkpoint is a folder or hub name, or `sandbox:policy`, `sandbox:baseline`. Without one, the preset's SFT policy.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from experiments.compute.arms import Arm, arm
from experiments.compute.run_arms import compute
from experiments.compute.setting import Setting
from optune.config import RunConfig
from optune.packaged_models.names import checkpoint_of
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.files import read_json, write_json

STUDY_ARMS = {
    "optune_0.7": arm("wdpo", "lowest_reward", 0.7),
    "optune_1.0": arm("wdpo", "all"),
    "random_0.7": arm("wdpo", "random", 0.7),
}


def prepared(setting: Setting, checkpoint: str, prompts: dict[str, str]) -> tuple[RunConfig, str]:
    """The preset with its evaluation prompts, and the checkpoint's path. prompts: `sandbox` and `hub` set names."""
    config = setting.config
    named = config.with_overrides(
        {
            "policy.model": checkpoint or config.policy.model,
            "evaluation.prompts": prompts["sandbox" if config.sandbox else "hub"],
        }
    )
    resolved = setting.resolve(named)
    return resolved, resolved.policy.model


def lima(setting: Setting, checkpoint: str, max_cost: float | None = None) -> dict[str, Any]:
    """Win score, its interval and counts; the judge's replies and verdicts stay in `runs/<preset>/judge`."""
    from experiments.compute.measure import judged

    config, model = prepared(setting, checkpoint, {"sandbox": "sandbox:lima", "hub": "lima"})
    summary, where = judged(model, config, setting.work_dir, max_cost)
    return {"checkpoint": model, "baseline": config.evaluation.baseline, **summary, "run_dir": str(where)}


def alpaca(setting: Setting, checkpoint: str) -> dict[str, Any]:
    """AlpacaEval 2's win rates on the sandbox's prompts; elsewhere says how to run it with the real references."""
    from experiments.compute.measure import alpaca_eval

    config, model = prepared(setting, checkpoint, {"sandbox": "sandbox:alpaca", "hub": "alpaca_eval"})
    if not config.sandbox:
        raise UserError(
            "AlpacaEval's own prompts have their own reference answers: answer them with `python -m eval.outputs "
            "--prompts alpaca_eval`, then `python -m eval.alpaca_eval --outputs ... --reference ...`."
        )
    return {"checkpoint": model, **alpaca_eval(model, config, setting.work_dir)}


def human_study(setting: Setting, folder: Path) -> dict[str, str]:
    """The three models' answers to the LIMA prompts as `eval.human_study export --outputs` reads them."""
    from experiments.compute.measure import answers_of

    compute(setting, tuple(STUDY_ARMS.values()), [0])
    config, _ = prepared(setting, "", {"sandbox": "sandbox:lima", "hub": "lima"})
    written = {}
    for name, member in STUDY_ARMS.items():
        rows = answers_of(final_policy(setting, member, 0), config, setting.work_dir)
        written[name] = str(write_json(folder / f"{name}.json", [{**row, "generator": name} for row in rows]))
    return written


def final_policy(setting: Setting, member: Arm, seed: int) -> str:
    """The last checkpoint of an arm that has been computed on this machine."""
    manifest = setting.run_dir(member.name, seed) / "manifest.json"
    return next(entry["path"] for entry in reversed(read_json(manifest)["stages"]) if entry["stage"] == "train")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("lima", "alpaca", "human-study", "checkpoint"))
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--checkpoint", default="")
    parser.add_argument("--max-cost", type=float, help="lima only: refuse to spend more on the judge")
    parser.add_argument("--out", type=Path, default=Path("runs/human-study-outputs"), help="human-study only")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="for example evaluation.judge.model=gpt-4o")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _evaluate(options))


def _evaluate(options: argparse.Namespace) -> None:
    setting, checkpoint = Setting(options.preset, tuple(options.overrides)), options.checkpoint
    if options.what == "checkpoint" and checkpoint and not checkpoint.startswith("sandbox:"):
        print(checkpoint_of(checkpoint))  # one's own: no world is built for it
    elif options.what == "checkpoint":  # where it lies, for the evaluations that take a path
        print(prepared(setting, checkpoint, {"sandbox": "sandbox:lima", "hub": "lima"})[1])
    elif options.what == "human-study":
        print(json.dumps(human_study(setting, options.out), indent=2))
    elif options.what == "alpaca":
        print(json.dumps(alpaca(setting, checkpoint), indent=2))
    else:
        print(json.dumps(lima(setting, checkpoint, options.max_cost), indent=2))


if __name__ == "__main__":
    sys.exit(main())
