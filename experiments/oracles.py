"""Rankings by gold, which only a sandbox knows. They tell a failing premise from a failing reward model."""

from __future__ import annotations

import numpy as np

from optune.history import HistoryView
from optune.sandbox import gold


def lowest_gold(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """The prompts whose preferred response has the lowest *gold* quality; training sees the reward model alone."""
    quality = [gold(p, r) for p, r in zip(view.prompt_texts, view.preferred_text, strict=True)]
    return view.ranked_by(np.array(quality))[:k]
