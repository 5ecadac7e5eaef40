"""The statistics are seeded, exact where they can be, and have the coverage they claim."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval import stats


def test_the_same_inputs_give_the_same_digits_whatever_the_global_state():
    values = np.random.default_rng(0).normal(size=50)
    np.random.seed(1)
    first = stats.bootstrap_mean(values, seed=3)
    np.random.seed(2)
    assert stats.bootstrap_mean(values, seed=3) == first != stats.bootstrap_mean(values, seed=4)


def test_the_bootstrap_agrees_with_the_normal_interval_on_many_values():
    values = np.random.default_rng(0).normal(size=1000)
    found = stats.bootstrap_mean(values)
    half = 1.96 * values.std() / 1000**0.5
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [stats.bootstrap_mean(rng.choice([-1, 0, 1], 100), seed=i, resamples=300) for i in range(200)]
    assert 0.89 <= np.mean([i.low <= 0 <= i.high for i in found]) <= 0.99


def test_pairing_removes_what_both_share():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=300, scale=10)
    a, b = shared + 1 + rng.normal(size=300) * 0.1, shared
    paired = stats.paired_bootstrap(a, b)
    assert 0.9 < paired.low < 1 < paired.high + 0.05 < 1.1
    with pytest.raises(ValueError, match="same units"):
        stats.paired_bootstrap(a, b[:-1])


def test_the_t_interval_by_hand():
    found = stats.t_interval([1, 2, 3])
    assert (found.estimate, found.low, found.high) == pytest.approx((2, 2 - 2.484138, 2 + 2.484138), abs=1e-5)
    with pytest.raises(ValueError, match="two values"):
        stats.t_interval([1])


def test_the_t_test_agrees_with_its_interval():
    values = [0.2, 1.1, 0.4, 0.9]
    assert (stats.t_test(values) < 0.05) == (stats.t_interval(values).low > 0)
    assert stats.t_test([0, 0]) == 1 and stats.t_test([1, 1]) == 0


def test_sign_and_mcnemar_tests_by_hand():
    assert stats.sign_test([1, 1, 1, 1, 1, 0, 0]) == pytest.approx(2 / 2**5)
    assert stats.sign_test([0, 0]) == 1
    assert stats.exact_binomial(13, 8) == pytest.approx(0.3833, abs=1e-4)
    a, b = [1] * 6 + [0] * 4, [0] * 6 + [0] * 4
    assert stats.mcnemar(a, b) == pytest.approx(2 / 2**6)


def test_holm_by_hand():
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.9, 0.8]) == [1, 1] and stats.holm([]) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_value_nor_changes_the_order(p):
    adjusted = stats.holm(p)
    assert all(b >= a for a, b in zip(p, adjusted, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_equivalence_needs_a_small_mean_and_a_small_error():
    rng = np.random.default_rng(0)
    near = rng.normal(size=10) * 0.1
    assert stats.equivalence(near, 1) < 0.01
    assert stats.equivalence(near + 2, 1) > 0.99
    assert stats.equivalence(rng.normal(size=10) * 10, 1) > 0.05
    assert stats.equivalence([0.5, 0.5], 1) == 0


def test_the_crossed_bootstrap_is_wider_where_seeds_differ():
    rng = np.random.default_rng(0)
    prompts = rng.normal(size=(1, 50))
    noise = rng.normal(size=(8, 50)) * 0.1
    seeds = rng.normal(size=(8, 1))
    width = lambda i: i.high - i.low  # noqa: E731
    assert width(stats.crossed_bootstrap(prompts + noise + seeds)) > 2 * width(stats.crossed_bootstrap(prompts + noise))
    assert stats.crossed_bootstrap(prompts + noise) == stats.crossed_bootstrap(prompts + noise)


def test_the_smallest_detectable_effect_is_found_with_its_power():
    rng = np.random.default_rng(0)
    values = rng.normal(size=10)
    values = (values - values.mean()) / values.std(ddof=1)
    effect = stats.smallest_detectable(values)
    found = np.mean([stats.t_test(rng.normal(size=10) + effect) < 0.05 for _ in range(400)])
    assert 0.7 < found < 0.9


def test_numbers_that_are_none_are_refused():
    for values in ([], [float("nan")], [[1, 2]], [1]):
        with pytest.raises(ValueError, match=r"finite numbers|two values"):
            stats.bootstrap_mean(values)
