"""What the report says that was added afterwards: each line from committed results, and no verdict changed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from experiments.compute.results import ROOT
from experiments.report.afterwards import (
    OF_ANOTHER_MACHINE,
    clear_leads,
    oracle_over_reward,
    over_none,
    predicted_speedup,
    reason,
    shown_verdict,
)
from optune.utils.files import read_json

VERDICTS = read_json(ROOT / "results" / "tiny" / "verdicts.json")["claims"]
WORLDS = read_json(ROOT / "results" / "tiny" / "worlds.json")["worlds"]


def score(arm: str, seed: int) -> float:
    """The win score at iteration 3 as the raw file has it."""
    return read_json(ROOT / "results/tiny/raw" / arm / f"seed{seed}.json")["iterations"][3]["win_score"]


def test_leads_over_none_are_those_of_the_raw_results():
    found = over_none("tiny", "wdpo")
    by_hand = {
        ratio: np.mean([score(f"wdpo-lowest_reward-{ratio}", s) - score("wdpo-none-1.0", s) for s in range(10)])
        for ratio in (0.3, 0.5, 0.7)
    }
    assert {r: v.mean() for r, v in found["lowest_reward"].items()} == pytest.approx(by_hand)
    assert [round(value, 2) for value in by_hand.values()] == [1.65, 1.62, 1.08]
    assert [round(v.mean(), 1) + 0 for v in found["random"].values()] == [-0.5, 0.5, 0.0]
    assert round(found["none"].mean(), 1) == 14.7 and round(over_none("tiny", "dpo")["none"].mean(), 1) == 13.8


def test_the_contrast_beside_parity_is_that_of_the_claim():
    for loss, figure in (("wdpo", "fig3"), ("dpo", "fig4")):
        row = next(row for row in VERDICTS if row["claim"] == f"{figure}-parity-with-full")
        assert over_none("tiny", loss)["par"] == pytest.approx(row["outcomes"]["win_score"]["per_seed"], abs=1e-5)
        assert over_none("tiny", loss)["all"].mean() == pytest.approx(row["outcomes"]["win_score"]["gate"]["estimate"])


def test_only_claims_about_other_machines_are_shown_otherwise_and_the_rules_class_stays_beside():
    changed = {row["claim"] for row in VERDICTS if shown_verdict(row) != row["verdict"]}
    assert changed == set(OF_ANOTHER_MACHINE)
    assert all("contradicted" in reason(row) for row in VERDICTS if row["claim"] in changed)
    assert all(reason(row) == "" for row in VERDICTS if row["claim"] not in changed)
    report = (ROOT / "results" / "tiny" / "REPORT.md").read_text("utf-8")
    for key in OF_ANOTHER_MACHINE:
        line = next(line for line in report.splitlines() if f"(`{key}`)" in line)
        assert "**not testable here**" in line and "By the rule fixed beforehand: contradicted" in line


def test_the_papers_speedups_follow_from_its_share_of_generation():
    assert [round(predicted_speedup(0.718, ratio), 2) for ratio in (0.7, 0.5)] == [1.27, 1.56]


def test_the_oracle_is_clearly_ahead_of_lowest_reward_in_the_negative_mix_alone():
    leads = oracle_over_reward(WORLDS)
    assert clear_leads(leads) == ["negative"]
    means = [round(values.mean(), 2) for values in leads.values()]
    assert means == pytest.approx([1.38, 10.65, 0.86, 0.85], abs=0.011)


def test_none_stands_beside_the_baseline_where_online_policies_beat_it():
    report = (ROOT / "results" / "tiny" / "REPORT.md").read_text("utf-8")
    for figure, lead in (("fig3", "+14.7 [+13.7, +15.7]"), ("fig4", "+13.8 [")):
        line = next(line for line in report.splitlines() if f"(`{figure}-online-over-offline`)" in line)
        assert f"so does never regenerating: win score {lead}" in line


def test_the_correlations_in_the_docs_are_those_of_the_worlds():
    text = " ".join((ROOT / "docs" / "tiny_world.md").read_text("utf-8").split())
    said = re.search(r"correlate by (\S+) in the main world, and by (\S+), (\S+) and (\S+) in the mixes", text).groups()
    found = [
        f"{WORLDS[name]['families_correlation']['mean']:+.2f}" for name in ("main", "negative", "zero", "positive")
    ]
    assert list(said) == found
