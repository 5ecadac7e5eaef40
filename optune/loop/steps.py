"""The steps of Algorithm 1 as data: what Figure 1 is drawn from. `algorithm.py` calls them in this order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoopStep:
    """One call of the loop. lines: of Algorithm 1. reads, writes: variables of the loop. files: in the stage's folder.

    parts: keys of `parts.PARTS`, the options that swap what the step does.
    """

    name: str
    lines: str = ""
    note: str = ""
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


STEPS = (
    LoopStep(
        "prompts",
        note="P_t",
        reads=("policy", "history"),
        writes=("prompts",),
        files=("prompts.parquet",),
        parts=("source",),
    ),
    LoopStep(
        "select",
        "4-7, 10",
        reads=("prompts", "history"),
        writes=("selected",),
        files=("selected.json",),
        parts=("strategy",),
    ),
    LoopStep(
        "generate",
        "8-9",
        reads=("policy", "prompts", "selected"),
        writes=("responses",),
        files=("responses.parquet",),
        parts=("engine",),
    ),
    LoopStep(
        "score",
        "19",
        note="fresh responses only",
        reads=("prompts", "responses"),
        writes=("scored",),
        files=("history.parquet", "raw_rewards.json"),
        parts=("reward",),
    ),
    LoopStep(  # no stage: an append
        "history", "12-18, 21", note="the rest is reused", reads=("scored", "history"), writes=("history",)
    ),
    LoopStep(
        "pairs",
        "20",
        reads=("prompts", "history"),
        writes=("pairs",),
        files=("pairs.parquet",),
        parts=("pairing",),
    ),
    LoopStep(
        "train",
        "22, Eq. 6",
        reads=("start", "policy", "sft", "reference", "prompts", "pairs", "history"),
        writes=("trained", "policy"),
        parts=("loss", "learner"),
    ),
    LoopStep(
        "kl",
        note="not the paper's: how far the policy has gone",
        reads=("sft", "policy", "prompts"),
        parts=("engine",),
    ),
)
# RLHF Workflow's: the best of the policies is the result.
VALIDATE = LoopStep("validate", reads=("policy",), files=("answers.parquet",), parts=("engine", "reward"))
# Ours: what nobody trains on, measured on the same answers.
OUTCOME = LoopStep("outcome", files=("outcomes.parquet",))


def carried(steps: tuple[LoopStep, ...] = STEPS) -> list[str]:
    """What an iteration reads before it writes it, in the order of first reading: handed on from the one before."""
    written: set[str] = set()
    handed_on: list[str] = []
    for step in steps:
        handed_on += [name for name in step.reads if name not in written and name not in handed_on]
        written |= set(step.writes)
    return [name for name in handed_on if name in written]
