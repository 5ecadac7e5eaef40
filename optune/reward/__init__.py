"""Rewards r(x, y) that rank responses (line 19 of Algorithm 1), behind one contract.

    reward = Factory(settings)      # loads what it needs, once
    reward.score(prompts: Sequence[Prompt], responses: Sequence[Response], seed: int) -> list[float]

`prompts[i]` is what `responses[i]` answers; scores come back in that order. `settings` has `model`, `batch_size`,
`max_length`, `dtype`, `trust_remote_code`, `workers` (of `sequence_classifier` only), `template` (of `preference` only)
and `noise` (of `gold` and `imperfect_checker` only). `seed` matters only to noisy rewards.
"""

from __future__ import annotations

from typing import Any

from optune.config import RewardConfig
from optune.store import content_hash
from optune.utils.registry import resolve

REWARDS = {
    "sequence_classifier": "optune.reward.sequence_classifier:SequenceClassifier",
    "preference": "optune.reward.preference:Preference",
    "gold": "optune.sandbox.parts.gold_reward:Gold",
    "checker": "optune.instructions.rewards:Checker",
    "imperfect_checker": "optune.instructions.rewards:ImperfectChecker",
}
# Rewards that decide by rules, without a model: where the hash of the rules is had.
RULES = {
    "gold": "optune.sandbox:content_hash",
    "checker": "optune.instructions:content_hash",
    "imperfect_checker": "optune.instructions:content_hash",
}


def reward_key(settings: RewardConfig) -> dict[str, Any]:
    """What of `settings` can change a reward, for a stage's key: not how many processes share the work.

    Nor where the model lies: its content's hash is among the stage's inputs.
    """
    return settings.model_dump(exclude={"model", "workers"})


def reward_inputs(settings: RewardConfig) -> dict[str, str]:
    """The content of what rewards, for a stage's inputs: that of its model, or the hash of the rules it decides by."""
    if settings.kind in RULES:
        return {"reward_model": resolve(RULES, settings.kind, "reward")()}
    return {"reward_model": content_hash(settings.model)} if settings.model else {}
