"""Statistics of the evaluations. All draws are seeded and use no global state, so results are reproducible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 10_000
_CELLS = 4_000_000  # resampled values held at once


@dataclass(frozen=True)
class Interval:
    """An estimate between two confidence limits, at `level`."""

    estimate: float
    low: float
    high: float
    level: float = 0.95

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def bootstrap_mean(values: ArrayLike, *, seed: int = 0, level: float = 0.95, resamples: int = RESAMPLES) -> Interval:
    """Percentile bootstrap interval of a mean over independent units (prompts).

    values: shape (n,), n >= 2. Paired differences go in as they are. A resample of n units is a multinomial draw of
    how often each distinct value occurs; for verdicts (three values) that is far less work than drawing units.
    """
    values = _vector(values)
    if len(values) < 2:
        raise ValueError("a bootstrap needs at least two values")
    distinct, counts = np.unique(values, return_counts=True)
    n = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _CELLS // len(distinct))
    for start in range(0, resamples, step):
        drawn = rng.multinomial(n, counts / n, size=min(step, resamples - start))
        means[start : start + step] = drawn @ distinct / n
    return _percentiles(float(values.mean()), means, level)


def bootstrap_ratio(
    totals: ArrayLike, sizes: ArrayLike, *, seed: int = 0, level: float = 0.95, resamples: int = RESAMPLES
) -> Interval:
    """Percentile bootstrap interval of sum(totals) / sum(sizes), units resampled with both of their numbers.

    totals, sizes: shape (n,), n >= 2, sizes positive. For means over parts of units, such as games of a question.
    """
    both = np.stack([_vector(totals), _vector(sizes)], axis=1)
    if len(both) < 2 or both[:, 1].min() <= 0:
        raise ValueError("a bootstrap of a ratio needs at least two units, each of positive size")
    distinct, counts = np.unique(both, axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(both), counts / len(both), size=resamples) @ distinct
    return _percentiles(float(both[:, 0].sum() / both[:, 1].sum()), drawn[:, 0] / drawn[:, 1], level)


def paired_bootstrap(a: ArrayLike, b: ArrayLike, **options: float) -> Interval:
    """Bootstrap interval of mean(a - b), units resampled in pairs. a, b: shape (n,), unit by unit."""
    a, b = _vector(a), _vector(b)
    if a.shape != b.shape:
        raise ValueError(f"paired values need the same units: {len(a)} and {len(b)}")
    return bootstrap_mean(a - b, **options)


def crossed_bootstrap(values: ArrayLike, *, seed: int = 0, level: float = 0.95, resamples: int = RESAMPLES) -> Interval:
    """Percentile bootstrap of a grand mean, rows (seeds) and columns (prompts) resampled independently.

    values: shape (seeds, prompts), both at least 2.
    """
    matrix = np.asarray(values, dtype=float)
    if matrix.ndim != 2 or min(matrix.shape) < 2:
        raise ValueError(f"a crossed bootstrap needs at least two seeds and two prompts, not shape {matrix.shape}")
    rng = np.random.default_rng(seed)
    rows, columns = matrix.shape
    row_weights = rng.multinomial(rows, np.full(rows, 1 / rows), size=resamples) / rows
    means = np.empty(resamples)
    step = max(1, _CELLS // columns)
    for start in range(0, resamples, step):
        part = row_weights[start : start + step]
        column_weights = rng.multinomial(columns, np.full(columns, 1 / columns), size=len(part)) / columns
        means[start : start + step] = ((part @ matrix) * column_weights).sum(axis=1)
    return _percentiles(float(matrix.mean()), means, level)


def t_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Student's t interval of a mean over few independent units (seeds). values: shape (n,), n >= 2."""
    values = _vector(values)
    if len(values) < 2:
        raise ValueError("a t interval needs at least two values")
    mean, error = float(values.mean()), float(stats.sem(values))
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * error
    return Interval(mean, mean - half, mean + half, level)


def prediction_interval(
    values: ArrayLike, *, draws: int = 1, units: int | None = None, level: float = 0.95
) -> Interval:
    """Student's t interval for the mean of `draws` further independent draws.

    values: shape (n,), n >= 2. units: how many of the n values count as independent (n, unless it is given).
    """
    values = _vector(values)
    if len(values) < 2:
        raise ValueError("a prediction interval needs at least two values")
    spread = float(values.std(ddof=1)) * (1 / draws + 1 / (units or len(values))) ** 0.5
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * spread
    mean = float(values.mean())
    return Interval(mean, mean - half, mean + half, level)


def t_test(values: ArrayLike) -> float:
    """Two-sided p of a one-sample t test against 0; 1 where all values are 0, 0 where all are equal and not 0."""
    values = _vector(values)
    if np.ptp(values) == 0:
        return 1.0 if values[0] == 0 else 0.0
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def below(values: ArrayLike, limit: float) -> float:
    """p of a one-sided t test that the mean lies below `limit`. values: shape (n,)."""
    values = _vector(values)
    if np.ptp(values) == 0:
        return 0.0 if values[0] < limit else 1.0
    return float(stats.ttest_1samp(values, limit, alternative="less").pvalue)


def equivalence(values: ArrayLike, margin: float) -> float:
    """Two one-sided t tests that the mean lies within (-margin, margin): the larger p. values: shape (n,)."""
    values = _vector(values)
    if margin <= 0:
        raise ValueError(f"the margin must be positive, not {margin}")
    if np.ptp(values) == 0:
        return 0.0 if abs(values[0]) < margin else 1.0
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    return float(max(above, below))


def sign_test(differences: ArrayLike) -> float:
    """Two-sided exact sign test. Zeros are left out. differences: shape (n,)."""
    differences = np.asarray(differences, dtype=float)
    return exact_binomial(int((differences > 0).sum()), int((differences < 0).sum()))


def mcnemar(a: ArrayLike, b: ArrayLike) -> float:
    """Exact McNemar test of two yes/no outcomes on the same units. a, b: boolean, shape (n,)."""
    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    return exact_binomial(int((a & ~b).sum()), int((b & ~a).sum()))


def exact_binomial(first: int, second: int) -> float:
    """Two-sided p of `first` against `second` counts when both are equally likely; 1 without any."""
    return float(stats.binomtest(first, first + second).pvalue) if first + second else 1.0


def wilson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Wilson's interval of a share; n >= 1."""
    limits = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    return Interval(successes / n, float(limits.low), float(limits.high), level)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    result = np.empty_like(adjusted)
    result[order] = adjusted
    return result.tolist()


def smallest_detectable(values: ArrayLike, *, power: float = 0.8, level: float = 0.95) -> float:
    """The mean that a two-sided t test at this n and variance detects with probability `power` (approximate)."""
    values = _vector(values)
    freedom = len(values) - 1
    quantiles = stats.t.ppf((1 + level) / 2, freedom) + stats.t.ppf(power, freedom)
    return float(quantiles * stats.sem(values))


def _percentiles(estimate: float, resampled: NDArray[np.float64], level: float) -> Interval:
    tail = (1 - level) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high), level)


def _vector(values: ArrayLike) -> NDArray[np.float64]:
    vector = np.asarray(values, dtype=float)
    if vector.ndim != 1 or len(vector) == 0 or not np.isfinite(vector).all():
        raise ValueError(f"expected finite numbers of shape (n,), n >= 1, not shape {vector.shape}")
    return vector
