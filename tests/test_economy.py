"""Seconds and tokens to ratio 1's final score: the rule, on made-up results whose answer is known."""

from __future__ import annotations

import pytest

from experiments.development.economy import ARMS, FULL, KEPT, SEARCHED, STATIC, economy, search, soonest
from experiments.report.economy import kept


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
    assert soon["seconds"] == pytest.approx((150 + 2 * 16) / 348) and soon["ahead"] == -10 and soon["leads"] == [-10]
    assert never["reached"] is None and never["tokens"] == pytest.approx(100 / 300)  # to its own end
    assert soonest([soon, never]) == soon and soonest([never]) is None


def test_what_no_selection_saves_is_told_of_ratio_1():
    (row,) = economy({FULL: [FULL_RUN], "arm": [result([50, 71, 60], [100, 50, 50])]})
    assert row["training"] == pytest.approx(36 / 348) and row["iteration_0"] == pytest.approx(100 / 300)


def test_of_several_seeds_each_has_its_own_share_and_the_pooled_one_lies_between():
    runs = [result([50, 71, 60], [100, count, 50]) for count in (20, 80)]
    (row,) = economy({FULL: [FULL_RUN, FULL_RUN], "arm": runs})
    assert row["by_seed"]["tokens"] == pytest.approx([120 / 300, 180 / 300])
    assert row["tokens"] == pytest.approx(150 / 300) and row["seeds"] == 2


def test_both_outcomes_must_be_there():
    richer = result([50, 71, 72], [100, 50, 50])
    for point in richer["iterations"]:
        point["gold_mean"] = 1.0
    (row,) = economy({FULL: [FULL_RUN], "arm": [richer]})
    assert row["reached"] is None


def test_the_soonest_candidate_is_chosen_and_static_pairs_are_none():
    raw = {one.name: [result([50, 60, 69], [100, 50, 50])] for one in ARMS}
    raw[FULL], raw[STATIC.name] = [FULL_RUN], [result([71, 72, 73], [100, 0, 0])]
    best_end, sooner = SEARCHED[1].name, SEARCHED[3].name
    raw[best_end] = [result([50, 60, 69.5], [100, 50, 50])]
    assert search(raw)["chosen"] == best_end  # nobody gets there
    raw[best_end], raw[sooner] = [result([50, 60, 90], [100, 50, 50])], [result([50, 70, 40], [100, 50, 50])]
    assert search(raw)["chosen"] == sooner


def test_training_on_fewer_pairs_is_compared_at_equal_iterations_updates_and_seconds():
    raw = {one.name: [FULL_RUN] for one in ARMS}
    half = [result([50, 60, 71, 73], [100, 100, 100, 100])]
    for point in half[0]["iterations"][1:]:
        point["stages"]["pairs"]["pairs"] = 2.6  # 4 + 3 x 2.6 are nearer to the 12 of three iterations than 4 + 2 x 2.6
    raw[KEPT["half"].name] = half
    rows = [line for line in kept(search(raw)["arms"]) if line.startswith("| half")]
    assert rows == ["| half | +1.0 (+0.10), iteration 2 | +3.0 (+0.30), iteration 3 | +1.0 (+0.10), iteration 2 |"]
