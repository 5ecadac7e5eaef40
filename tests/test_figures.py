"""Tables and figures on made-up raw results whose answer is known: each finds it, and says where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.claims.contrasts import PHASES
from experiments.compute.probes import gain_by_half
from experiments.compute.results import raw_path, read_by_seeds
from experiments.compute.setting import Setting
from experiments.figures.figure import Evidence
from experiments.figures.registry import PAPER, figure_of
from experiments.paper import (
    fig2_gain_by_reward_half,
    fig5_score_against_time,
    fig6_losses_over_iterations,
    table1_time_shares,
)
from optune.config import load_config
from optune.utils.files import write_json

SEEDS = (0, 1, 2)
PROMPTS = 4000


def raw_result(name: str, seed: int, iterations: list[dict], ledger: list[dict]) -> dict:
    return {
        "preset": "tiny",
        "arm": name,
        "seed": seed,
        "build": 0,
        "sandbox": {"version": "1", "hash": "abc"},
        "config": load_config("tiny", overrides=["loss.beta_2=0.5"]).model_dump(),
        "iterations": iterations,
        "timing": {"ledger": ledger, "machine": {"cpu": "abacus", "cores": 2}},
    }


def ledger_of(ratio: float, seed: int = 0) -> list[dict]:
    """Generation 6 s, rewarding 1 s, training 3 s in an iteration at ratio 1, of which training alone is constant.

    Iteration 0 is at ratio 1 and trains for 13 s. The machine of seed k is k + 1 times slower.
    """
    rows = []
    for t in range(4):
        share = 1 if t == 0 else ratio
        seconds = (6 * share, share, 13 if t == 0 else 3)
        row = {phase: (seed + 1) * value for phase, value in zip(PHASES, seconds, strict=True)}
        rows.append({"iteration": t, **row, "tokens": int(1000 * share)})
    return rows


def write_arms(folder: Path, arms, score) -> None:
    """A raw result per arm and seed; `score(overrides, seed, t)` is its win score."""
    for member in arms:
        made = dict(member.overrides)
        for seed in SEEDS:
            points = [{"iteration": t, "win_score": score(made, seed, t), "gold_mean": 5.0, "n": 10} for t in range(4)]
            entry = raw_result(member.name, seed, points, ledger_of(made["selection.ratio"], seed))
            write_json(raw_path(folder, "tiny", member.name, seed), entry)


def collected(module, folder: Path) -> dict:
    """As the data file has it."""
    return json.loads(json.dumps(module.FIGURE.data(Setting("tiny"), folder, SEEDS)))


@pytest.mark.parametrize("name", ["table1", "fig2", "fig5", "fig6"])
def test_the_figure_is_listed_under_its_name(name):
    assert name in PAPER and figure_of(name).name == name


# --- Table 1 ---------------------------------------------------------------------------------------------------------


def test_shares_of_time_are_per_seed_and_sum_to_100_beside_the_papers(tmp_path):
    write_arms(tmp_path, table1_time_shares.ARMS, lambda made, seed, t: 60.0)
    data = collected(table1_time_shares, tmp_path)
    full = data["arms"]["dpo-all-1.0"]
    assert [round(full["from_iteration_1"][p]["mean"], 6) for p in data["paper"]] == [60, 10, 30]
    assert full["from_iteration_1"]["generation"]["low"] == pytest.approx(60)  # a slower machine has the same shares
    assert full["from_iteration_0"]["training"]["mean"] == pytest.approx(100 * 22 / 50)
    half = data["arms"]["wdpo-lowest_reward-0.5"]["from_iteration_1"]
    assert half["generation"]["mean"] == pytest.approx(100 * 3 / 6.5)
    for counted in data["arms"].values():
        assert all(sum(found["mean"] for found in shares.values()) == pytest.approx(100) for shares in counted.values())
    assert data["paper"] == {"generation": 71.8, "rewarding": 0.1, "training": 28.1} and data["engine"] == "hf"


# --- Figure 2 --------------------------------------------------------------------------------------------------------


def write_draws(folder: Path, draws) -> dict:
    """Raw results of the probe; `draws(rng)` gives first, second and next draw. Returns what Figure 2 makes of them."""
    name = fig2_gain_by_reward_half.ARM.name
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        points = [{"iteration": t, "first": [0.0], "halves": gain_by_half(*draws(rng))} for t in range(4)]
        write_json(raw_path(folder, "tiny", name, seed), raw_result(name, seed, points, []))
    return collected(fig2_gain_by_reward_half, folder)["iterations"][1]


def test_in_a_world_of_regression_to_the_mean_alone_all_of_the_gap_is_that(tmp_path):
    def luck(rng):
        skill = rng.normal(size=PROMPTS)
        return (skill + rng.normal(size=PROMPTS) for _ in range(3))

    row = write_draws(tmp_path, luck)
    assert row["iteration"] == 2 and row["paper_top_share"] == 31.4
    assert row["regression_to_the_mean"]["share"]["mean"] == pytest.approx(100, abs=10)
    assert row["independent_sample"]["gap"]["mean"] == pytest.approx(0, abs=0.1)
    assert row["shared_sample"]["top"]["mean"] < -0.4 and row["shared_sample"]["bottom"]["mean"] > 0.4
    assert row["shared_sample"]["top_share"] is None and "loses" in row["shared_sample"]["no_share_because"]


def test_in_a_world_without_luck_none_of_the_gap_is_regression_and_the_share_is_the_planted_one(tmp_path):
    def skill_alone(rng):
        skill = rng.normal(size=PROMPTS)
        gain = np.where(skill < np.median(skill), 0.75, 0.25)
        return skill, skill, skill + gain

    row = write_draws(tmp_path, skill_alone)
    assert row["regression_to_the_mean"]["share"]["mean"] == pytest.approx(0, abs=1e-9)
    for ranking in ("shared_sample", "independent_sample"):
        assert row[ranking]["top_share"]["mean"] == pytest.approx(25)
        assert row[ranking]["gap"]["mean"] == pytest.approx(0.5)


def test_luck_and_learning_add_up_to_the_gap_of_the_papers_ranking(tmp_path):
    def both(rng):
        skill = rng.normal(size=PROMPTS)
        learned = skill + np.where(skill < 0, 0.8, 0.2)
        return (skill + rng.normal(size=PROMPTS), skill + rng.normal(size=PROMPTS), learned + rng.normal(size=PROMPTS))

    row = write_draws(tmp_path, both)
    gap = {ranking: row[ranking]["gap"]["mean"] for ranking in fig2_gain_by_reward_half.RANKINGS}
    assert gap["shared_sample"] == pytest.approx(gap["independent_sample"] + gap["no_training"], abs=0.06)
    assert 10 < row["regression_to_the_mean"]["share"]["mean"] < 95


def test_a_share_of_no_gain_and_of_no_gap_is_none_with_the_reason():
    halves = [{"top": 0.01 * sign, "bottom": 0.02 * sign} for sign in (1, -1, 1, -1)]
    found = fig2_gain_by_reward_half.gains(halves)
    assert found["top_share"] is None and found["no_share_because"] == "the total gain is not shown to differ from 0"


@pytest.mark.parametrize(
    ("gaps", "told"),
    [
        ((0.0, 0.0, 0.0), "the bottom half is not shown to gain more than the top half"),
        ((-0.1, 0.5, 0.9), "the bottom half is not shown to gain more than the top half"),
        ((-0.5, -0.6, -0.7), "the bottom half gains less than the top half"),
    ],
)
def test_a_gap_that_may_be_0_is_not_called_absent_and_stands_beside_the_reason(tmp_path, gaps, told):
    rankings = fig2_gain_by_reward_half.RANKINGS
    for seed, gap in enumerate(gaps):
        halves = {name: {"top": 0.2, "bottom": 0.2 + gap} for name in rankings}
        name = fig2_gain_by_reward_half.ARM.name
        points = [{"iteration": t, "first": [0.0], "halves": halves} for t in range(4)]
        write_json(raw_path(tmp_path, "tiny", name, seed), raw_result(name, seed, points, []))
    data = collected(fig2_gain_by_reward_half, tmp_path)
    found = data["iterations"][1]["regression_to_the_mean"]
    assert found == {"share": None, "no_share_because": told}
    said = f"not given, because {told} (bottom minus top: {np.mean(gaps):.2f} ["
    assert said in "\n".join(fig2_gain_by_reward_half.FIGURE.lines(data))


# --- Figure 5 --------------------------------------------------------------------------------------------------------


def test_time_adds_up_over_iterations_and_speedups_are_paired_by_seed(tmp_path):
    write_arms(tmp_path, fig5_score_against_time.ARMS, lambda made, seed, t: 40.0 + 5 * t)
    data = collected(fig5_score_against_time, tmp_path)
    full = data["arms"]["wdpo-all-1.0"]
    assert [point["seconds"]["mean"] for point in full] == [0, 20, 40, 60]  # 10 s, on machines 1, 2 and 3 times slower
    assert [point["seconds_from_iteration_0"]["mean"] for point in full] == [40, 60, 80, 100]
    assert [point["tokens"]["mean"] for point in data["arms"]["wdpo-lowest_reward-0.3"]] == [0, 300, 600, 900]
    half = data["speedups"]["0.5"]
    assert half["measured"]["mean"] == pytest.approx(10 / 6.5) == half["predicted_with_rewarding"]["mean"]
    assert half["measured"]["low"] == pytest.approx(10 / 6.5)  # the machines' pace cancels
    assert half["predicted"]["mean"] == pytest.approx(1 / (1 - 0.6 * 0.5)) and half["tokens"]["mean"] == 2
    assert (half["paper"], data["speedups"]["0.3"]["paper"]) == (1.56, None)


def test_without_runs_for_the_clock_counted_work_has_ratio_1s_mean_price(tmp_path):
    """A token costs 1 s, a scored response 2 s and a pair 3 s on average, whatever else the machine did meanwhile."""
    for member in fig5_score_against_time.SHOWN:
        ratio = dict(member.overrides)["selection.ratio"]
        for seed in SEEDS:
            points, ledger = [], []
            for t in range(4):
                tokens, rewards = (int(count * (ratio if t else 1)) for count in (100, 20))
                stages = {"generate": {"tokens": tokens}, "score": {"rewards": rewards}, "pairs": {"pairs": 10}}
                points.append({"iteration": t, "win_score": 60.0, "gold_mean": 5.0, "stages": stages})
                load = (0.5, 1.0, 1.5)[seed] if ratio == 1 else 7.0
                seconds = {"generation_s": 100 * load, "rewarding_s": 40 * load, "training_s": 30 * load}
                ledger.append({"iteration": t, **seconds, "tokens": tokens})
            write_json(raw_path(tmp_path, "tiny", member.name, seed), raw_result(member.name, seed, points, ledger))
    evidence = Evidence(
        read_by_seeds(tmp_path, "tiny", fig5_score_against_time.SHOWN, SEEDS), Setting("tiny"), tmp_path
    )
    data = fig5_score_against_time.collect(evidence)
    assert data["seconds"] == "work at ratio 1's mean cost"
    last = data["arms"]["wdpo-all-1.0"][3]["seconds"]
    assert (last["low"], last["mean"], last["high"]) == pytest.approx((510, 510, 510))
    half = data["speedups"]["0.5"]
    assert half["measured"]["mean"] == pytest.approx(170 / 100) and half["tokens"]["mean"] == 2


# --- Figure 6 --------------------------------------------------------------------------------------------------------


def test_leads_are_paired_by_seed_so_that_seeds_cancel(tmp_path):
    lift = {"dpo": 0.0, "wdpo": 3.0, "dpo_mean_weight": 1.0}
    write_arms(
        tmp_path,
        fig6_losses_over_iterations.ARMS,
        lambda made, seed, t: 50 + 10 * seed + lift[made["loss.name"]] * made["selection.ratio"] * t,
    )
    data = collected(fig6_losses_over_iterations, tmp_path)
    last = {
        ratio: {rival: points[3]["win_score"] for rival, points in of.items()} for ratio, of in data["leads"].items()
    }
    assert last["0.5"]["dpo"] == pytest.approx({"mean": 4.5, "low": 4.5, "high": 4.5})
    assert last["1.0"]["dpo_mean_weight"]["mean"] == pytest.approx(6.0)
    wide = data["arms"]["wdpo-all-1.0"][3]["win_score"]
    assert wide["high"] - wide["low"] > 20


def test_that_a_control_was_not_run_is_said_with_what_it_leaves_open(tmp_path):
    module = fig6_losses_over_iterations
    write_arms(tmp_path, module.ARMS, lambda made, seed, t: 50.0 + t + seed)
    data = collected(module, tmp_path)
    assert "not run" not in "\n".join(module.FIGURE.lines(data))
    del data["leads"]["0.3"][module.CONTROL]
    assert "was not run at ratio 0.3. A lead of wDPO" in "\n".join(module.FIGURE.lines(data))
    data["leads"] = {ratio: {"dpo": leads["dpo"]} for ratio, leads in data["leads"].items()}
    without = "\n".join(module.FIGURE.lines(data))
    assert "was not run here. A lead of wDPO" in without and "cannot be attributed" in without


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [table1_time_shares, fig5_score_against_time, fig6_losses_over_iterations])
def test_equal_data_gives_equal_pictures(tmp_path, module):
    write_arms(tmp_path, module.ARMS, lambda made, seed, t: 40.0 + 5 * t + seed)
    data = collected(module, tmp_path)
    one, two = (Path(module.FIGURE.draw(data, tmp_path / name)[1]).read_bytes() for name in ("one", "two"))
    assert one == two and one.startswith(b"\x89PNG")
    assert all(len(line) < 170 for line in module.FIGURE.lines(data))


def test_figure_2_is_drawn_and_told_with_and_without_shares(tmp_path):
    figure = fig2_gain_by_reward_half.FIGURE
    for world, draws in {
        "gain": lambda rng: (np.arange(10.0), np.arange(10.0), np.arange(10.0) + np.linspace(2, 1, 10)),
        "flat": lambda rng: (np.arange(10.0), np.arange(10.0), np.arange(10.0)),
    }.items():
        write_draws(tmp_path / world, draws)
        data = collected(fig2_gain_by_reward_half, tmp_path / world)
        assert len(figure.draw(data, tmp_path / world / "fig2")) == 2
        assert ("not given, because" in figure.lines(data)[1]) == (world == "flat")


def test_a_long_line_below_a_picture_is_broken_and_stays_on_the_picture(tmp_path):
    import matplotlib.pyplot as plt

    from experiments.figures import style

    heights = []
    for text in ("short", "word " * 200, "a-name-with-hyphens " * 40):
        figure, _ = plt.subplots(figsize=(4, 3))
        style.stamp(figure, text, preview=False)
        below = figure.texts[0]
        assert below.get_window_extent().x1 < figure.bbox.width and below.get_text().split() == text.split()
        picture = plt.imread(style.save(figure, tmp_path / "picture")[1])
        heights.append(picture.shape[0])
        assert picture.shape[1] == 800 and (picture[-2:] == 1).all()  # the last line of text is above the edge
    assert heights[0] == 600 and heights[1] > heights[0] < heights[2]


def test_intervals_far_wider_than_most_are_cut_at_the_axis_and_marked():
    import matplotlib.pyplot as plt

    from experiments.figures import style

    usual = [{"mean": 60.0 + t, "low": 55.0 + t, "high": 65.0 + t} for t in range(5)]
    wide = {"mean": 62.0, "low": -60.0, "high": 184.0}
    assert style.in_sight(usual, 50, (-50, 150)) == (55, 69)
    assert style.in_sight([*usual, wide], 50, (-50, 150)) == (55, 69)
    assert style.in_sight([wide] * 3, 50, (-50, 150)) == (62, 62)
    assert style.in_sight([{"mean": 62.0, "low": None, "high": None}], 50, (-50, 150)) == (62, 62)
    _, axes = plt.subplots()
    assert style.mark_cut(axes, range(5), usual, (50, 70)) == 0 and not axes.lines
    assert style.mark_cut(axes, [0, 1], [usual[0], wide], (50, 70)) == 2
    assert [(line.get_marker(), list(line.get_xdata())) for line in axes.lines] == [("v", [1]), ("^", [1])]
    plt.close("all")
