"""Counts a pair's ratings as votes: the outcome that most raters chose, or a tie if two have as many.

Every rater saw the answers in an order of their own, and `Study.outcome` turns each rating back to the first model's
win, loss or tie before votes are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.human_study.ratings import read_ratings
from eval.human_study.study import Study
from eval.stats import wilson


def vote(outcomes: Sequence[str]) -> str:
    """The outcome with the most votes; `tie` where two have as many."""
    ranked = Counter(outcomes).most_common(2)
    return ranked[0][0] if len(ranked) == 1 or ranked[0][1] > ranked[1][1] else "tie"


def votes(folder: str | Path, study: Study) -> dict[str, dict[str, Any]]:
    """By comparison: voted pairs, and the share of wins, losses and ties with 95% Wilson intervals."""
    items = {item.item_id: item for item in study.items}
    said: dict[str, list[str]] = {}
    for rating in read_ratings(folder, study):
        item = items[rating.item]
        said.setdefault(item.pair_id, []).append(study.outcome(item, rating.choice))
    voted: dict[str, Counter[str]] = {}
    for pair_id, outcomes in said.items():
        voted.setdefault(study.pairs[pair_id].comparison, Counter())[vote(outcomes)] += 1
    return {
        name: {"n": counts.total(), **{o: wilson(counts[o], counts.total()).as_dict() for o in ("win", "lose", "tie")}}
        for name, counts in voted.items()
    }
