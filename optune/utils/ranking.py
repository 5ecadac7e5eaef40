"""The k lowest of many scores: as a set in linear time, or in order by sorting that set alone.

Ties are broken by a number per place, which is computed only for tied places. NaN ranks after all numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# (places,) int -> a number for each that decides between equal scores, the lower one first.
TieBreak = Callable[[np.ndarray], np.ndarray]


def lowest_set(score: np.ndarray, k: int, tie_break: TieBreak) -> np.ndarray:
    """The places (k,) of the `k` lowest of `score` (n,), in ascending order of place."""
    if k >= len(score):
        return np.arange(len(score))
    if k <= 0:
        return np.arange(0)
    limit = np.partition(score, k - 1)[k - 1]
    inside, at_limit = (score < limit, score == limit) if limit == limit else (score == score, score != score)
    tied = np.flatnonzero(at_limit)
    missing = k - np.count_nonzero(inside)
    if missing < len(tied):
        number = tie_break(tied)
        tied = tied[np.argsort(number, kind="stable")[:missing]]
    inside[tied] = True
    return np.flatnonzero(inside)


def ranking(score: np.ndarray, tie_break: TieBreak) -> np.ndarray:
    """All places of `score` (n,), in ascending order of score, then of `tie_break`, then of place."""
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    same = (ordered[1:] == ordered[:-1]) | ((ordered[1:] != ordered[1:]) & (ordered[:-1] != ordered[:-1]))
    tied = np.flatnonzero(np.r_[same, False] | np.r_[False, same])
    if len(tied):
        places = order[tied]
        order[tied] = places[np.lexsort((tie_break(places), score[places]))]
    return order


def lowest(score: np.ndarray, k: int, tie_break: TieBreak) -> np.ndarray:
    """The first `k` of `ranking`, without ranking the others."""
    chosen = lowest_set(score, k, tie_break)
    return chosen[ranking(score[chosen], lambda places: tie_break(chosen[places]))]
