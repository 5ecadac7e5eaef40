"""Rewards r(x, y) that rank responses (line 19 of Algorithm 1), behind one contract.

    reward = Factory(settings)      # loads what it needs, once
    reward.score(prompts: Sequence[Prompt], responses: Sequence[Response], seed: int) -> list[float]

`prompts[i]` is what `responses[i]` answers; scores come back in that order. `settings` has `model`, `batch_size`,
`max_length`, `dtype`, `trust_remote_code`, `workers` (of `sequence_classifier` only) and `noise` (of `gold` only).
`seed` matters only to noisy rewards.
"""

from __future__ import annotations

from typing import Any

REWARDS = {
    "sequence_classifier": "optune.reward.sequence_classifier:SequenceClassifier",
    "gold": "optune.sandbox.parts.gold_reward:Gold",
}


def identity(settings: Any) -> dict[str, Any]:
    """What of `settings` can change a reward, for a stage's key: not how many processes share the work.

    Nor where the model lies: its content's hash is among the stage's inputs.
    """
    return settings.model_dump(exclude={"model", "workers"})
