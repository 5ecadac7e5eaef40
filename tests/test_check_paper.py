"""The checks of the paper's numbers: each follows from the numbers, and can come out otherwise."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from experiments.compute.setting import Setting
from experiments.paper_checks.check import CHECKS, NAME, PUBLISHED, collect, published
from experiments.paper_checks.human_study import possible_sizes

ROOT = Path(__file__).resolve().parents[1]
RATIO_7, RANDOM_5 = "wdpo-lowest_reward-0.7", "wdpo-random-0.5"
WHOLE = {"win": 23.5, "loss": 25.0, "tie": 51.5}

# check, path of a published value, another value, what the check says now, and with the other value
FLIPS = [
    ("table1-shares-sum", "table1/shares/training", 25.0, "consistent", "inconsistent"),
    ("rewarding-share", "table1/shares/rewarding", 7.0, "unsupported", "consistent"),
    ("speedup-quoted-alike", "claims/speedup/section_6", [None, 2.0], "consistent", "inconsistent"),
    ("speedup-from-table1", "claims/speedup/abstract", [1.27, 1.58], "consistent", "inconsistent"),
    ("speedup-from-table1", "table1/shares/generation", 65.0, "consistent", "inconsistent"),
    ("speedup-of-a-whole-run", "claims/speedup/abstract", [1.19, 1.37], "unsupported", "consistent"),
    ("speedup-of-a-whole-run", "setup/shared_iterations", 0, "unsupported", "consistent"),
    ("generation-saving", "claims/generation_factor", 3.0, "consistent", "inconsistent"),
    ("generation-saving-of-a-whole-run", "setup/shared_iterations", 0, "unsupported", "consistent"),
    ("gpu-hours", "setup/gpus", 4, "consistent", "inconsistent"),
    ("batches-per-iteration", "setup/prompts", 48001, "consistent", "inconsistent"),
    ("table2-order", f"table2/arms/{RATIO_7}", 15.0, "consistent", "inconsistent"),
    ("table2-leads", "facts/zephyr_beta/win_rate_standard_error", 0.05, "unsupported", "consistent"),
    ("table2-baseline", "table2/arms/baseline", 12.2, "consistent", "inconsistent"),
    ("table3-averages", f"table3/arms/{RATIO_7}/average", 57.75, "consistent", "inconsistent"),
    ("table3-averages", f"table3/arms/{RATIO_7}/MMLU", 58.64, "consistent", "inconsistent"),
    ("table3-whole-answers", f"table3/arms/{RATIO_7}/GSM8K", 42.56, "consistent", "inconsistent"),
    ("table3-order", "table3/arms/wdpo-all-1.0/average", 57.7, "consistent", "inconsistent"),
    ("table3-highest-truthfulqa", "table3/arms/baseline/TruthfulQA", 40.1, "inconsistent", "consistent"),
    ("table3-highest-gsm8k", f"table3/arms/{RANDOM_5}/GSM8K", 43.0, "consistent", "inconsistent"),
    ("table3-leads", f"table3/arms/{RATIO_7}/average", 61.0, "unsupported", "consistent"),
    ("table3-lead-by-column", f"table3/arms/{RATIO_7}/TruthfulQA", 51.0, "unsupported", "consistent"),
    ("table3-equal-ratio", f"table3/arms/{RANDOM_5}/average", 56.0, "inconsistent", "consistent"),
    ("random-half-degrades", f"table2/arms/{RANDOM_5}", 9.0, "unsupported", "unsupported"),  # Table 3 is in the way
    ("truthfulqa-of-the-baseline", "table3/arms/baseline/TruthfulQA", 57.0, "inconsistent", "consistent"),
    ("table5-shots", "table5/benchmarks/MMLU/shots", 5, "consistent", "inconsistent"),
    ("table5-metrics", "table5/benchmarks/GSM8K/metric", "exact_match", "unsupported", "consistent"),
    ("table4-row-sums", "table4/comparisons/wdpo-all-1.0/tie", 50.0, "consistent", "inconsistent"),
    ("table4-quoted-alike", "table4/comparisons/wdpo-all-1.0/win", 23.5, "consistent", "inconsistent"),
    ("ratings-per-pair", "table4/raters", 10, "consistent", "inconsistent"),
    ("table4-sample-sizes", "table4/ratings_per_comparison", 162, "inconsistent", "inconsistent"),  # fits one row only
    ("table4-sizes-together", "table4/ratings", 64 + 54, "inconsistent", "consistent"),
    ("table4-preference", "table4/comparisons/wdpo-random-0.7/loss", 1.85, "unsupported", "consistent"),
    ("win-rule", "equations/eq7/at_least_wins", 2, "inconsistent", "consistent"),
    ("win-score-scale", "equations/eq7/offset", 0, "consistent", "inconsistent"),
    ("test-prompt-counts", "setup/test_prompts/Koala", 400, "consistent", "inconsistent"),
    ("sweep-in-tables", "setup/ratios", [0.5, 0.7, 1.0], "unsupported", "consistent"),
    ("parity-of-dpo", "claims/parity_with_full/fig4_caption", [0.5, 0.7], "unsupported", "consistent"),
    ("data-of-the-baseline", "setup/baseline_triplets", 61000, "inconsistent", "consistent"),
    ("eq4-inverts-eq3", "equations/eq4_beta_exponent", 1, "inconsistent", "consistent"),
    ("eq5-inverts-eq3", "equations/eq5_beta_exponent", -1, "consistent", "inconsistent"),
    ("anchor-of-the-penalty", "equations/eq4_anchor", "sft", "unsupported", "consistent"),
    ("weight-range", "equations/eq6_smallest_reward_gap", -4.0, "unsupported", "consistent"),
    ("algorithm1-training-set", "equations/algorithm1/iterated_over", "a copy", "inconsistent", "consistent"),
    ("algorithm1-reused-responses", "equations/algorithm1/training_set_built", 2, "unsupported", "consistent"),
    ("algorithm1-reused-responses", "equations/algorithm1/sets_initialised", None, "unsupported", "inconsistent"),
    ("algorithm1-first-iteration", "equations/algorithm1/first_iteration_ratio", 1.0, "unsupported", "consistent"),
    ("algorithm1-first-iteration", "equations/algorithm1/sets_initialised", None, "unsupported", "inconsistent"),
    ("gains-and-regression", "fig2/halves/1/top", 5.0, "unsupported", "consistent"),
]


@pytest.fixture(scope="module")
def paper():
    return published()


def altered(paper, path: str, value):
    """The paper with one published value changed."""
    other = copy.deepcopy(dict(paper))
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place = other
    for part in parents:
        place = place[part]
    assert place[last] != value
    place[last] = value
    return other


def verdicts(paper) -> dict[str, str]:
    return {row["check"]: row["verdict"] for row in collect(paper)["checks"]}


@pytest.mark.parametrize(
    ("check", "path", "value", "now", "then"), FLIPS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_another_published_number_gives_another_finding(paper, check, path, value, now, then):
    run = {c.__name__.replace("_", "-"): c for c in CHECKS}[check]
    assert run(paper).verdict == now
    assert run(altered(paper, path, value)).verdict == then


def test_two_published_numbers_can_be_needed_for_another_finding(paper):
    degraded = altered(altered(paper, f"table2/arms/{RANDOM_5}", 9.0), f"table3/arms/{RANDOM_5}/average", 56.0)
    assert verdicts(degraded)["random-half-degrades"] == "consistent"
    whole = copy.deepcopy(dict(paper))
    whole["table4"]["comparisons"] = {name: WHOLE for name in whole["table4"]["comparisons"]}
    assert verdicts(whole)["table4-sample-sizes"] == verdicts(whole)["table4-sizes-together"] == "consistent"
    rising = altered(altered(paper, "table2/arms/wdpo-all-1.0", 17.0), "table3/arms/wdpo-all-1.0/average", 58.0)
    assert verdicts(rising)["score-rises-with-ratio"] == "consistent"
    many = copy.deepcopy(dict(paper))
    many["table4"] |= {"ratings": 4000, "ratings_per_comparison": 4000}
    many["table4"]["comparisons"]["wdpo-all-1.0"] = {"win": 48.01, "loss": 49.02, "tie": 2.97}
    assert verdicts(many)["table4-similarity"] == "consistent"


def test_leads_of_figure_3_are_judged_once_its_bars_are_known(paper):
    known = copy.deepcopy(dict(paper))
    for name, points in known["fig3"]["arms"].items():
        points[-1]["win_score"] = 80.0 if "lowest" in name else 55.0
    assert verdicts(paper)["win-score-leads"] == "unsupported"
    assert verdicts(known)["win-score-leads"] == "consistent"


def test_every_check_is_listed_once_documented_and_shown_to_be_able_to_change():
    names = [check.__name__ for check in CHECKS]
    assert len(names) == len(set(names)) and all(check.__doc__ for check in CHECKS)
    elsewhere = {"score-rises-with-ratio", "table4-similarity", "win-score-leads"}
    assert {name.replace("_", "-") for name in names} == {flip[0] for flip in FLIPS} | elsewhere


def test_the_committed_findings_are_those_of_the_committed_numbers(paper):
    assert json.loads(json.dumps(collect(paper))) == json.loads((PUBLISHED / f"{NAME}.json").read_text())


def test_the_human_study_fits_other_sample_sizes_than_the_one_stated(paper):
    rows = paper["table4"]["comparisons"]
    assert [possible_sizes(row, 200)[0] for row in rows.values()] == [64, 54]
    found = {row["check"]: row["recomputed"] for row in collect(paper)["checks"]}
    assert "of 64:" in found["table4-similarity"] and "of 192: 95% limits 38% to 59%" in found["table4-similarity"]
    assert "of 54:" in found["table4-preference"] and "of 162:" in found["table4-preference"]
    assert possible_sizes({"win": 50.0, "loss": 25.0, "tie": 25.0}, 12) == [4, 8, 12]


def test_bars_that_cannot_be_read_are_null_and_arms_are_named_as_ours(paper):
    from experiments.compute.arms import loss_arms, ratio_arms

    for figure, loss in (("fig3", "wdpo"), ("fig4", "dpo")):
        names = {arm.name for arm in ratio_arms(loss)} - {f"{loss}-none-1.0"}
        assert set(paper[figure]["arms"]) == names
        assert {p["win_score"] for points in paper[figure]["arms"].values() for p in points} == {None}
    assert set(paper["fig6"]["arms"]) == {arm.name for loss in ("dpo", "wdpo") for arm in loss_arms(loss)}
    trained = {arm.name for arm in ratio_arms("wdpo")}
    for table in ("table2", "table3"):
        assert set(paper[table]["arms"]) - {"baseline", "sft"} <= trained
    assert set(paper["table4"]["comparisons"]) <= trained
    assert all(data["source"] and data["what"] for data in paper.values())


def test_facts_about_the_harness_are_those_of_the_pinned_release(paper):
    from eval.benchmarks.suites import PAPER
    from experiments.paper.table5_benchmark_settings import settings

    harness = paper["facts"]["harness"]
    for benchmark in PAPER:
        ours, found = settings(benchmark)
        assert found == {"shots": harness["shots"][benchmark.column], "metrics": harness["metrics"][benchmark.column]}
        assert ours["shots"] == paper["table5"]["benchmarks"][benchmark.column]["shots"]
        assert ours["parts"] == (57 if benchmark.column == "MMLU" else 1)


@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_the_judge_is_sent_the_rating_prompt_of_the_file(preset, monkeypatch):
    from experiments.paper.table6_rating_prompt import FIGURE

    assert FIGURE.data(Setting(preset), ROOT / "results")["sent_as_it_is"] == {"AB": True, "BA": True}
    monkeypatch.setattr("eval.judges.form.template_of", lambda path: ("Another system prompt", "{question}{answer_1}"))
    assert FIGURE.data(Setting(preset), ROOT / "results")["sent_as_it_is"] == {"AB": False, "BA": False}
