"""When selection pays: what is planted in made-up raw results is what the figure finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.beyond.when_selection_pays import (
    ARMS,
    FIGURE,
    WORLDS,
    family_correlation,
    line,
    low_half_lead,
    probe_arm,
    prompt_correlation,
)
from experiments.compute.arms import BUILD_OF_SEED, REPORT_SEEDS
from experiments.compute.results import raw_path
from experiments.compute.setting import Setting
from optune.config import load_config
from optune.utils.files import write_json

PROMPTS = 600
FAMILIES = [f"family{i % 6}" for i in range(PROMPTS)]


def probed(rng, slope: float, noise: float = 1.0) -> dict:
    """A probe of prompts whose expected gain is `slope` times their expected initial reward; samples are noisy."""
    quality = np.tile(rng.normal(size=6), PROMPTS // 6) + rng.normal(size=PROMPTS)
    samples = [[quality + noise * rng.normal(size=PROMPTS) for _ in range(2)] for _ in range(2)]
    gain = slope * quality
    points = [
        {"iteration": 0, "reward": [s.tolist() for s in samples[0]], "gold": [s.tolist() for s in samples[0]]},
        {"iteration": 3, "reward": [], "gold": [(s + gain).tolist() for s in samples[1]]},
    ]
    return {"families": FAMILIES, "iterations": points}


@pytest.mark.parametrize("slope", [-1.0, 1.0])
def test_a_planted_correlation_is_recovered(slope):
    found = probed(np.random.default_rng(0), slope, noise=0.0)
    assert prompt_correlation(found) == pytest.approx(slope) and family_correlation(found) == pytest.approx(slope)
    assert np.sign(low_half_lead(found)) == -slope
    noisy = probed(np.random.default_rng(0), slope)
    assert 0.3 < slope * prompt_correlation(noisy) < 0.9 and slope * family_correlation(noisy) > 0.9


def test_gains_that_do_not_depend_on_reward_correlate_with_it_near_zero_where_a_shared_sample_says_otherwise():
    found = probed(np.random.default_rng(1), slope=0.0)
    assert abs(prompt_correlation(found)) < 0.08
    assert abs(low_half_lead(found)) < 0.2
    first, last = found["iterations"]
    gain = np.mean(last["gold"], axis=0) - np.array(first["gold"][0])
    assert np.corrcoef(first["reward"][0], gain)[0, 1] < -0.25  # regression to the mean


def test_a_line_is_found_with_its_slope_and_where_it_crosses_zero():
    x = np.random.default_rng(2).uniform(-1, 1, size=(4, 10))
    found = line(x, 3 - 6 * x)
    assert found["slope"]["mean"] == pytest.approx(-6) and found["zero"] == pytest.approx(0.5)
    assert found["mean"] == pytest.approx(3 - 6 * np.array(found["x"]))
    assert line(x[:, :1], 3 - 6 * x[:, :1])["low"][0] is None  # one seed: no interval


def world_results(folder: Path, seeds) -> None:
    """Raw results in which lowest reward leads random by minus ten times the world's planted slope."""
    config = load_config("tiny").model_dump()
    for mix, slope in zip(WORLDS.values(), (-0.2, -0.8, 0.0, 0.6), strict=True):
        for arm in (a for a in ARMS if a.name.endswith(f"@{mix}" if mix else ".0") or (not mix and "@" not in a.name)):
            for seed in seeds:
                rng = np.random.default_rng([seed, len(arm.name)])
                score = 60 + rng.normal() - 10 * slope * ("lowest_reward" in arm.name)
                measured = {"win_score": score, "gold_mean": score / 10, "n": 2048}
                found = {"baseline": {}, "iterations": [measured, {}, {}, measured]}
                if arm.name == probe_arm(mix).name:
                    found = probed(rng, slope)
                facts = {"preset": "tiny", "arm": arm.name, "seed": seed, "build": BUILD_OF_SEED[seed]}
                facts |= {"sandbox": {"version": "1", "hash": "0123456789"}, "config": config, "timing": {}}
                write_json(raw_path(folder, "tiny", arm.name, seed), facts | found)


@pytest.mark.parametrize("seeds", [(0,), (0, 3, 5)])
def test_the_figure_finds_what_was_planted_and_equal_data_gives_equal_bytes(tmp_path, seeds):
    world_results(tmp_path, seeds)
    data = FIGURE.data(Setting("tiny"), tmp_path, REPORT_SEEDS)
    leads = [world["over_random"]["lowest_reward"]["win_score"]["mean"] for world in data["worlds"].values()]
    assert leads[1] > leads[0] > leads[3] and data["seeds"] == list(seeds)
    correlations = [world["prompts_correlation"]["mean"] for world in data["worlds"].values()]
    assert correlations[1] < correlations[0] < correlations[2] < correlations[3]
    assert data["lines"]["win_score"]["slope"]["mean"] < 0 and len(FIGURE.lines(data)) == 4 * 8 + 2
    pictures = [Path(FIGURE.draw(data, tmp_path / name)[1]).read_bytes() for name in ("one", "two")]
    assert pictures[0] == pictures[1]


def test_what_beyond_the_paper_says_is_what_was_planted(tmp_path):
    from experiments.beyond import beyond_paper
    from experiments.compute.arms import BEST_STRATEGY

    config = load_config("tiny").model_dump()
    for arm in beyond_paper.ARMS:
        halved = "-0.5" in arm.name
        iterations = 7 if "iterations=6" in arm.name else 4
        lead = {"fresh": -5, BEST_STRATEGY: 2}
        level = 60 + sum(value for word, value in lead.items() if word in arm.name)
        for seed in (0, 3, 5):
            points = [{"win_score": level + t, "gold_mean": (level + t) / 10, "n": 9} for t in range(iterations)]
            entry = {"tokens": 500 if halved else 1000, "generation_s": 1.0, "rewarding_s": 0.0, "training_s": 1.0}
            facts = {"preset": "tiny", "arm": arm.name, "seed": seed, "build": BUILD_OF_SEED[seed], "config": config}
            facts |= {"sandbox": {"version": "1", "hash": "0123456789"}, "timing": {"ledger": [entry] * iterations}}
            write_json(
                raw_path(tmp_path, "tiny", arm.name, seed), facts | ({} if arm.probe else {"iterations": points})
            )
    data = beyond_paper.FIGURE.data(Setting("tiny"), tmp_path, REPORT_SEEDS)
    found = [contrast["win_score"]["mean"] for contrast in data["contrasts"].values()]
    assert found == pytest.approx([5, 3, 0, 2, 2])  # equal seconds: three iterations of either
    assert len(beyond_paper.draw(data, tmp_path / "picture")) == 2 and len(beyond_paper.lines(data)) == 5
