"""The packaged model itself: how its text is read, and one tiny run of the loop on it. Needs the package index once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optune.config import SamplingSettings
from optune.packaged_models.cache import packaged_model
from optune.prompts.tokens import encode_prompts
from optune.store import content_hash
from optune.types import Prompt, UserError
from optune.utils.checkpoints import load_generation_config, load_tokenizer
from optune.utils.files import read_json

pytestmark = pytest.mark.slow
END = 2
QUESTIONS = ("What is the capital of France?", "Name three colours.", "Say hello.", "How many legs has a spider?")


class Brevity:
    """A reward for the tiny run: the shorter the better."""

    def __init__(self, settings):
        pass

    def score(self, prompts, responses, seed):
        return [-float(len(response.text)) for response in responses]


@pytest.fixture(scope="module")
def policy():
    try:
        return packaged_model("smollm2-135m-instruct")
    except UserError as error:
        if "could not be downloaded" in str(error):
            pytest.skip(str(error))
        raise


def test_the_tokenizer_writes_the_default_system_line_and_splits_digits_off(policy):
    tokenizer = load_tokenizer(policy)
    ends = {tokenizer.pad_token_id, tokenizer.eos_token_id, load_generation_config(policy).eos_token_id}
    assert ends == {END} and tokenizer.convert_ids_to_tokens(END) == "<|im_end|>"
    (ids,), _ = encode_prompts(tokenizer, [Prompt("p", "Hi")], 64)
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert tokenizer.decode(ids) == (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.tokenize("x\n\n12") == ["x", "ĊĊ", "1", "2"]
    text = "Naïve “quotes”, 2024 — and\ttabs.\n\n1. one"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_it_answers_and_ends(policy):
    from optune.generate.hf import sample

    settings = SamplingSettings(n=1, temperature=0.0, max_new_tokens=48)
    prompts = [Prompt(f"q{i}", text) for i, text in enumerate(QUESTIONS)]
    answers = sample(policy, prompts, settings, seed=0, iteration=0)
    assert "Paris" in answers[0].text
    assert answers[0].finish_reason == "stop" and answers[0].token_ids[-1] == END


@pytest.mark.parametrize("sampler", ["inverse_cdf", None])
def test_in_fp32_neither_batch_nor_threads_reach_the_tokens_of_a_real_vocabulary(policy, sampler):
    from optune.generate.hf import sample
    from optune.utils.threads import cpu_threads

    prompts = [Prompt(f"q{i}", text) for i, text in enumerate(QUESTIONS)]

    def drawn(batch_size, threads):
        settings = SamplingSettings(
            n=2, temperature=1.0, top_p=0.9, max_new_tokens=24, batch_size=batch_size, sampler=sampler
        )
        with cpu_threads(threads):
            return [answer.token_ids for answer in sample(policy, prompts, settings, seed=0, iteration=0)]

    assert drawn(8, 1) == drawn(3, 2)


def test_a_tiny_run_trains_it_and_its_hash_stands_on_what_was_made(policy, tmp_path):
    from optune.__main__ import main

    prompts, config, run_dir = tmp_path / "prompts.jsonl", tmp_path / "mine.yaml", tmp_path / "run"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in QUESTIONS))
    config.write_text(
        f"preset: smollm2\niterations: 1\nevaluation: null\nreward: {{kind: '{__name__}:Brevity'}}\n"
        f"prompts: {{path: {prompts}}}\ngeneration: {{max_new_tokens: 16}}\ntraining: {{batch_size: 4}}\n"
    )
    assert main(["run", "--config", str(config), "--run-dir", str(run_dir)]) == 0
    stages = read_json(run_dir / "manifest.json")["stages"]
    made = {(e["stage"], e["iteration"]): read_json(Path(e["path"]) / "stage.json") for e in stages}
    assert made["generate", 0]["inputs"]["policy"] == content_hash(policy)
    assert made["train", 0]["inputs"]["policy"] == made["train", 0]["inputs"]["reference"] == content_hash(policy)
    assert made["generate", 0]["counts"]["prompts"] == 4 and made["generate", 1]["counts"]["prompts"] == 2
    assert made["kl", 0]["counts"]["kl_to_sft"] is not None
    trained = load_tokenizer(run_dir / "policy")
    assert trained.tokenize("x\n\n12") == ["x", "ĊĊ", "1", "2"] and trained.chat_template


def test_llama_cpps_own_server_gives_the_trainers_tokens_and_log_probabilities(policy, tmp_path):
    """It serves the file that the policy was dequantised from, and rounds what goes into its products to 8 bits."""
    from transformers import AutoModelForCausalLM

    from experiments.bench.sampling_server import MISSING, command, llama_server
    from optune.config import ServerConfig
    from optune.generate import server
    from optune.packaged_models.catalogue import known_model
    from optune.packaged_models.fetch import fetch_gguf
    from optune.training.reference import sequence_logprobs
    from optune.utils.checkpoints import load_model
    from optune.utils.worker_processes import free_port

    if not (executable := llama_server()):
        pytest.skip(MISSING)
    port, file = free_port(), fetch_gguf(known_model("smollm2-135m-instruct"), tmp_path)
    running = ServerConfig(
        base_url=f"http://127.0.0.1:{port}/v1", command=command(executable, file, port, room=4096, threads=1)
    )
    settings = SamplingSettings(n=2, temperature=1.0, top_p=0.9, max_new_tokens=16, server=running)
    prompts = [Prompt(f"q{i}", question) for i, question in enumerate(QUESTIONS)]
    answers = server.sample(str(policy), prompts, settings, seed=0, iteration=0)

    tokenizer = load_tokenizer(policy)
    ids, _ = encode_prompts(tokenizer, prompts, 64)
    rows = [(ids[i // 2], list(answer.token_ids)) for i, answer in enumerate(answers)]
    ours = sequence_logprobs(load_model(AutoModelForCausalLM, policy, dtype="float32"), rows, END, 8)
    for answer, logprob in zip(answers, ours, strict=True):
        assert not answer.retokenized and 0 < len(answer.token_ids) <= 16
        assert answer.text == tokenizer.decode(answer.token_ids, skip_special_tokens=True)
        assert (answer.finish_reason == "stop") == (answer.token_ids[-1] == END)
        assert abs(answer.logprob - logprob) < 0.15 * len(answer.token_ids)  # nats
    assert len({answer.text for answer in answers}) > len(QUESTIONS)  # two of a prompt are two draws
