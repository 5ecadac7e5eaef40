"""Seconds and tokens to ratio 1's final score: the rule, on made-up results whose answer is known."""

from __future__ import annotations

import pytest

from experiments.report.economy import FULL, economy, soonest


def result(scores, tokens):
    """A run with these win scores (gold alike) and tokens; a token, a reward and a pair cost 1, 2 and 3 seconds."""
    points, ledger = [], []
    for score, count in zip(scores, tokens, strict=True):
        stages = {"generate": {"tokens": count}, "score": {"rewards": 2}, "pairs": {"pairs": 4}}
        points.append({"win_score": score, "gold_mean": score / 10, "stages": stages})
        ledger.append({"generation_s": count, "rewarding_s": 4.0, "training_s": 12.0})
    return {"seed": 0, "iterations": points, "timing": {"ledger": ledger}}


FULL_RUN = result([50, 60, 70], [100, 100, 100])  # 348 seconds, 300 tokens


def test_an_arm_pays_until_it_is_where_ratio_1_ends():
    raw = {
        FULL: [FULL_RUN],
        "soon": [result([50, 71, 60], [100, 50, 50])],
        "never": [result([50, 60, 69], [100, 0, 0])],
    }
    soon, never = economy(raw)
    assert soon["reached"] == 1 and soon["tokens"] == pytest.approx(150 / 300)
    assert soon["seconds"] == pytest.approx((150 + 2 * 16) / 348) and soon["ahead"] == -10
    assert never["reached"] is None and never["tokens"] == pytest.approx(100 / 300)  # to its own end
    assert soonest([soon, never]) == soon and soonest([never]) is None


def test_both_outcomes_must_be_there():
    richer = result([50, 71, 72], [100, 50, 50])
    for point in richer["iterations"]:
        point["gold_mean"] = 1.0
    (row,) = economy({FULL: [FULL_RUN], "arm": [richer]})
    assert row["reached"] is None
