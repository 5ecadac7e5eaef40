"""Results of another processor: the same recipe is consistent, another one is not, and equal bits are reproduced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eval.stats import prediction_interval
from experiments.compute import run_arms
from experiments.compute import setting as setting_module
from experiments.compute.arms import REPORT_SEEDS, Arm
from experiments.compute.consistency import LEVEL, compare, verdict
from experiments.compute.results import committed_results, raw_path
from experiments.compute.setting import Setting
from optune.utils.files import read_json, write_json
from tests.test_experiments import result

ARM = "wdpo-all-1.0"
ROOT = Path(__file__).resolve().parents[1]


def drawn(seeds, mean: float = 65.0, spread: float = 1.5, rng_seed: int = 0) -> list[dict]:
    """Raw results of one arm: a draw around `mean` for every seed."""
    rng = np.random.default_rng(rng_seed)
    return [result(ARM, seed, mean + rng.normal(0, spread)) for seed in seeds]


def test_the_interval_holds_further_draws_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(4000):
        values = rng.normal(3, 2, 10)
        interval = prediction_interval(values, draws=3, level=0.9)
        inside += interval.low <= rng.normal(3, 2, 3).mean() <= interval.high
    assert inside / 4000 == pytest.approx(0.9, abs=0.02)


def test_the_interval_by_hand():
    """Mean 2, s 1, t(2) at 95% is 4.3027: one further draw is within 4.3027 * sqrt(1 + 1/3)."""
    interval = prediction_interval([1.0, 2.0, 3.0])
    assert interval.high - 2 == pytest.approx(4.3027 * np.sqrt(4 / 3), rel=1e-4)
    fewer = prediction_interval([1.0, 2.0, 3.0], units=1)
    assert fewer.high - 2 == pytest.approx(4.3027 * np.sqrt(2), rel=1e-4)


def test_other_draws_by_the_same_recipe_are_consistent():
    committed = drawn(REPORT_SEEDS)
    for other in range(1, 101):
        assert verdict(compare(drawn((0, 1, 2), rng_seed=other), committed)).startswith("consistent (win score 6")


@pytest.mark.parametrize("mean", [45.0, 85.0])
def test_another_recipe_differs_and_its_worst_outcome_is_named(mean):
    told = verdict(compare(drawn((0, 1, 2), mean), drawn(REPORT_SEEDS)))
    assert told.startswith("differs (") and "outside [" in told and "iteration " in told


def test_an_outcome_that_fails_in_one_iteration_alone_is_seen():
    mine = drawn((0, 1, 2), rng_seed=1)
    for raw in mine:
        raw["iterations"][1]["gold_mean"] = 0.9
    assert "gold 0.90 outside" in verdict(compare(mine, drawn(REPORT_SEEDS)))


def test_seeds_of_one_build_count_as_one_draw():
    committed = drawn(REPORT_SEEDS)
    one_build, three_builds = (compare(drawn(seeds), committed)[3] for seeds in ((0, 1, 2), (0, 3, 5)))
    assert one_build.high - one_build.low > three_builds.high - three_builds.low


def test_too_few_committed_seeds_prove_nothing():
    assert verdict(compare(drawn((0,)), drawn((0, 1, 2)))).startswith("differs (fewer than 5 committed seeds")
    assert verdict(compare([], drawn(REPORT_SEEDS))).startswith("differs")


@pytest.mark.parametrize(
    ("arm", "elsewhere"),
    [("dpo-all-1.0", "equal-vanilla"), ("wdpo-lowest_reward-0.5+iterations=6", "equal-optune")],
)
def test_what_two_machines_made_of_one_recipe_is_consistent(arm, elsewhere):
    """The recipes' comparison computed vanilla and OPTune anew on another machine: that is the case in question."""
    first, second = (committed_results(ROOT / "results", "tiny", name) for name in (arm, elsewhere))
    assert len(first) == len(second) == 10 and first[0]["baseline"]["gold"] != second[0]["baseline"]["gold"]
    for seeds in ((0, 1, 2), REPORT_SEEDS):
        own = [raw for raw in second if raw["seed"] in seeds]
        assert all(one.consistent for one in compare(own, first)), seeds
    assert LEVEL == 0.999


# --- what `make fig3` prints ---


@pytest.fixture
def told(tmp_path, monkeypatch, capsys) -> Callable[[list[dict], list[dict]], tuple[dict[str, str], str]]:
    """`_report` of made-up results of this machine beside made-up committed ones: its states, and what it printed."""
    monkeypatch.setattr(run_arms, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(setting_module, "RESULTS", tmp_path / "results")
    setting = Setting("tiny", runs=tmp_path / "runs")
    names = {setting.base: "loom", tmp_path / "results": "abacus"}

    def report(mine, committed, new=frozenset()):
        for place, results in ((setting.base, mine), (tmp_path / "results", committed)):
            for raw in results:
                raw["timing"] = {"machine": {"cpu": names[place], "cores": 2}}
                write_json(raw_path(place, "tiny", ARM, raw["seed"]), raw)
        seeds = [raw["seed"] for raw in mine]
        outcome = run_arms._report(setting, [Arm(ARM, ())], seeds, set(new))
        return outcome, capsys.readouterr().out

    return report


def test_bit_for_bit_is_reproduced(told):
    outcome, printed = told(drawn((0, 1, 2)), drawn(REPORT_SEEDS))
    assert set(outcome.values()) == {"reproduced"} and "3 x reproduced" in printed
    assert "Another processor" not in printed


def test_other_bits_are_consistent_and_both_machines_are_named(told):
    outcome, printed = told(drawn((0, 1, 2), rng_seed=5), drawn(REPORT_SEEDS))
    assert all(state.startswith("consistent (win score") for state in outcome.values())
    assert "3 x consistent" in printed and "committed: abacus, 2 cores" in printed and "here:      loom" in printed
    assert "Differs:" not in printed and "differs" not in printed


def test_what_lies_outside_differs_and_is_called_a_fault(told):
    outcome, printed = told(drawn((0, 1, 2), mean=40), drawn(REPORT_SEEDS))
    assert all(state.startswith("differs (") for state in outcome.values())
    assert "3 x differs" in printed and "Differs: more than another processor explains." in printed


def test_a_seed_that_is_equal_is_reproduced_beside_others_that_are_consistent(told):
    mine, committed = drawn((0, 1, 2), rng_seed=5), drawn(REPORT_SEEDS)
    mine[1] = {**committed[1]}
    outcome, printed = told(mine, committed)
    assert outcome[f"{ARM}/seed1"] == "reproduced" and "2 x consistent" in printed and "1 x reproduced" in printed


def test_results_this_machine_has_just_written_are_no_evidence_for_themselves(told, tmp_path):
    mine = drawn(range(6), rng_seed=5)
    outcome, _ = told(mine, [*mine[:5], *drawn((5,))], new={(ARM, seed) for seed in range(5)})
    assert [outcome[f"{ARM}/seed{seed}"] for seed in range(5)] == ["new"] * 5
    assert outcome[f"{ARM}/seed5"].startswith("differs (fewer than")
    assert len(committed_results(tmp_path / "results", "tiny", ARM)) == 6
    assert read_json(raw_path(tmp_path / "results", "tiny", ARM, 5))["seed"] == 5
