"""`pairs.keep`: fresh pairs train beside the reused ones of largest weight; the others are counted."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optune.config import RunConfig, load_config
from optune.finished.audit import audit_run
from optune.history import History, write_responses
from optune.loop.algorithm import run_optune
from optune.pairs.pairing import small_gaps, training_rows, without_places, write_pairs
from optune.plan.cost_model import training_pairs
from optune.types import Response, UserError
from optune.utils.files import read_json

GAPS = st.lists(st.floats(0, 5, allow_subnormal=False), min_size=1, max_size=12)


def history_of(folder: Path, old: list[float], fresh: list[float]) -> tuple[History, list[str]]:
    """A prompt for each gap: those of `old` were sampled in iteration 0 alone, those of `fresh` in 1 too."""
    history, ids = History(), [f"p{i}" for i in range(len(old) + len(fresh))]
    for t, gaps in enumerate((old + fresh, fresh)):
        rows = []
        for name, gap in zip(ids if t == 0 else ids[len(old) :], gaps, strict=True):
            rows += [Response(name, k, t, (1, k + 1), "ab"[k], "stop", 0.0, k * gap) for k in (0, 1)]
        history = history.append(folder / f"{t}.parquet")
        write_responses(history.files[-1], rows)
    return history, ids


@settings(max_examples=40)
@given(GAPS, GAPS, st.integers(0, 100))
def test_all_fresh_pairs_train_beside_the_reused_ones_of_largest_gap(tmp_path_factory, old, fresh, percent):
    folder = tmp_path_factory.mktemp("kept")
    history, ids = history_of(folder, old, fresh)
    dropped = small_gaps(training_rows(history, "latest", 1, ids), percent / 100, 1, "best_vs_worst", False)
    rows = without_places(training_rows(history, "latest", 1, ids), dropped)
    written = write_pairs(folder / "pairs.parquet", rows, "best_vs_worst", pa.array(ids))
    pairs = pq.read_table(folder / "pairs.parquet").to_pandas()
    gaps, reused = pairs["score_chosen"] - pairs["score_rejected"], pairs["chosen_iteration"] == 0
    assert sorted(gaps[~reused]) == sorted(gap for gap in fresh if gap)
    usable = sorted((gap for gap in old if gap), reverse=True)
    kept = math.ceil(Fraction(percent, 100) * len(usable))
    assert sorted(gaps[reused], reverse=True) == usable[:kept]
    assert len(pairs) + sum(written.left_out.values()) + len(dropped) == len(ids)


@pytest.fixture(scope="module")
def own(config: RunConfig) -> RunConfig:
    return config.with_overrides({"iterations": 1})


@pytest.fixture(scope="module")
def trained(own, tmp_path_factory):
    """By what is kept: the folder of a finished run, and the stages of its iteration 1."""
    made = {}
    for keep in (None, 1.0, 0.5, 0.0):
        run_dir = tmp_path_factory.mktemp("run")
        result = run_optune(own.with_overrides({"pairs.keep": keep}), run_dir)
        made[keep] = run_dir, {e["stage"]: e for e in result.stages if e["iteration"] == 1}
    return made


def counts_of(trained, keep):
    return trained[keep][1]["pairs"]["counts"]


def test_keeping_all_trains_the_same_policy_and_keeping_none_on_fresh_pairs_alone(own, trained, tmp_path):
    assert trained[1.0][1]["train"]["digest"] == trained[None][1]["train"]["digest"]
    fresh = run_optune(own.with_overrides({"pairs.view": "fresh"}), tmp_path)
    (policy,) = [e["digest"] for e in fresh.stages if (e["iteration"], e["stage"]) == (1, "train")]
    assert trained[0.0][1]["train"]["digest"] == policy


def test_what_is_not_kept_is_counted_and_the_audit_agrees(trained):
    whole, half = counts_of(trained, None), counts_of(trained, 0.5)
    assert half["reused"] == math.ceil(whole["reused"] / 2)
    assert half["left_out"]["reused_of_small_weight"] == whole["reused"] - half["reused"]
    assert whole["pairs"] - whole["reused"] == half["pairs"] - half["reused"]
    for run_dir, _ in trained.values():
        assert audit_run(run_dir).problems == []


def test_iteration_0_has_nothing_to_keep(trained):
    digests = set()
    for run_dir, _ in trained.values():
        stages = read_json(run_dir / "manifest.json")["stages"]
        digests |= {e["digest"] for e in stages if (e["iteration"], e["stage"]) == (0, "pairs")}
    assert len(digests) == 1


def test_a_share_outside_0_to_1_or_another_view_is_refused(own):
    with pytest.raises(UserError, match=r"pairs\.keep"):
        own.with_overrides({"pairs.keep": 1.5})
    with pytest.raises(UserError, match="keep is of view 'latest'"):
        own.with_overrides({"pairs.keep": 0.5, "pairs.view": "fresh"})


def test_the_plan_counts_the_pairs_that_train():
    config = load_config("paper", overrides=["pairs.keep=0.25", "selection.ratio=0.5"])
    assert [training_pairs(config, 100, t) for t in (0, 1)] == [100, 63]
