"""Rewards r(x, y) that rank responses (line 19 of Algorithm 1), behind one contract.

    reward = Factory(settings)      # loads what it needs, once
    reward.score(prompts: Sequence[Prompt], responses: Sequence[Response], seed: int) -> list[float]

`prompts[i]` is what `responses[i]` answers; scores come back in that order. `settings` has `model`, `batch_size`,
`max_length`, `dtype`, `trust_remote_code`, `workers` (of `sequence_classifier` only) and `noise` (of `gold` and
`imperfect_checker` only). `seed` matters only to noisy rewards.
"""

from __future__ import annotations

from typing import Any

from optune.utils.registry import resolve

REWARDS = {
    "sequence_classifier": "optune.reward.sequence_classifier:SequenceClassifier",
    "gold": "optune.sandbox.parts.gold_reward:Gold",
    "checker": "optune.instructions.rewards:Checker",
    "imperfect_checker": "optune.instructions.rewards:ImperfectChecker",
}
RULES = {
    "gold": "optune.sandbox:content_hash",
    "checker": "optune.instructions:content_hash",
    "imperfect_checker": "optune.instructions:content_hash",
}
"""The hash of the rules by which a reward without a model decides."""


def rules_hash(settings: Any) -> str | None:
    """The content hash of a reward's rules; None where a model decides."""
    return resolve(RULES, settings.kind, "reward")() if settings.kind in RULES else None


def identity(settings: Any) -> dict[str, Any]:
    """What of `settings` can change a reward, for a stage's key: not how many processes share the work.

    Nor where the model lies: its content's hash is among the stage's inputs.
    """
    return settings.model_dump(exclude={"model", "workers"})
