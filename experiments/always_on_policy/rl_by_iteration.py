"""Always-On-Policy prompts with the learner that its paper has in mind: from rewards (`aop_rl`), beside pairs (`aop`).

The paper trains with PPO; here the learner from rewards is RLOO, its nearest relative in TRL. Both recipes have as many
prompts per iteration, two responses each, and the preset's learning rate, which was found for DPO: a rate of RLOO's own
was not looked for. Descriptive: three seeds of one build, which carry no verdict.
"""

from __future__ import annotations

from typing import Any

from experiments.claims.rules import OUTCOMES
from experiments.compute.arms import PREVIEW_SEEDS, Arm
from experiments.figures.figure import Data, Evidence, Figure, at_iteration, interval, shown

ARMS = {
    "from rewards (RLOO)": Arm("aop_rl", (), recipe="aop_rl", seeds=PREVIEW_SEEDS),
    "from pairs (DPO)": Arm("aop", (), recipe="aop", seeds=PREVIEW_SEEDS),
}


def collect(evidence: Evidence) -> Data:
    """By learner: win score, gold and KL to the SFT policy after every iteration, with intervals over seeds."""
    learners = {}
    for name, arm in ARMS.items():
        results = evidence.raw[arm.name]
        learners[name] = [_point(results, t) for t in range(len(results[0]["iterations"]))]
    return {"learners": learners}


def _point(results: Any, iteration: int) -> Data:
    kl = [result["iterations"][iteration]["stages"]["kl"]["kl_to_sft"] for result in results]
    return {**at_iteration(results, iteration, OUTCOMES), "kl_to_sft": interval([round(value, 6) for value in kl])}


def lines(data: Data) -> list[str]:
    """A row per learner and iteration."""
    rows = ["  learner; after iteration: win score; gold; KL to the SFT policy in nats"]
    for name, points in data["learners"].items():
        for t, point in enumerate(points):
            told = f"{shown(point['win_score'])}; {shown(point['gold_mean'], 2)}; {shown(point['kl_to_sft'], 2)}"
            rows.append(f"  {name:20s} {t}: {told}")
    return rows


FIGURE = Figure("Always-On-Policy, from rewards and from pairs", tuple(ARMS.values()), collect, None, lines)
