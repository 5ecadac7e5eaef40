"""Small real checkpoints and prompt sets, built once per test session."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("patient", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("patient")

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may wait for a network
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}<user> {{ message['content'] }} "
    "{% else %}<assistant> {{ message['content'] }} </s> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


@pytest.fixture(scope="session")
def random_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder: a random two-layer Llama with a word-level tokenizer over the sandbox's vocabulary."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from optune.sandbox.words import VOCABULARY

    words = ["<pad>", "</s>", "<unk>", "<user>", "<assistant>", *VOCABULARY]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=128,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=1,
        )
    )
    folder = tmp_path_factory.mktemp("random-llama")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def chatml_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder shaped like SmolLM2-135M-Instruct: a random Llama over bytes whose padding is its end token.

    Its template is ChatML with a default system line, and its tokenizer adds no token of its own.
    """
    import torch
    from packaged_wheel import SPECIAL, TEMPLATE
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(word, special=True) for word in SPECIAL])
    unknown, start, end = SPECIAL
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=start, eos_token=end, pad_token=end, unk_token=unknown
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            initializer_range=0.3,
            pad_token_id=2,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    torch.nn.init.normal_(model.get_input_embeddings().weight.data[2], std=0.3)  # transformers starts padding at zero
    folder = tmp_path_factory.mktemp("chatml-llama")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def prompt_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 sandbox training prompts as Parquet."""
    from optune.prompts.files import write_prompts
    from optune.sandbox.prompts import prompts

    path = tmp_path_factory.mktemp("prompts") / "train.parquet"
    write_prompts(path, prompts("train", 64))
    return path


@pytest.fixture(scope="session")
def config(random_llama: Path, prompt_file: Path):
    """A two-iteration run on the random Llama with gold plus noise as its reward."""
    from optune.config import parse_config

    return parse_config(
        {
            "iterations": 1,
            "threads": 1,
            "policy": {"model": str(random_llama)},
            "reward": {"kind": "gold", "noise": 0.5},
            "prompts": {"path": str(prompt_file), "max_tokens": 32},
            "generation": {"max_new_tokens": 8, "batch_size": 64},
            "training": {"learning_rate": 1e-4, "batch_size": 16, "micro_batch_size": 16},
        },
        "test",
    )


@pytest.fixture
def real_python(monkeypatch) -> str:
    """The interpreter that has vLLM; on a CPU that others use, without compiling and without claiming a core."""
    for name, value in {"KVCACHE_SPACE": "1", "OMP_THREADS_BIND": "nobind"}.items():
        monkeypatch.setenv(f"VLLM_CPU_{name}", value)
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    python = Path(__file__).resolve().parents[1] / ".venv-vllm" / "bin" / "python"
    if not (Path(__file__).resolve().parents[1] / ".venv-vllm" / ".ready").exists():
        pytest.skip("vLLM is not installed; `make test-slow` or `make setup-vllm-cpu` does it where that is possible")
    return str(python)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    """A real Chromium, for the modules marked with `real_browser.NEEDS_BROWSER`."""
    from real_browser import started

    yield from started(tmp_path_factory.mktemp("profile"))
