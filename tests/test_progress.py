"""A run's bar draws every finished stage and its last state, however little time has passed."""

from __future__ import annotations

import pytest

from optune.config import load_config
from optune.loop.progress import Progress

STAGES = ("prompts", "select", "generate", "score", "pairs", "train", "kl")


@pytest.fixture
def config():
    return load_config("nano", overrides=["iterations=1"])


def test_every_stage_is_drawn_however_fast_it_was(config, capsys):
    with Progress(config) as progress:
        for iteration in (0, 1):
            for stage in STAGES:
                progress.stage({"iteration": iteration, "stage": stage})
    drawn = capsys.readouterr().err
    assert all(f"iteration {t} {stage}" in drawn for t in (0, 1) for stage in STAGES)
    last = drawn.rstrip().rpartition("\r")[2]
    assert last.startswith("100%") and last.endswith("finished")


def test_the_label_names_the_stage_under_way_and_not_the_one_before(config, capsys):
    with Progress(config) as progress:
        for done, under_way in (("prompts", "select"), ("generate", "score"), ("train", "kl")):
            progress.stage({"iteration": 0, "stage": done})
            assert capsys.readouterr().err.rstrip().endswith(f"iteration 0 {under_way}")
        progress.stage({"iteration": 0, "stage": "kl"})
        assert capsys.readouterr().err.rstrip().endswith("iteration 1 prompts")


def test_a_run_that_stops_shows_where_it_was(config, capsys):
    with pytest.raises(KeyboardInterrupt), Progress(config) as progress:
        progress.stage({"iteration": 0, "stage": "prompts"})
        progress.sampled(1, of=4)
        progress.sampled(3, of=4)
        raise KeyboardInterrupt
    shown = progress.sampling[0] * 3 / 4 / progress.bar.total
    assert capsys.readouterr().err.rstrip().rpartition("\r")[2].startswith(f"{shown:4.0%}")


def test_the_bar_never_passes_its_end(config, capsys):
    with Progress(config) as progress:
        for _ in range(9):
            progress.stage({"iteration": 1, "stage": "train"})
    assert progress.bar.n == progress.bar.total
