"""Claims, verdicts, raw results and the figure: the rules hold on made-up evidence whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.claims.claims import CLAIMS
from experiments.claims.rules import OUTCOMES
from experiments.claims.verdicts import CLASSES, is_preview, judge_claims, verdict
from experiments.compute.arms import BUILD_OF_SEED, DEVELOPMENT_SEEDS, ORACLE, REPORT_SEEDS, Arm, arm, ratio_arms
from experiments.compute.last_digits import same
from experiments.compute.machine import why_results_differ
from experiments.compute.results import facts, publish, raw_path, read_raw
from experiments.compute.run_arms import compute
from experiments.compute.setting import Setting
from experiments.figures.registry import FIGURES, figure_of
from optune.config import load_config
from optune.types import UserError
from optune.utils.files import write_json

ROOT = Path(__file__).resolve().parents[1]
GAIN = {"win_score": 20.0, "gold_mean": 0.8}


def result(arm: str, seed: int, score: float, **changes) -> dict:
    """A raw result whose outcomes are `score` at iteration 3."""
    letters, gold = "WWTTTTTTLL", [score * k / 1500 for k in range(11)]
    points = [
        {"iteration": t, "win_score": score * t / 3, "gold_mean": score * t / 300, "n": 10, "verdicts": letters}
        | {"gold": [value * t / 3 for value in gold]}
        for t in range(4)
    ]
    base = {
        "preset": "tiny",
        "arm": arm,
        "seed": seed,
        "build": BUILD_OF_SEED.get(seed, seed),
        "sandbox": {"version": "1", "hash": "abc"},
        "config": load_config("tiny", overrides=["loss.beta_2=0.5"]).model_dump(),
        "packages": {},
        "baseline": {"gold_mean": 0.5, "gold": [0.5] * 11},
        "iterations": points,
        "timing": {"wall": np.random.default_rng(seed).random()},
    }
    return base | changes


def evidence(scores: dict[str, float], seeds=REPORT_SEEDS, noise: float = 1.0) -> dict[str, list[dict]]:
    """Raw results for every arm of Figure 3: the given mean for arms whose name starts so, plus noise per seed."""
    rng = np.random.default_rng(0)
    raw = {}
    for member in ratio_arms("wdpo"):
        mean = next(value for prefix, value in scores.items() if member.name.startswith(prefix))
        raw[member.name] = [result(member.name, seed, mean + rng.normal(0, noise)) for seed in seeds]
    return raw


FIG3 = [claim for claim in CLAIMS if claim.figure == "fig3"]


def verdicts(raw) -> dict[str, str]:
    return {row["claim"]: row["verdict"] for row in judge_claims(FIG3, {claim.key: raw for claim in FIG3}, GAIN)}


def test_report_seeds_span_five_builds_and_meet_no_development_seed():
    assert tuple(range(10)) == REPORT_SEEDS and len(set(BUILD_OF_SEED.values())) == 5
    assert min(DEVELOPMENT_SEEDS) >= 1000 and not set(DEVELOPMENT_SEEDS) & set(BUILD_OF_SEED.values())


def test_evidence_as_in_the_paper_replicates_its_claims():
    rising = {"wdpo-lowest_reward-0.3": 75, "wdpo-lowest_reward-0.5": 80, "wdpo-lowest_reward-0.7": 82}
    raw = evidence({**rising, "wdpo-random": 70, "wdpo-all": 81, "wdpo-none": 60})
    assert verdicts(raw) == {
        "fig3-random-half-degrades": "replicated",
        "fig3-lowest-over-random": "replicated",
        "fig3-parity-with-full": "replicated",
        "fig3-rises-with-ratio": "replicated",
        "fig3-online-over-offline": "replicated",
    }


def test_the_opposite_evidence_contradicts():
    falling = {"wdpo-lowest_reward-0.3": 45, "wdpo-lowest_reward-0.5": 42, "wdpo-lowest_reward-0.7": 40}
    raw = evidence({**falling, "wdpo-random": 60, "wdpo-all": 38, "wdpo-none": 20})
    found = verdicts(raw)
    assert found["fig3-lowest-over-random"] == found["fig3-rises-with-ratio"] == "contradicted"
    assert found["fig3-parity-with-full"] != "replicated"


def test_equal_arms_are_no_difference_beyond_the_margin_and_noisy_ones_inconclusive():
    equal = {"wdpo-lowest": 70, "wdpo-random": 70, "wdpo-all": 70, "wdpo-none": 40}
    assert verdicts(evidence(equal))["fig3-lowest-over-random"] == "no difference beyond the margin"
    assert verdicts(evidence(equal, noise=40))["fig3-lowest-over-random"] == "inconclusive"


def test_parity_is_not_testable_where_ratio_1_does_not_beat_the_static_control():
    raw = evidence({"wdpo-lowest": 70, "wdpo-random": 70, "wdpo-all": 70, "wdpo-none": 70})
    assert verdicts(raw)["fig3-parity-with-full"] == "not testable here"


@pytest.mark.parametrize("seeds", [(0, 1, 2), (0, 3)])
def test_too_few_seeds_or_builds_yield_no_verdict(seeds):
    raw = evidence({"wdpo-lowest": 80, "wdpo-random": 60, "wdpo-all": 80, "wdpo-none": 40}, seeds)
    assert is_preview(raw) and set(verdicts(raw).values()) == {"preview: no verdict"}


def test_outcomes_that_disagree_are_inconclusive():
    raw = evidence({"wdpo-lowest": 80, "wdpo-random": 60, "wdpo-all": 80, "wdpo-none": 40})
    for name, results in raw.items():
        for entry in results:
            entry["iterations"][3]["gold_mean"] *= -1 if "random" in name or "lowest" in name else 1
    rows = {row["claim"]: row for row in judge_claims(FIG3, {claim.key: raw for claim in FIG3}, GAIN)}
    row = rows["fig3-lowest-over-random"]
    assert {row["outcomes"][m]["verdict"] for m in OUTCOMES} == {"replicated", "contradicted"}
    assert row["verdict"] == "inconclusive"


def test_every_verdict_is_one_of_the_classes():
    rng = np.random.default_rng(1)
    for kind in ("superiority", "parity"):
        for p in (0.001, 0.5):
            for mean in (-30, -1, 0, 1, 30):
                assert verdict(kind, rng.normal(mean, 1, 10), p, 4.0) in CLASSES


def test_parity_is_contradicted_only_clearly_beyond_the_margin():
    noise = np.linspace(-1, 1, 10)
    assert verdict("parity", -9 + noise, 0.9, 4.0) == "contradicted"
    assert verdict("parity", -4.2 + noise, 0.9, 4.0) == "inconclusive"  # beyond it, but not clearly


def test_claims_without_results_yet_count_in_the_correction():
    raw = evidence({"wdpo-lowest": 70, "wdpo-random": 69, "wdpo-all": 70, "wdpo-none": 40})
    outcomes = judge_claims(FIG3, {claim.key: raw for claim in FIG3}, GAIN)
    smallest = min((row["outcomes"]["win_score"] for row in outcomes), key=lambda test: test["p"])
    family = sum(claim.family == "paper" for claim in CLAIMS)
    assert smallest["p_holm"] == pytest.approx(min(1.0, smallest["p"] * family)) and family > len(FIG3)


@pytest.mark.parametrize("member", [arm("wdpo", "random", 0.5, "zero"), arm("wdpo", ORACLE, 0.5)], ids=lambda a: a.name)
def test_an_arm_that_knows_the_sandbox_is_refused_without_one(member):
    with pytest.raises(UserError, match="no sandbox"):
        compute(Setting("paper"), [member], [0])


# --- raw results -----------------------------------------------------------------------------------------------------


def test_raw_results_are_written_once_and_compared_ever_after(tmp_path):
    first = result("a", 0, 50.0)
    assert publish(first, tmp_path) == "new"
    before = raw_path(tmp_path, "tiny", "a", 0).read_bytes()
    assert publish({**first, "timing": {"wall": 9}}, tmp_path) == "reproduced"
    assert publish(result("a", 0, 53.0), tmp_path) == "differs (win score by up to 3.00)"
    assert raw_path(tmp_path, "tiny", "a", 0).read_bytes() == before


@pytest.mark.parametrize(
    "changed", [{"sandbox": {"version": "2", "hash": "x"}}, {"config": load_config("tiny").model_dump()}]
)
def test_results_of_another_sandbox_or_configuration_are_never_mixed(tmp_path, changed):
    publish(result("a", 0, 50.0), tmp_path)
    with pytest.raises(UserError, match="never mixed"):
        publish(result("a", 0, 50.0, **changed), tmp_path)


def test_an_option_younger_than_a_result_does_not_make_it_another_result(tmp_path):
    older = result("a", 0, 50.0)
    del older["config"]["selection"]["offset_samples"]
    publish(older, tmp_path)
    assert publish(result("a", 0, 50.0), tmp_path) == "reproduced"


def test_where_values_differ_it_is_said_whose_they_are_and_what_else_differs():
    theirs = {"packages": {"torch": "2"}, "timing": {"machine": {"cpu": "abacus", "cores": 2}}}
    mine = {"packages": {"torch": "2"}, "timing": {"machine": {"cpu": "loom", "vectors": "AVX2", "cores": 4}}}
    said = "\n".join(why_results_differ([(mine, theirs)], outside=False))
    assert "committed: abacus, 2 cores" in said and "here:      loom (AVX2), 4 cores" in said
    assert "last bits" in said and "packages:  the same" in said
    newer = {**mine, "packages": {"torch": "3"}}
    assert "torch 2 there, 3 here" in why_results_differ([(newer, theirs)], outside=True)[-1]


def test_only_seeds_that_every_arm_has_are_compared(tmp_path):
    for name, seeds in (("a", (0, 1, 2, 1000)), ("b", (0, 2))):
        for seed in seeds:
            write_json(raw_path(tmp_path, "tiny", name, seed), result(name, seed, 1.0))
    a, b, c = (Arm(name, ()) for name in "abc")
    raw = read_raw(tmp_path, "tiny", [a, b], REPORT_SEEDS)
    assert [[r["seed"] for r in results] for results in raw.values()] == [[0, 2], [0, 2]]
    with pytest.raises(UserError, match=r"No seed in .* has a result for every arm"):
        read_raw(tmp_path, "tiny", [a, c], REPORT_SEEDS)


def test_wall_clock_is_no_part_of_the_facts():
    assert "timing" not in facts(result("a", 0, 1.0))


# --- the figure ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2), REPORT_SEEDS])
def test_the_figure_is_drawn_from_raw_results_alone_and_equal_data_gives_equal_bytes(tmp_path, seeds):
    from experiments.figures.figure import preview
    from experiments.paper.fig3_win_score_by_ratio import FIGURE

    for results in evidence({"wdpo-lowest": 70, "wdpo-random": 60, "wdpo-all": 80, "wdpo-none": 40}, seeds).values():
        for entry in results:
            publish(entry, tmp_path)
    data = FIGURE.data(Setting("tiny"), tmp_path, REPORT_SEEDS)
    assert data["seeds"] == list(seeds) and preview(data) == (len(seeds) < 10)
    pictures = [Path(FIGURE.draw(data, tmp_path / name)[1]).read_bytes() for name in ("one", "two")]
    assert pictures[0] == pictures[1] and pictures[0].startswith(b"\x89PNG")


@pytest.mark.parametrize("name", FIGURES)
def test_committed_data_is_what_the_committed_raw_results_give(name):
    for path in sorted((ROOT / "results").glob(f"*/{name}.json")):
        if path.parent.name != "published":
            collected = figure_of(name).data(Setting(path.parent.name), ROOT / "results", REPORT_SEEDS)
            assert same(json.loads(json.dumps(collected)), json.loads(path.read_text()))
