"""Rewards r(x, y) that rank responses (line 19 of Algorithm 1), behind one contract.

    reward = Factory(settings)      # loads what it needs, once
    reward.score(prompts: Sequence[Prompt], responses: Sequence[Response], seed: int) -> list[float]

`prompts[i]` is what `responses[i]` answers; scores come back in that order. `settings` has `model`, `batch_size`,
`max_length`, `dtype`, `trust_remote_code` and `noise` (the last for `gold` only). `seed` matters only to noisy rewards.
"""

REWARDS = {
    "sequence_classifier": "optune.reward.sequence_classifier:SequenceClassifier",
    "gold": "optune.reward.gold:Gold",
}
