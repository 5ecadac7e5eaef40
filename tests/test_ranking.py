"""The k lowest: the same as sorting everything, whatever the ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optune.utils.ranking import lowest, lowest_set, ranking

SCORES = st.lists(st.sampled_from([-1.5, -0.0, 0.0, 2.0, float("inf"), float("nan")]), max_size=30)


def tie_break(places: np.ndarray) -> np.ndarray:
    return (places * 7919 + 13) % 101


@settings(deadline=None)
@given(SCORES, st.integers(0, 31))
def test_the_lowest_are_the_first_of_the_whole_ranking(scores, k):
    score = np.array(scores, dtype=float)
    expected = np.lexsort((tie_break(np.arange(len(score))), score))
    assert ranking(score, tie_break).tolist() == expected.tolist()
    assert lowest(score, k, tie_break).tolist() == expected[:k].tolist()
    assert lowest_set(score, k, tie_break).tolist() == sorted(expected[:k].tolist())


def test_ties_are_looked_at_only_where_they_matter():
    asked: list[int] = []

    def counting(places: np.ndarray) -> np.ndarray:
        asked.extend(places.tolist())
        return places

    assert lowest(np.array([3.0, 1.0, 2.0, 2.0, 0.0]), 2, counting).tolist() == [4, 1] and not asked
    assert lowest(np.array([3.0, 1.0, 2.0, 2.0, 0.0]), 3, counting).tolist() == [4, 1, 2] and asked == [2, 3]


@pytest.mark.parametrize("n", [1000, 100_000])
def test_the_set_holds_arrays_of_the_scores_length_and_no_objects(n):
    import tracemalloc

    score = np.random.default_rng(0).normal(size=n)
    tracemalloc.start()
    lowest_set(score, n // 2, tie_break)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * n + 10_000  # a copy of the scores, the places, and masks
