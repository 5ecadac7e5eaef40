"""Measurements for the tables of the Always-On-Policy paper, as probes of finished runs (see `probes.py`)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from eval.judges import judge_of
from eval.reward_agreement import agreement, length, reward_of
from eval.win_score import read_verdicts, win_score
from experiments.compute.arms import Arm, Probe
from experiments.compute.ledger import ledger
from experiments.compute.measure import answers_of, quality
from optune.config import RunConfig
from optune.loop.algorithm import RunResult, run_optune
from optune.sandbox import OTHERS, gold, preference_rows, prompts
from optune.utils.hashing import stable_hash

RIVALS = {"sop": "starts_on_policy", "vsp": "vanilla_synthetic"}  # recipes and their prompt sources
VOTED = 100  # prompts that people are asked about
PREFERENCES, PREFERENCE_PROMPTS, PREFERENCE_SEED = 50, 2048, 4242  # per family; looked through; of no build

CONTESTS = Arm(
    "contests-aop", (), probe=Probe("experiments.always_on_policy.probes:contests"), recipe="aop", seeds=(0, 3, 5)
)
AGREEMENT = Arm(
    "reward-agreement",
    (("iterations", 0), ("loss.name", "dpo"), ("selection.strategy", "all"), ("selection.ratio", 1.0)),
    probe=Probe("experiments.always_on_policy.probes:reward_agreement"),
    seeds=(0, 3, 5, 7, 9),  # one of each build
)


def contests(config: RunConfig, result: RunResult, work_dir: Path) -> dict[str, Any]:
    """Every iteration's policy against those of the recipe's baselines of the same seed, judged with A, B or C.

    `rivals`: for each, by iteration, a verdict per evaluation prompt (W, T, L or ?; none where both are one policy).
    `arms`: mean gold and the ledger's tokens of all three. `answers`: of both on-policy recipes in the second iteration
    to VOTED prompts, for people. The baselines' runs share this one's store.
    """
    runs = {"aop": result}
    with tempfile.TemporaryDirectory() as folder:
        for name, source in RIVALS.items():
            changed = config.with_overrides({"prompts.source": source})
            runs[name] = run_optune(changed, Path(folder) / name, work_dir / "stages")
    rivals = {
        name: [
            {"iteration": t, "verdicts": contest(config, ours, theirs, work_dir) if ours != theirs else None}
            for t, (ours, theirs) in enumerate(zip(result.policies, runs[name].policies, strict=True))
        ]
        for name in RIVALS
    }
    return {
        "rivals": rivals,
        "arms": {name: _spent_and_gold(config, run, work_dir) for name, run in runs.items()},
        "answers": {name: _to_vote_on(runs[name].policies[1], config, work_dir) for name in ("aop", "sop")},
    }


def contest(config: RunConfig, model: str, rival: str, work_dir: Path) -> str:
    """A verdict per evaluation prompt, in both orders, by the preset's judge asked for A, B or C."""
    judge_config = config.evaluation.judge.model_copy(update={"form": "choice"})
    ours, theirs = (answers_of(name, config, work_dir) for name in (model, rival))
    folder = work_dir / "judge" / "choice" / stable_hash(ours, theirs, judge_config.model_dump())[:20]
    win_score(ours, theirs, judge_of(judge_config), folder, allow_empty=True)
    letters = {"win": "W", "tie": "T", "lose": "L"}
    return "".join(letters.get(v.outcome, "?") for v in read_verdicts(folder).values())


def _to_vote_on(policy: str, config: RunConfig, work_dir: Path) -> list[dict[str, Any]]:
    changed = config.with_overrides({"evaluation.prompts": "sandbox:lima" if config.sandbox else "lima"})
    return answers_of(policy, changed, work_dir)[:VOTED]


def _spent_and_gold(config: RunConfig, run: RunResult, work_dir: Path) -> dict[str, Any]:
    """By iteration the mean gold (sandbox only), updates and tokens by name."""
    rows = []
    updates = {e["iteration"]: e["counts"]["updates"] for e in run.stages if e["stage"] == "train"}
    for row, policy in zip(ledger(run.stages), run.policies, strict=True):
        gold_mean = quality(policy, config, work_dir).get("gold_mean")
        tokens = {name: value for name, value in row.items() if name.startswith("tokens")}
        rows.append({**tokens, "updates": updates[row["iteration"]], "gold_mean": gold_mean})
    return {"iterations": rows}


def reward_agreement(config: RunConfig, result: RunResult, work_dir: Path) -> dict[str, Any]:
    """How often this build's reward model agrees with an annotator, by family; beside it, length and gold itself.

    50 comparisons of each family, between responses of two other writers to prompts that no reward model has seen. The
    annotator is the sandbox's: gold with the noise of its preferences. The same comparisons for every build.
    """
    rows: list[dict[str, str]] = []
    seen: dict[str, int] = {}
    for prompt in prompts("offline", PREFERENCE_PROMPTS):
        if seen.get(prompt.category, 0) < PREFERENCES:
            preferences = preference_rows(
                prompt, [w.write(prompt, seed=PREFERENCE_SEED) for w in OTHERS], 1, PREFERENCE_SEED
            )
            rows += [{**row, "category": prompt.category} for row in preferences]
            seen[prompt.category] = seen.get(prompt.category, 0) + len(preferences)
    scores = {
        "reward_model": reward_of(config.reward),
        "length": length,
        "gold": lambda rows, side: [gold(row["prompt"], row[side]) for row in rows],
    }
    return {"agreement": {name: agreement(rows, score) for name, score in scores.items()}}
