"""The memory peak of a stage is that stage's own, also where one is measured inside another."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from optune.store import StageStore
from optune.utils.files import read_json
from optune.utils.memory import memory_peak

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux resets a peak")


def hold(megabytes: int) -> None:
    np.ones(megabytes * 125_000).sum()  # touched, then freed


def test_a_peak_is_that_of_its_block_and_not_of_what_came_before():
    with memory_peak() as large:
        hold(400)
    with memory_peak() as small:
        hold(1)
    assert large["memory_peak_gb"] > small["memory_peak_gb"] + 0.3


def test_an_outer_block_has_at_least_the_inner_ones_peak_and_keeps_its_own():
    with memory_peak() as outer:
        hold(400)
        with memory_peak() as inner:
            hold(1)
    assert outer["memory_peak_gb"] > inner["memory_peak_gb"] + 0.3


def test_a_stage_records_its_peak_under_timing_and_nowhere_in_its_key_or_digest(tmp_path):
    made = [
        StageStore(tmp_path / name).run("x", lambda folder, size=size: hold(size) or {}, fields={}, inputs={})
        for name, size in (("a", 1), ("b", 300))
    ]
    small, large = (read_json(artefact / "stage.json")["timing"]["memory_peak_gb"] for artefact in made)
    assert large > small + 0.2
    assert made[0].key == made[1].key and made[0].digest == made[1].digest
