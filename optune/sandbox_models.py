"""The sandbox's SFT policy, reward model and offline baseline: built once per seed, cached by content.

The policy learns from the teacher's demonstrations, starting from random weights; the reward model (Eq. 1) only from
noisy preferences over responses of the SFT policy and of other writers; the baseline is the SFT policy after offline DPO
on the other writers' responses. The three use disjoint prompts.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optune import sandbox
from optune.reward_training import train_reward_model
from optune.sft import TrainingSettings, common_arguments, train_sft
from optune.types import Prompt

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

STAGE_VERSION = 1
_PACKAGES = ("torch", "transformers", "trl", "tokenizers")
_SPECIAL_TOKENS = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
_ROLE_TOKENS = ("<user>", "<assistant>")
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<assistant> ' + message['content'] + ' <eos> ' }}"
    "{% else %}{{ '<user> ' + message['content'] + ' ' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """Sizes of the three models' architecture and training. The defaults make the `tiny` sandbox."""

    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    max_new_tokens: int = 16
    sft_prompts: int = 12288
    sft: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            learning_rate=2e-3, num_train_epochs=3, batch_size=64, max_length=32, weight_decay=0.01, held_out=0.02
        )
    )
    preference_prompts: int = 8192
    samples_per_prompt: int = 4
    comparisons_per_prompt: int = 4
    reward: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            learning_rate=5e-4, num_train_epochs=1, batch_size=64, max_length=32, held_out=0.05
        )
    )
    offline_prompts: int = 2048
    offline: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(learning_rate=3e-5, batch_size=64, max_length=32)
    )
    offline_beta: float = 0.1


TINY = BuildSettings()
NANO = BuildSettings(
    hidden_size=32,
    layers=1,
    heads=2,
    sft_prompts=640,
    sft=TrainingSettings(learning_rate=1e-2, batch_size=64, max_length=32),
    preference_prompts=256,
    samples_per_prompt=2,
    reward=TrainingSettings(learning_rate=3e-3, batch_size=64, max_length=32, held_out=0.2),
    offline_prompts=64,
)


@dataclass(frozen=True, slots=True)
class SandboxModels:
    """Folders of one build, each loadable by transformers, and what was measured while building."""

    policy: Path
    reward: Path
    baseline: Path
    report: dict[str, Any]


