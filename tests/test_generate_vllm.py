"""The `vllm` engine: what goes to its workers and comes back (with a stand-in for vLLM), and vLLM itself (slow)."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import pytest

from optune.config import SamplingSettings, load_config
from optune.generate import ENGINES, sampling_key
from optune.generate.prepare import request_seed
from optune.prompts.tokens import encode_prompts
from optune.types import Prompt, UserError
from optune.utils.registry import resolve
from optune.utils.worker_processes import free_port

EOS = 1
PROMPTS = [Prompt(f"p{i}", text) for i, text in enumerate(["add one and two", "sort cat dog", "list three fruits"] * 4)]

# Answers with two tokens that depend on prompt and seed, and with what it was given in the log.
STAND_IN = """
import os, subprocess
from pathlib import Path
from types import SimpleNamespace as Box

class SamplingParams(Box): pass

class LLM:
    def __init__(self, **arguments):
        print(sorted(arguments.items()), flush=True)
        if arguments["max_num_seqs"] == 13: raise RuntimeError("no memory left")
        if "PIDS" in os.environ:  # vLLM, too, has its engine in a process of its own
            engine = subprocess.Popen(["sleep", "600"])
            for pid in (os.getpid(), engine.pid): Path(os.environ["PIDS"], str(pid)).touch()

    def generate(self, prompts, params, use_tqdm):
        print([vars(p) for p in params][:1], flush=True)
        outputs = []
        for prompt, param in zip(prompts, params, strict=True):
            ids = [5 + (param.seed + sum(prompt["prompt_token_ids"])) % 90, param.stop_token_ids[0]]
            outputs.append(Box(token_ids=ids, finish_reason="stop", cumulative_logprob=-1.5))
        return [Box(outputs=[o]) for o in outputs]
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> str:
    """An interpreter whose vLLM is the stand-in."""
    folder = tmp_path_factory.mktemp("stand-in")
    (folder / "vllm.py").write_text(STAND_IN)
    (folder / "vllm-9.9.dist-info").mkdir()
    (folder / "vllm-9.9.dist-info" / "METADATA").write_text("Name: vllm\nVersion: 9.9\n")
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture(scope="module")
def sample():
    return resolve(ENGINES, "vllm", "engine")


