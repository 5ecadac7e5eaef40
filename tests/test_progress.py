"""A run's bar draws every finished stage and its last state, however little time has passed."""

from __future__ import annotations

import sys
import time

import pytest

from optune.config import load_config
from optune.loop.progress import Progress

STAGES = ("prompts", "select", "generate", "score", "pairs", "train", "kl")


@pytest.fixture
def config():
    return load_config("nano", overrides=["iterations=1"])


def entry(iteration, stage, seconds=0.0, **counts):
    """A finished stage as `on_stage` gets it, as far as the line reads it."""
    counts = {"reward_mean": None} | counts if stage == "score" else counts
    return {"iteration": iteration, "stage": stage, "counts": counts, "timing": {"wall_s": seconds}}


def test_every_stage_is_drawn_however_fast_it_was(config, capsys):
    with Progress(config) as progress:
        for iteration in (0, 1):
            for stage in STAGES:
                progress.stage(entry(iteration, stage))
    drawn = capsys.readouterr().err
    assert all(f"iteration {t} {stage}" in drawn for t in (0, 1) for stage in STAGES)
    last = drawn.rstrip().rpartition("\r")[2]
    assert last.startswith("100%") and last.endswith("finished")


def test_the_label_names_the_stage_under_way_and_not_the_one_before(config, capsys):
    with Progress(config) as progress:
        for done, under_way in (("prompts", "select"), ("generate", "score"), ("train", "kl")):
            progress.stage(entry(0, done))
            assert capsys.readouterr().err.rstrip().endswith(f"iteration 0 {under_way}")
        progress.stage(entry(0, "kl"))
        assert capsys.readouterr().err.rstrip().endswith("iteration 1 prompts")


def test_sampling_that_tells_every_step_does_not_fill_a_log(config, capsys):
    with Progress(config) as progress:
        for stage in ("prompts", "select"):
            progress.stage(entry(0, stage))
        capsys.readouterr()
        for done in range(1, 1000):
            progress.sampled(done, of=1000)
        assert 1 <= capsys.readouterr().err.count("responses/s") <= 2
    assert progress.bar.n == pytest.approx(progress.sampling[0] * 0.999)


def test_no_time_left_is_named_from_the_first_step_of_a_sampling(config, capsys):
    with Progress(config) as progress:
        for stage in ("prompts", "select"):
            progress.stage(entry(0, stage))
        progress.since -= 20.0  # of loading and of the prompts
        progress.sampled(1, of=100)
        assert "left" not in capsys.readouterr().err
        progress.since -= 40.0
        progress.drawn = 0.0
        progress.sampled(1, of=100)
        assert "left" in capsys.readouterr().err


def test_a_run_that_stops_shows_where_it_was(config, capsys):
    with pytest.raises(KeyboardInterrupt), Progress(config) as progress:
        progress.stage(entry(0, "prompts"))
        progress.sampled(1, of=4)
        progress.sampled(3, of=4)
        raise KeyboardInterrupt
    shown = progress.sampling[0] * 3 / 4 / progress.bar.total
    assert capsys.readouterr().err.rstrip().rpartition("\r")[2].startswith(f"{shown:4.0%}")


def test_the_bar_never_passes_its_end(config, capsys):
    with Progress(config) as progress:
        for _ in range(9):
            progress.stage(entry(1, "train"))
    assert progress.bar.n == progress.bar.total


def test_the_line_tells_speed_mean_reward_and_the_seconds_of_all_stages_to_come(config, capsys):
    """At ratio 0.5 sampling and rewarding take half as long after iteration 0, the rest as long as before."""
    config = config.with_overrides({"selection.ratio": 0.5})
    seconds = {"generate": 60.0, "score": 20.0, "train": 300.0, "kl": 10.0}
    with Progress(config) as progress:
        for stage in STAGES:
            counts = {"generate": {"tokens": 72_000}, "score": {"reward_mean": -1.25}}.get(stage, {})
            progress.stage(entry(0, stage, seconds.get(stage, 0.0), **counts))
        shown = capsys.readouterr().err
        assert "1,200 tokens/s, mean reward -1.25, " in shown
        assert shown.rstrip().endswith("05:50 left, iteration 1 prompts")
        for stage in ("prompts", "select"):
            progress.stage(entry(1, stage))
        progress.since -= 10.0
        progress.sampled(1, of=4)  # so 30 s more of it
        assert "0.1 responses/s, mean reward -1.25, 05:50 left, iteration 1 generate" in capsys.readouterr().err
        for stage in STAGES[2:]:
            progress.stage(entry(1, stage, 1.0))
    assert capsys.readouterr().err.rstrip().endswith("finished")


def test_the_first_sampling_tells_what_is_left_before_any_stage_has_been_timed(config, capsys):
    with Progress(config.with_overrides({"selection.strategy": "all", "selection.ratio": 1.0})) as progress:
        progress.stage(entry(0, "prompts"))
        progress.stage(entry(0, "select"))
        progress.since -= 35.0
        progress.sampled(1, of=2)  # 70 s of sampling, so 30 s of training, in each of two iterations
    assert "02:45 left, iteration 0 generate" in capsys.readouterr().err


def test_nothing_is_said_of_the_time_left_before_anything_was_sampled(config, capsys):
    with Progress(config) as progress:
        for stage in ("prompts", "select"):
            progress.stage(entry(0, stage, 1.0))
        assert "left" not in capsys.readouterr().err
        progress.stage(entry(0, "generate", 60.0))
        assert "left" in capsys.readouterr().err


@pytest.mark.parametrize("watched", [True, False])
def test_the_time_gone_is_drawn_again_on_a_screen_while_a_stage_tells_nothing(config, capsys, monkeypatch, watched):
    monkeypatch.setattr("optune.loop.progress.TICK_S", 0.005)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: watched)
    with Progress(config) as progress:
        progress.stage(entry(0, "generate", 1.0))
        drawn = capsys.readouterr().err
        until = time.monotonic() + 5
        while not (again := capsys.readouterr().err) and watched and time.monotonic() < until:
            time.sleep(0.01)
    assert "iteration 0 score" in drawn and ("iteration 0 score" in again) == watched


def test_a_run_without_a_kl_stage_names_none(config, capsys):
    with Progress(config.with_overrides({"kl_prompts": 0})) as progress:
        progress.stage(entry(0, "train"))
    assert capsys.readouterr().err.rstrip().endswith("iteration 1 prompts")
