"""What the sensitivity figures vary: options, reward models of fewer pairs; who is refreshed when."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from experiments.always_on_policy.contests import headline
from experiments.compute.setting import Setting
from experiments.figures.figure import Evidence
from experiments.figures.registry import SENSITIVITY, figure_of
from experiments.sensitivity import arms
from experiments.sensitivity.leads import lead
from experiments.sensitivity.staleness import ages, first_reward, held, never_by_family, repeated
from optune import sandbox
from optune.config import load_config
from optune.loop.algorithm import run_optune
from optune.sandbox.parts.reward_models import part_of

# Four prompts of two families; iterations 0 to 3.
RUN = {
    "families": ["add", "add", "say", "say"],
    "first_reward": [1.0, 2.0, 3.0, 6.0],
    "iterations": [
        {"iteration": 0, "selected": "1111", "pairs_sampled_at": {"0": 4}},
        {"iteration": 1, "selected": "1100", "pairs_sampled_at": {"0": 2, "1": 2}},
        {"iteration": 2, "selected": "1010", "pairs_sampled_at": {"0": 1, "1": 1, "2": 2}},
        {"iteration": 3, "selected": "1100", "pairs_sampled_at": {"0": 1, "2": 1, "3": 2}},
    ],
}
OTHER = {**RUN, "iterations": [{**row, "selected": "0111"} for row in RUN["iterations"]]}


def test_who_is_refreshed_is_counted_after_iteration_0():
    assert repeated(RUN) == pytest.approx(2 / 4)
    assert ages(RUN) == [2 / 4, 1 / 4, 0, 1 / 4]
    assert never_by_family(RUN) == {"add": 0.0, "say": 0.5}
    assert first_reward(RUN) == [6.0, 2.0]
    assert held(RUN, OTHER) == pytest.approx(3 / 6)


def test_a_lead_is_paired_by_seed():
    def results(scores):
        return [{"iterations": [{"win_score": score, "gold_mean": score / 10}]} for score in scores]

    ahead = lead(results([11, 31, 61]), results([10, 30, 60]))
    assert ahead["win_score"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "per_seed": [1.0, 1.0, 1.0]}


def test_arms_of_unlike_iterations_are_compared_where_they_have_spent_alike():
    from experiments.sensitivity.kept_pairs import REFERENCE, collect
    from experiments.sensitivity.leads import SPENT

    def result(pairs_each, iterations, score):
        def row(t):
            spent = {stage: {count: 100 if count == "tokens" else pairs_each} for count, stage in SPENT.items()}
            return {"stages": {**spent, "score": {"rewards": 20}}, "win_score": score + t, "gold_mean": t}

        ledger = [{"generation_s": 1.4, "rewarding_s": 0.2, "training_s": 0.1 * pairs_each}] * iterations
        return {"iterations": [row(t) for t in range(iterations)], "timing": {"ledger": ledger}}

    made = {"all": result(40, 7, 0), "half": result(30, 5, 10), "none": result(20, 7, 20)}
    raw = {a.name: [made[kept]] * 2 for kept, a in arms.KEPT.items()} | {arms.ALL_KEPT_TIMED.name: [made["all"]] * 2}
    data = collect(Evidence(raw, Setting("tiny"), Path()))
    assert [row["seconds"] for row in data["by_kept"]["all"]] == pytest.approx([5.6 * (t + 1) for t in range(7)])
    # 160 pairs and 22.4 s until the reference ends; five times 30 pairs are near, seven times 20 are not.
    after = {kept: {equal: row["after"] for equal, row in data["compared"][kept].items()} for kept in ("half", "none")}
    assert REFERENCE == 3 and after["half"] == {"iterations": 3, "updates": 4, "seconds": 4}
    assert after["none"] == {"iterations": 3, "seconds": 5}
    assert data["compared"]["none"]["seconds"]["lead"]["win_score"]["per_seed"] == [22.0, 22.0]


def test_beta_2_is_so_many_times_the_automatic_one(config, tmp_path):
    plain, four = (
        run_optune(config.with_overrides({"iterations": 0, "loss.beta_2_factor": factor}), tmp_path / str(factor))
        for factor in (None, 4.0)
    )
    counts = [{e["stage"]: e["counts"] for e in run.stages} for run in (plain, four)]
    assert counts[1]["train"]["beta_2"] == 4 * counts[0]["train"]["beta_2"]
    assert load_config("tiny").loss.automatic_beta_2(median([0.5, 1, 4])) == 1.0


def test_a_smaller_part_of_the_preferences_is_in_every_larger_one():
    rows = []
    for prompt in sandbox.prompts("validation", 64):
        rows += sandbox.preference_rows(prompt, [w.write(prompt, seed=0) for w in sandbox.OTHERS], 1)
    quarter, sixteenth = part_of(rows, 0, 4), part_of(rows, 0, 16)
    assert (len(quarter), len(sixteenth)) == (len(rows) // 4, len(rows) // 16)
    assert all(row in quarter for row in sixteenth) and part_of(rows, 0, 1) == rows
    assert part_of(rows, 1, 4) != quarter


def test_the_reference_arms_are_those_of_the_other_figures():
    names = {a.name for figure in map(figure_of, SENSITIVITY) for a in figure.arms}
    assert {"wdpo-lowest_reward-0.5", "wdpo-random-0.5", "dpo-lowest_reward-0.5"} <= names
    known: dict[str, tuple] = {}
    for figure in map(figure_of, SENSITIVITY):
        for a in figure.arms:
            assert known.setdefault(a.name, a.overrides) == a.overrides
    assert arms.BETA_2[1.0] == arms.RANKINGS["preferred"] == arms.OPTUNE


def test_a_headline_counts_only_where_the_whole_interval_is_above_0():
    def table(low):
        row = {"iteration": 2, "lead": {"low": low}, "tie": {"mean": 80.0}}
        return headline({"iterations": [row], "paper": {"2": {"tie": 30.0}}})

    assert "did not appear" in table(-0.1)[0] and "appeared in iterations 2" in table(0.1)[0]
    assert "80 to 80%" in table(0.1)[1] and "30 to 30%" in table(0.1)[1]