def build(build_seed: int, root: Path, settings: BuildSettings = TINY) -> SandboxModels:
    """The models of one build seed, from `root/<key>/` if they are there, else built there (minutes for TINY).

    The key covers the sandbox's content, the settings, the seed and the versions of the packages that compute.
    """
    folder = root / build_key(build_seed, settings)
    if not folder.exists():
        root.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".building-", dir=root))
        try:
            report = _build(build_seed, unfinished, settings)
            (unfinished / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            os.replace(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return SandboxModels(folder / "policy", folder / "reward", folder / "baseline", report)


def build_key(build_seed: int, settings: BuildSettings = TINY) -> str:
    """Name of a build's folder: changes with anything that changes the models."""
    return f"seed{build_seed}-{hashlib.sha256(json.dumps(_identity(build_seed, settings)).encode()).hexdigest()[:12]}"


def _identity(build_seed: int, settings: BuildSettings) -> dict[str, Any]:
    return {
        "sandbox_version": sandbox.VERSION,
        "sandbox_hash": sandbox.content_hash(),
        "stage_version": STAGE_VERSION,
        "build_seed": build_seed,
        "settings": asdict(settings),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def _build(seed: int, folder: Path, settings: BuildSettings) -> dict[str, Any]:
    start = time.perf_counter()
    tokenizer = word_tokenizer()
    seconds: dict[str, float] = {}
    report: dict[str, Any] = _identity(seed, settings)
    for part, train in (("policy", _train_policy), ("reward", _train_reward), ("baseline", _train_baseline)):
        part_start = time.perf_counter()
        report[part] = train(seed, folder, settings, tokenizer)
        seconds[part] = time.perf_counter() - part_start
    seconds["total"] = time.perf_counter() - start
    return {**report, "timing": seconds}


def _train_policy(seed: int, folder: Path, settings: BuildSettings, tokenizer: PreTrainedTokenizerFast) -> dict:
    rows = sandbox.demonstrations(sandbox.prompts("sft", settings.sft_prompts), seed)
    return train_sft(
        random_policy(seed, settings, tokenizer), tokenizer, rows, _seeded(settings.sft, seed), folder / "policy"
    )


def _train_reward(seed: int, folder: Path, settings: BuildSettings, tokenizer: PreTrainedTokenizerFast) -> dict:
    prompts = sandbox.prompts("preference", settings.preference_prompts)
    samples = sample(folder / "policy", prompts, settings.samples_per_prompt, seed, settings.max_new_tokens)
    rows = []
    for prompt, responses in zip(prompts, samples, strict=True):
        others = [writer.write(prompt, seed=seed) for writer in sandbox.OTHERS]
        rows += sandbox.preference_rows(prompt, [*responses, *others], settings.comparisons_per_prompt, seed)
    return train_reward_model(folder / "policy", tokenizer, rows, _seeded(settings.reward, seed), folder / "reward")


def _train_baseline(seed: int, folder: Path, settings: BuildSettings, tokenizer: PreTrainedTokenizerFast) -> dict:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer

    rows = []
    for prompt in sandbox.prompts("offline", settings.offline_prompts):
        responses = [writer.write(prompt, seed=seed) for writer in sandbox.OTHERS]
        rows += sandbox.preference_rows(prompt, responses, 1, seed)
    chat = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for row in rows
    ]
    arguments = common_arguments(_seeded(settings.offline, seed), folder / "baseline")
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "policy"),
        args=DPOConfig(**arguments, beta=settings.offline_beta, optim="rmsprop", precompute_ref_log_probs=True),
        train_dataset=Dataset.from_list(chat),
        processing_class=tokenizer,
    )
    loss = trainer.train().training_loss
    trainer.model.save_pretrained(folder / "baseline")
    tokenizer.save_pretrained(folder / "baseline")
    return {"rows": {"train": len(rows)}, "train_loss": loss}


def word_tokenizer() -> PreTrainedTokenizerFast:
    """The sandbox's tokenizer: one token per word, one for each role."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*_SPECIAL_TOKENS.values(), *_ROLE_TOKENS, *sandbox.VOCABULARY]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        **_SPECIAL_TOKENS,
        extra_special_tokens=list(_ROLE_TOKENS),
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=64,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def random_policy(seed: int, settings: BuildSettings, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama of the settings' size."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=4 * settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def sample(
    model_path: Path, prompts: Sequence[Prompt], n: int, seed: int, max_new_tokens: int, batch: int = 2048
) -> list[list[str]]:
    """`n` responses per prompt at temperature 1 and top-p 0.9."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForCausalLM.from_pretrained(model_path).eval()
    rows = [prompt.chat for prompt in prompts for _ in range(n)]
    texts: list[str] = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        for start in range(0, len(rows), batch):
            rendered = tokenizer.apply_chat_template(
                rows[start : start + batch], tokenize=False, add_generation_prompt=True
            )
            encoded = tokenizer(
                rendered, padding=True, return_tensors="pt", add_special_tokens=False, return_token_type_ids=False
            )
            ids = model.generate(
                **encoded, do_sample=True, temperature=1.0, top_p=0.9, top_k=0, max_new_tokens=max_new_tokens
            )
            texts += tokenizer.batch_decode(ids[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
    return [texts[i : i + n] for i in range(0, len(texts), n)]


def _seeded(settings: TrainingSettings, seed: int) -> TrainingSettings:
    return TrainingSettings(**{**asdict(settings), "seed": seed})
