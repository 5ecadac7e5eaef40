"""Noisy preferences sampled from gold quality: all that a reward model and the offline baseline ever see of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from random import Random

from optune.instructions.prompts import stable_int
from optune.types import Prompt

SHARPNESS = 2.0
"""Bradley-Terry scale per gold point: an answer better by 1 is preferred in 88% of comparisons."""
INDIFFERENCE = 0.1
"""Gold gaps below this are ties; an annotator gives no preference."""


def preference_rows(
    prompt: Prompt, answers: Sequence[str], golds: Sequence[float], limit: int, seed: int = 0
) -> list[dict[str, str]]:
    """At most `limit` comparisons among the answers to a prompt, in the columns `prompt`, `chosen`, `rejected`.

    golds: quality of the answer at the same place. The better one is chosen with probability
    sigmoid(SHARPNESS * gold gap). Identical answers and ties give no row.
    """
    known = dict(zip(answers, golds, strict=True))
    pairs = list(itertools.combinations(known, 2))
    Random(stable_int("comparisons", seed, prompt.text)).shuffle(pairs)
    rows = []
    for first, second in pairs:
        gap = known[first] - known[second]
        if abs(gap) < INDIFFERENCE:
            continue
        draw = Random(stable_int("preference", seed, prompt.text, first, second)).random()
        first_wins = draw < 1 / (1 + math.exp(-SHARPNESS * gap))
        chosen, rejected = (first, second) if first_wins else (second, first)
        rows.append({"prompt": prompt.text, "chosen": chosen, "rejected": rejected})
        if len(rows) == limit:
            break
    return rows
