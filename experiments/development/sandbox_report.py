"""What kind of world the sandbox is: `make sandbox` builds it on the development seeds and measures it.

Everything is measured on development seeds and validation prompts; each line stands beside the range that the protocol
asks for. The judge's habits stand beside those of real GPT-4 replies on 1,030 prompts in both orders.
"""

from __future__ import annotations

import argparse
import sys
from statistics import fmean
from typing import Any

from experiments.compute.arms import DEVELOPMENT_SEEDS
from experiments.compute.results import RESULTS
from experiments.compute.setting import RUNS, Setting
from experiments.development.calibrate_judge import TARGETS
from experiments.development.settings import ARM, ON_VALIDATION, gain
from optune.sandbox import VERSION, content_hash
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.files import read_json, write_json


def measure_world(preset: str) -> dict[str, Any]:
    """All figures of the report, means over the development builds, with each build's own beside them."""
    from optune.sandbox.parts.models import TINY, build, report

    setting = Setting(preset)
    config = setting.config
    if not config.sandbox:
        raise UserError(f"Preset {preset!r} has no sandbox to report on; use tiny.")
    builds = {}
    for seed in DEVELOPMENT_SEEDS:
        setting.resolve(config.with_overrides({"sandbox.build": seed}))
        builds[seed] = report(build(seed, RUNS / "sandbox", TINY), seed=seed)
    world = {
        "preset": preset,
        "sandbox": {"version": VERSION, "hash": content_hash()},
        "command": f"make sandbox PRESET={preset}",
        "builds": builds,
        "development": gain(preset),
        "judge": judge_habits(preset),
    }
    world["baseline_position"] = baseline_position(preset)
    return world


def judge_habits(preset: str) -> dict[str, float]:
    """The judge's shares on ratio 1's final development policies against the baseline, where the two answers differ.

    Real judged pairs have no prompts that both answered with the same words; here many are.
    """
    from eval.verdicts import summarize
    from eval.win_score import read_verdicts
    from experiments.compute.evaluate import final_policy
    from experiments.compute.measure import answers_of, judged

    setting = Setting(preset, (ON_VALIDATION,))
    verdicts, same = [], 0
    for seed in DEVELOPMENT_SEEDS:
        config = setting.resolve(setting.arm_config(ARM, seed))
        policy = final_policy(setting, ARM, seed)
        _, folder = judged(policy, config, setting.work_dir)
        models = (policy, config.evaluation.baseline)
        answers, baseline = (answers_of(model, config, setting.work_dir) for model in models)
        unlike = {a["prompt_id"] for a, b in zip(answers, baseline, strict=True) if a["output"] != b["output"]}
        verdicts += [verdict for i, verdict in read_verdicts(folder).items() if i in unlike]
        same += len(answers) - len(unlike)
    summary = summarize(verdicts, seed=0)
    return {**{name: summary[name] for name in TARGETS}, "same_answers": same / (same + len(verdicts))}


def baseline_position(preset: str) -> dict[str, Any]:
    """Where the baseline stands: ratio 1's final win score against it, as a share of the range -50 to 150."""
    setting = Setting(preset, (ON_VALIDATION,))
    scores = [read_json(setting.computed(ARM.name, s))["iterations"][-1]["win_score"] for s in DEVELOPMENT_SEEDS]
    return {"win_scores": scores, "share_of_range": (fmean(scores) + 50) / 200}


def lines(world: dict[str, Any]) -> list[str]:
    """The report as a table."""
    builds = list(world["builds"].values())

    def over_builds(name: str) -> str:
        values = [build[name] for build in builds]
        return f"{fmean(values):.3f}  ({', '.join(f'{v:.3f}' for v in values)})"

    def interval_of(measure: dict[str, float]) -> str:
        return f"{measure['gain']:.3f} [{measure['low']:.3f}, {measure['high']:.3f}]"

    gain_of, position = world["development"]["gold_mean"], world["baseline_position"]["share_of_range"]
    rows = [
        ("SFT policy, mean gold (4 to 7)", over_builds("gold_policy")),
        ("spread over families (at least 4)", over_builds("gold_family_spread")),
        ("baseline, mean gold", over_builds("gold_baseline")),
        ("reward model's agreement with gold, gap of 1 or more (0.75)", over_builds("agreement_gap_1")),
        ("the same, all pairs", over_builds("agreement_all")),
        ("held-out accuracy on noisy preferences", over_builds("held_out_accuracy")),
        ("rank correlation of reward with gold across prompts", over_builds("rank_correlation_across_prompts")),
        ("ratio 1's gain in gold, iteration 0 to 3", interval_of(gain_of)),
        ("ratio 1's gain in win score", interval_of(world["development"]["win_score"])),
        ("ratio 1 against the baseline, share of the range (0.2 to 0.8)", f"{position:.3f}"),
        ("seconds to build, 1 thread", ", ".join(f"{build['build_seconds']['total']:.0f}" for build in builds)),
    ]
    rows += [(f"judge: {n.replace('_', ' ')} (GPT-4: {t})", f"{world['judge'][n]:.3f}") for n, t in TARGETS.items()]
    families = {f: fmean(b["gold_by_family"][f] for b in builds) for f in builds[0]["gold_by_family"]}
    ranked = sorted(families.items(), key=lambda item: item[1])
    table = [f"  {name:66s} {value}" for name, value in rows]
    return [*table, "  SFT policy's mean gold by family: " + ", ".join(f"{f} {g:.1f}" for f, g in ranked)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="tiny")
    options = parser.parse_args(arguments)
    return exit_status(lambda: report_world(options.preset))


def report_world(preset: str) -> None:
    """Measure, write `results/<preset>/sandbox.json`, and print the table."""
    world = measure_world(preset)
    write_json(RESULTS / preset / "sandbox.json", world)
    print("\n".join(lines(world)))


if __name__ == "__main__":
    sys.exit(main())
