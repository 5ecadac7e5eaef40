"""Noisy preferences sampled from gold quality: all that the reward model and the offline baseline ever see of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from optune.sandbox.gold import gold
from optune.sandbox.prompts import stable_rng
from optune.types import Prompt

SHARPNESS = 2.0
"""Bradley-Terry scale per gold point: an answer better by 1 is preferred in 88% of comparisons."""
INDIFFERENCE = 0.1
"""Gold gaps below this are ties; an annotator gives no preference."""


def prefers_first(prompt: Prompt, first: str, second: str, seed: int = 0) -> bool | None:
    """Whether an annotator prefers `first`: true with probability sigmoid(SHARPNESS * gold gap); None at a tie."""
    gap = gold(prompt.text, first) - gold(prompt.text, second)
    if abs(gap) < INDIFFERENCE:
        return None
    rng = stable_rng("preference", seed, prompt.text, first, second)
    return rng.random() < 1 / (1 + math.exp(-SHARPNESS * gap))


def preference_rows(prompt: Prompt, responses: Sequence[str], limit: int, seed: int = 0) -> list[dict[str, str]]:
    """At most `limit` comparisons among the responses to a prompt, in the columns `prompt`, `chosen`, `rejected`.

    Identical responses and ties give no row.
    """
    rng = stable_rng("comparisons", seed, prompt.text)
    rows = []
    for first, second in rng.sample(pairs := list(itertools.combinations(dict.fromkeys(responses), 2)), len(pairs)):
        verdict = prefers_first(prompt, first, second, seed)
        if verdict is not None:
            chosen, rejected = (first, second) if verdict else (second, first)
            rows.append({"prompt": prompt.text, "chosen": chosen, "rejected": rejected})
        if len(rows) == limit:
            break
    return rows
