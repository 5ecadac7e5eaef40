"""What held-out rows tell about a trained model: agreement with its interval, calibration, and the same by category."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

BINS = 5  # of the calibration table, over probabilities from 0.5 to 1
RESAMPLES = 2000


def agreement(agrees: Sequence[bool], keys: Sequence[str]) -> dict[str, Any]:
    """The share of rows that agree, with Wilson's 95% interval for as many draws as there are prompts.

    keys: each row's prompt. Rows of one prompt are not independent, so that only prompts count as draws: with one row
    a prompt this is the usual interval, else a wider one.
    """
    share, prompts = float(np.mean(agrees)), len(set(keys))
    low, high = wilson(share, prompts)
    return {"rows": len(agrees), "prompts": prompts, "share": share, "low": low, "high": high}


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share of `n` draws."""
    z = 1.959964
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def difference(ours: Sequence[bool], theirs: Sequence[bool], keys: Sequence[str]) -> dict[str, float]:
    """Mean of `ours` minus mean of `theirs` on the same rows, with a 95% bootstrap interval over prompts."""
    gaps = pd.DataFrame({"key": keys, "gap": np.subtract(ours, theirs, dtype=float)})
    sums = gaps.groupby("key")["gap"].agg(["sum", "size"]).to_numpy()
    drawn = np.random.default_rng(0).integers(len(sums), size=(RESAMPLES, len(sums)))
    totals = sums[drawn].sum(axis=1)  # (resamples, 2): summed gaps, rows
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [0.025, 0.975])
    return {"mean": float(gaps["gap"].mean()), "low": float(low), "high": float(high)}


def preference_measures(gaps: Sequence[float], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Agreement of a reward with preferences, beside that of length alone.

    gaps: r(x, y_w) - r(x, y_l) of each row. A row with equal rewards, or with answers of equal length, does not agree.
    """
    keys = [row["key"] for row in rows]
    longer = [len(row["chosen"]) > len(row["rejected"]) for row in rows]
    agrees = [gap > 0 for gap in gaps]
    found = {
        "agreement": agreement(agrees, keys),
        "agreement_of_length_alone": agreement(longer, keys),
        "agreement_minus_length_alone": difference(agrees, longer, keys),
        "where_chosen_is_longer": _subset(agrees, keys, longer),
        "where_chosen_is_not_longer": _subset(agrees, keys, [not value for value in longer]),
        "margin_mean": float(np.mean(gaps)),
        "calibration": calibration(gaps),
        "by_category": {},
    }
    for name in sorted({row["category"] for row in rows} - {""}):
        found["by_category"][name] = _subset(agrees, keys, [row["category"] == name for row in rows])
    scores = [(row["score_chosen"], row["score_rejected"]) for row in rows]
    if all(None not in pair for pair in scores):
        found["rank_correlation_with_score_gap"] = _spearman(gaps, [a - b for a, b in scores])
    return found


def calibration(gaps: Sequence[float]) -> dict[str, Any]:
    """Whether sigma(gap), the probability of Eq. 1, is how often the preferred answer is the one with more reward.

    loss: -log sigma(gap), mean. error: mean distance of a bin's probability from its share of agreements, weighted by
    rows (expected calibration error). bins: of the probability that a row's higher reward is right, from 0.5 to 1.
    """
    gaps = np.asarray(gaps, dtype=float)
    probability = 1 / (1 + np.exp(-np.abs(gaps)))
    places = np.minimum(((probability - 0.5) * 2 * BINS).astype(int), BINS - 1)
    bins, error = [], 0.0
    for place in np.unique(places):
        here = places == place
        told, right = float(probability[here].mean()), float((gaps[here] > 0).mean())
        bins.append({"rows": int(here.sum()), "probability": told, "agreement": right})
        error += here.mean() * abs(told - right)
    return {"loss": float(np.logaddexp(0, -gaps).mean()), "error": float(error), "bins": bins}


def _subset(agrees: Sequence[bool], keys: Sequence[str], where: Sequence[bool]) -> dict[str, Any] | None:
    """`agreement` of the rows in a mask; None where it has none."""
    chosen = [(agree, key) for agree, key, inside in zip(agrees, keys, where, strict=True) if inside]
    return agreement([agree for agree, _ in chosen], [key for _, key in chosen]) if chosen else None


def _spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """None where one of them does not vary."""
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return float(np.corrcoef(pd.Series(x).rank(), pd.Series(y).rank())[0, 1])
