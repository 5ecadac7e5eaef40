"""Prompts sharded over processes and over a Ray cluster: the single process's rows, in their order."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optune.config import SamplingSettings, load_config
from optune.generate import ENGINES, sampling_key
from optune.generate.prepare import in_batches
from optune.generate.shards import deal, in_order
from optune.types import Prompt, Response, UserError
from optune.utils.registry import resolve

TEXTS = ["add one and two", "sort cat dog", "list three fruits", "say moon four times please"]
PROMPTS = [Prompt(f"p{i}", TEXTS[i % 4] + " and one" * (i % 3), category="é") for i in range(22)]


def settings(**changes) -> SamplingSettings:
    return SamplingSettings(**{"max_new_tokens": 8, "max_prompt_tokens": 64, "batch_size": 8} | changes)


@hypothesis.settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 7), st.integers(1, 5), st.integers(1, 3))
def test_every_prompt_is_dealt_once_in_the_batches_of_one_process(lengths, rows, workers, n):
    ids, own = [[0] * length for length in lengths], settings(batch_size=rows, n=n)
    alone, shards = in_batches(ids, own), deal(in_batches(ids, own), workers)
    assert sorted(place for places in shards for place in places) == list(range(len(ids)))
    assert 1 <= len(shards) <= workers and all(shards)
    for places in shards:  # cut again by its worker, they are batches of the one process
        again = in_batches([ids[place] for place in places], own)
        assert all([places[j] for j in batch] in alone for batch in again)


def test_rows_come_back_in_the_prompts_order():
    answers = [
        [Response(f"p{i}", k, 0, (i,), "", "stop") for i in places for k in range(2)] for places in ([3, 0, 2], [1])
    ]
    found = in_order([[3, 0, 2], [1]], answers, 2)
    assert [(r.prompt_id, r.index) for r in found] == [(f"p{i}", k) for i in range(4) for k in range(2)]


def test_workers_are_of_hf_and_no_part_of_a_dump_unless_given():
    plain = load_config("nano")
    assert not {"workers", "ray"} & set(plain.model_dump()["generation"])
    assert sampling_key(plain.with_overrides({"generation.workers": 2}).sampling())["workers"] == 2
    with pytest.raises(UserError, match=r"generation: workers are of engine hf, not vllm"):
        plain.with_overrides({"generation.engine": "vllm", "generation.workers": 2})


def test_the_key_of_a_ray_stage_holds_what_samples_and_not_where():
    ray = {"generation.engine": "ray", "generation.ray": {"engine": "hf", "workers": 4, "address": "10.0.0.1:6379"}}
    assert sampling_key(load_config("nano").with_overrides(ray).sampling())["ray"] == {"engine": "hf", "workers": 4}


@pytest.mark.slow
def test_two_workers_give_exactly_the_single_workers_rows(random_llama):
    """Whole batches go to a worker, so that with one thread each not even the log-probabilities differ in a bit."""
    import torch

    sample, threads, seen = resolve(ENGINES, "hf", "engine"), torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        one = sample(random_llama, PROMPTS, settings(), seed=3, iteration=1)
        two = sample(
            random_llama,
            PROMPTS,
            settings(workers=2),
            seed=3,
            iteration=1,
            on_progress=lambda done, of: seen.append((done, of)),
        )
    finally:
        torch.set_num_threads(threads)
    assert [(r.prompt_id, r.index, r.token_ids, r.text) for r in two] == [
        (r.prompt_id, r.index, r.token_ids, r.text) for r in one
    ]
    assert two == one
    assert seen == sorted(seen) and seen[-1] == (44, 44)
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"optune.generate.hf_worker" in _read(p)]


@pytest.mark.slow
def test_a_worker_that_fails_is_told_and_its_log_is_kept(random_llama, tmp_path):
    import shutil

    shutil.copytree(random_llama, tmp_path / "torn")
    (tmp_path / "torn" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"hf worker ended with status 1 .*its log is") as error:
        resolve(ENGINES, "hf", "engine")(tmp_path / "torn", PROMPTS, settings(workers=2), seed=0, iteration=0)
    log = Path(str(error.value).split("its log is ")[1].rstrip("."))
    assert "No model can be loaded" in log.read_text()
    log.unlink()


def test_without_ray_one_sentence_says_what_to_install(random_llama, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="pip install ray"):
        resolve(ENGINES, "ray", "engine")(random_llama, PROMPTS, settings(engine="ray"), seed=0, iteration=0)


needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed here")


@needs_ray
@pytest.mark.slow
def test_a_ray_cluster_gives_the_single_process_rows(random_llama, monkeypatch):
    """A real cluster of one node on this machine; its workers are processes that end with their task."""
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    own = settings(engine="ray", ray={"address": None, "engine": "hf", "workers": 2})
    seen = []
    found = resolve(ENGINES, "ray", "engine")(
        random_llama, PROMPTS, own, seed=3, iteration=1, on_progress=lambda done, of: seen.append((done, of))
    )
    one = resolve(ENGINES, "hf", "engine")(random_llama, PROMPTS, settings(), seed=3, iteration=1)
    assert [(r.prompt_id, r.index, r.token_ids, r.text) for r in found] == [
        (r.prompt_id, r.index, r.token_ids, r.text) for r in one
    ]
    assert [r.logprob for r in found] == pytest.approx([r.logprob for r in one], abs=1e-4)
    assert seen[-1] == (44, 44)


def test_a_ray_cluster_that_is_not_there_is_told(random_llama, monkeypatch):
    import sys
    from types import ModuleType

    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))  # it is never asked
    own = settings(engine="ray", ray={"address": "127.0.0.1:1", "engine": "hf"})
    with pytest.raises(UserError, match=r"There is no Ray cluster at '127\.0\.0\.1:1'"):
        resolve(ENGINES, "ray", "engine")(random_llama, PROMPTS, own, seed=0, iteration=0)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""