def settings(python, batch_size=4, **options):
    return SamplingSettings(
        engine="vllm", max_new_tokens=8, max_prompt_tokens=32, batch_size=batch_size, vllm={"python": python} | options
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_every_response_comes_back_in_its_place_from_any_number_of_workers(sample, random_llama, python, workers):
    from transformers import AutoTokenizer

    seen = []
    own = settings(python, data_parallel_size=workers)
    responses = sample(
        random_llama, PROMPTS, own, seed=3, iteration=1, on_progress=lambda done, of: seen.append((done, of))
    )
    tokenizer = AutoTokenizer.from_pretrained(random_llama)
    ids, _ = encode_prompts(tokenizer, PROMPTS, 32)
    expected = [
        (p.prompt_id, k, (5 + (request_seed(3, 1, p.prompt_id, k) + sum(row)) % 90, EOS))
        for p, row in zip(PROMPTS, ids, strict=True)
        for k in range(2)
    ]
    assert [(r.prompt_id, r.index, r.token_ids) for r in responses] == expected
    assert all((r.logprob, r.finish_reason, r.iteration, r.retokenized) == (-1.5, "stop", 1, False) for r in responses)
    assert all(r.text == tokenizer.decode(r.token_ids[:1]) for r in responses)
    assert seen[-1] == (24, 24)


def test_the_worker_is_told_to_sample_the_policy_as_it_is(random_llama, python):
    from optune.generate.vllm import _job

    own = settings(python, tensor_parallel_size=2, options={"enforce_eager": True})
    job = _job(str(random_llama), own, own.vllm, {EOS, 7})
    assert job["llm"]["load_format"] == "safetensors" and job["llm"]["logprobs_mode"] == "raw_logprobs"
    assert job["llm"]["tensor_parallel_size"] == 2 and job["llm"]["enforce_eager"] is True
    assert job["llm"]["max_model_len"] == 40 and job["llm"]["max_num_seqs"] == 4
    assert job["sampling"]["stop_token_ids"] == [EOS, 7] and job["sampling"]["top_p"] == 0.9


def test_a_worker_that_fails_is_told_and_its_log_is_kept(sample, random_llama, python):
    with pytest.raises(UserError, match=r"no memory left.*its log is") as error:
        sample(random_llama, PROMPTS, settings(python, batch_size=13), seed=0, iteration=0)
    log = Path(str(error.value).split("its log is ")[1].rstrip("."))
    assert "Traceback" in log.read_text()
    log.unlink()


def test_nothing_of_a_worker_is_left_when_its_responses_are_back(sample, random_llama, python, tmp_path, monkeypatch):
    """So its memory is free before training: neither the workers nor what they started."""
    monkeypatch.setenv("PIDS", str(tmp_path))
    sample(random_llama, PROMPTS, settings(python, data_parallel_size=2), seed=0, iteration=0)
    pids = [path.name for path in tmp_path.iterdir()]
    assert len(pids) == 4
    for pid in pids:
        assert _ended(pid), "still running"


def _ended(pid: str) -> bool:
    """Whether a process that was killed is gone, within the moments that this takes on a busy machine."""
    until = time.monotonic() + 30
    while _read(Path("/proc") / pid / "cmdline") != b"":  # one that has ended has no command
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_each_worker_gets_gpus_of_its_own(monkeypatch):
    import torch

    from optune.utils.worker_processes import worker_devices

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert worker_devices(3, 2, "sizes") == [{}] * 3  # a CPU
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert worker_devices(2, 2, "sizes") == [{"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-a,6,7")
    assert worker_devices(3, 1, "sizes")[1:] == [{"CUDA_VISIBLE_DEVICES": "GPU-a"}, {"CUDA_VISIBLE_DEVICES": "6"}]
    with pytest.raises(UserError, match="sizes: 3 x 2 GPUs are more than the 4 here"):
        worker_devices(3, 2, "sizes")


@pytest.mark.parametrize("python", ["no/such/python", sys.executable])
def test_an_interpreter_without_vllm_is_told(sample, random_llama, python):
    with pytest.raises(UserError, match="make setup-vllm"):
        sample(random_llama, PROMPTS, settings(python), seed=0, iteration=0)


def test_the_key_of_a_stage_holds_vllms_version_and_sizes_but_not_where_it_lies(python):
    facts = sampling_key(settings(python, data_parallel_size=2))
    assert facts["vllm"] == {"version": "9.9", "data_parallel_size": 2, "tensor_parallel_size": 1, "options": {}}
    assert "python" not in str(facts)


def test_options_of_other_engines_change_no_key():
    """The key of `hf` is what it was before there were other engines."""
    plain = load_config("nano").sampling()
    assert sampling_key(plain) == plain.model_dump() and not {"vllm", "server"} & set(plain.model_dump())
    other = load_config("nano", overrides=["generation.vllm.data_parallel_size=2", "generation.server.concurrency=2"])
    assert sampling_key(other.sampling()) == sampling_key(plain)
    server = ["generation.engine=server", "generation.server.base_url=http://127.0.0.1:1/v1"]
    assert sampling_key(load_config("nano", overrides=server).sampling()) == sampling_key(plain) | {"engine": "server"}


@pytest.fixture(scope="module")
def llama(tmp_path_factory, random_llama) -> Path:
    """A random Llama with heads of a size that vLLM has kernels for."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama")
    config = LlamaConfig.from_pretrained(random_llama, hidden_size=64, head_dim=32, initializer_range=0.2)
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(random_llama).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_real_vllm_samples_the_policy_and_its_logprobs_are_ours(sample, llama, real_python):
    """Greedy tokens are the `hf` engine's, and log-probabilities those of the whole distribution at temperature 1."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from optune.training.reference import sequence_logprobs

    own = settings(real_python, batch_size=32, options={"enforce_eager": True})
    responses = sample(llama, PROMPTS, own, seed=0, iteration=0)
    tokenizer = AutoTokenizer.from_pretrained(llama)
    ids, _ = encode_prompts(tokenizer, PROMPTS, 32)
    by_id = dict(zip((p.prompt_id for p in PROMPTS), ids, strict=True))
    rows = [(by_id[r.prompt_id], list(r.token_ids)) for r in responses]
    ours = sequence_logprobs(AutoModelForCausalLM.from_pretrained(llama), rows, 0, 8)
    assert [r.logprob for r in responses] == pytest.approx(ours, abs=1e-2)
    assert len({r.token_ids for r in responses}) > 20
    for r in responses:
        assert r.finish_reason == ("stop" if r.token_ids[-1] == EOS else "length")
        assert EOS not in r.token_ids[:-1] and 1 <= len(r.token_ids) <= 8
        assert r.text == tokenizer.decode(r.token_ids, skip_special_tokens=True)
    greedy = own.model_copy(update={"temperature": 0.0, "n": 1})
    theirs = sample(llama, PROMPTS, greedy, seed=0, iteration=0)
    expected = resolve(ENGINES, "hf", "engine")(llama, PROMPTS, greedy, seed=0, iteration=0)
    assert [r.token_ids for r in theirs] == [r.token_ids for r in expected]
    assert not math.isnan(theirs[0].logprob)
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"vllm_worker" in _read(p)]


@pytest.mark.slow
def test_a_policy_split_over_two_processes_gives_its_tokens(sample, llama, real_python):
    """`tensor_parallel_size`: real vLLM, each process with half of the heads; greedy tokens are the `hf` engine's."""
    own = settings(real_python, batch_size=32, tensor_parallel_size=2, options={"enforce_eager": True})
    greedy = own.model_copy(update={"temperature": 0.0, "n": 1})
    split = sample(llama, PROMPTS, greedy, seed=0, iteration=0)
    expected = resolve(ENGINES, "hf", "engine")(llama, PROMPTS, greedy, seed=0, iteration=0)
    assert [r.token_ids for r in split] == [r.token_ids for r in expected]
    assert [r.logprob for r in split] == pytest.approx([r.logprob for r in expected], abs=1e-2)
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"vllm_worker" in _read(p)]


@pytest.mark.slow
def test_the_server_engine_samples_from_a_real_vllm_server(llama, real_python, monkeypatch):
    monkeypatch.setenv("VLLM_NO_USAGE_STATS", "1")
    port = free_port()
    serve = f"{real_python} -m vllm.entrypoints.openai.api_server"  # `vllm serve` wants a package of that very name
    options = f"--host 127.0.0.1 --port {port} --dtype float32 --enforce-eager --max-model-len 64"
    own = SamplingSettings(
        engine="server",
        max_new_tokens=8,
        max_prompt_tokens=32,
        server={"base_url": f"http://127.0.0.1:{port}/v1", "command": f"{serve} --model {{model}} {options}"},
    )
    responses = resolve(ENGINES, "server", "engine")(llama, PROMPTS, own, seed=0, iteration=0)
    assert len({r.token_ids for r in responses}) > 20
    assert all(r.logprob is not None and not r.retokenized for r in responses)
    assert all(r.finish_reason == ("stop" if r.token_ids[-1] == EOS else "length") for r in responses)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""
