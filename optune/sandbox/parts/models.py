"""The sandbox's SFT policy, reward model and offline baseline: built once per seed, cached by content.

The policy learns from the teacher's demonstrations, starting from random weights; the reward model (Eq. 1) only from
noisy preferences over responses of the SFT policy and of other writers; the baseline is the SFT policy after offline
DPO on the other writers' responses. The three use disjoint prompts.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from optune import sandbox
from optune.config import LossConfig, RewardConfig, SamplingSettings, TrainingConfig
from optune.store import STAGE_FILE, hash_files, intact, set_aside
from optune.training.reward_model import train_reward_model
from optune.training.sft import TrainingSettings, encode, train_sft
from optune.types import Prompt, Response
from optune.utils.files import exclusive, in_one_rename, write_json, write_text
from optune.utils.hashing import stable_hash
from optune.utils.threads import cpu_threads

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

STAGE_VERSION = 1
_SHARE_OF_TIME = {"policy": 0.46, "reward": 0.51, "baseline": 0.03}  # measured; for the estimate of what is left
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
    layers: int = 3
    heads: int = 8
    max_new_tokens: int = 16
    sft_prompts: int = 12288
    sft: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            learning_rate=2e-3, num_train_epochs=5, batch_size=32, max_length=32, weight_decay=0.01, adam_beta2=0.98
        )
    )
    preference_prompts: int = 8192
    samples_per_prompt: int = 4
    comparisons_per_prompt: int = 5
    reward: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(learning_rate=7e-4, batch_size=32, max_length=32, held_out=0.03)
    )
    offline_prompts: int = 2048
    offline_comparisons: int = 1
    offline: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(learning_rate=3e-5, batch_size=32, micro_batch_size=32)
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

    The key covers the sandbox's content, the settings, the seed and the versions of the packages that compute. Models
    that are no longer as they were built are set aside and built again.
    """
    folder = root / build_key(build_seed, settings)
    with exclusive(root / f".{folder.name}.lock"):
        if (folder / STAGE_FILE).exists() and not intact(folder):
            set_aside(folder)
        if not folder.exists():
            with in_one_rename(folder) as unfinished:
                with cpu_threads(1):  # rounding depends on the count, and at this size two are no faster
                    report = _build(build_seed, unfinished, settings)
                write_text(unfinished / "report.json", json.dumps(report, indent=2) + "\n")
                write_json(unfinished / STAGE_FILE, {"files": hash_files(unfinished)})
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return SandboxModels(folder / "policy", folder / "reward", folder / "baseline", report)


def build_key(build_seed: int, settings: BuildSettings = TINY) -> str:
    """Name of a build's folder: changes with anything that changes the models."""
    return f"seed{build_seed}-{hashlib.sha256(json.dumps(_identity(build_seed, settings)).encode()).hexdigest()[:12]}"


def recipe_hash(settings: BuildSettings) -> str:
    """How models are built, whatever the seed and the packages: results of two recipes are never compared."""
    return stable_hash(STAGE_VERSION, _plain(settings))[:12]


def _identity(build_seed: int, settings: BuildSettings) -> dict[str, Any]:
    return {
        "sandbox_version": sandbox.VERSION,
        "sandbox_hash": sandbox.content_hash(),
        "stage_version": STAGE_VERSION,
        "build_seed": build_seed,
        "settings": _plain(settings),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def _plain(settings: BuildSettings) -> dict[str, Any]:
    return {**asdict(settings), "offline": settings.offline.model_dump()}


def _build(seed: int, folder: Path, settings: BuildSettings) -> dict[str, Any]:
    start = time.perf_counter()
    tokenizer = word_tokenizer()
    seconds: dict[str, float] = {}
    report: dict[str, Any] = _identity(seed, settings)
    _tell(f"Building the sandbox's models, build {seed}: once, a few minutes at full size.")
    for part, train in (("policy", _train_policy), ("reward", _train_reward), ("baseline", _train_baseline)):
        part_start = time.perf_counter()
        report[part] = train(seed, folder, settings, tokenizer)
        seconds[part] = time.perf_counter() - part_start
        done = sum(_SHARE_OF_TIME[name] for name in seconds)
        left = (time.perf_counter() - start) * (1 - done) / done
        _tell(f"  {part} trained in {seconds[part]:.0f} s; about {left:.0f} s left")
    seconds["total"] = time.perf_counter() - start
    return {**report, "timing": seconds}


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _train_policy(seed: int, folder: Path, settings: BuildSettings, tokenizer: PreTrainedTokenizerFast) -> dict:
    rows = sandbox.demonstrations(sandbox.prompts("sft", settings.sft_prompts), seed)
    return train_sft(
        random_policy(seed, settings, tokenizer), tokenizer, rows, _seeded(settings.sft, seed), folder / "policy"
    )


def preferences_for(policy: Path, seed: int, settings: BuildSettings) -> list[dict[str, str]]:
    """What a build's reward model learns from: noisy preferences over responses of its policy and of other writers."""
    prompts = sandbox.prompts("preference", settings.preference_prompts)
    samples = sample(policy, prompts, settings.samples_per_prompt, seed, settings)
    rows = []
    for prompt, responses in zip(prompts, samples, strict=True):
        others = [writer.write(prompt, seed=seed) for writer in sandbox.OTHERS]
        rows += sandbox.preference_rows(prompt, [*responses, *others], settings.comparisons_per_prompt, seed)
    return rows


def _train_reward(seed: int, folder: Path, settings: BuildSettings, tokenizer: PreTrainedTokenizerFast) -> dict:
    rows = preferences_for(folder / "policy", seed, settings)
    return train_reward_model(folder / "policy", tokenizer, rows, _seeded(settings.reward, seed), folder / "reward")


def _train_baseline(seed: int, folder: Path, settings: BuildSettings, tokenizer: PreTrainedTokenizerFast) -> dict:
    from optune.training.dpo import train_dpo
    from optune.training.job import TrainJob

    preferred = []
    for prompt in sandbox.prompts("offline", settings.offline_prompts):
        responses = [writer.write(prompt, seed=seed) for writer in sandbox.OTHERS]
        preferred += sandbox.preference_rows(prompt, responses, settings.offline_comparisons, seed)
    sides = [encode(tokenizer, preferred, side) for side in ("chosen", "rejected")]
    rows = [
        {
            "prompt_ids": prompt_ids,
            "chosen_ids": chosen[len(prompt_ids) :],
            "rejected_ids": rejected[len(prompt_ids) :],
            **{"score_chosen": 1.0, "score_rejected": 0.0},  # the annotator's verdict; `dpo` does not weigh it
        }
        for (prompt_ids, chosen), (_, rejected) in zip(*sides, strict=True)
    ]
    policy, loss = folder / "policy", LossConfig(name="dpo", beta_1=settings.offline_beta)
    metrics = train_dpo(TrainJob(policy, policy, loss, 1.0, settings.offline, seed), rows, folder / "baseline")
    timing = metrics.pop("seconds")
    return {"rows": {"train": len(rows)}, **metrics, "timing": timing}


def report(models: SandboxModels, prompts: int = 512, samples: int = 4, seed: int = 0) -> dict[str, Any]:
    """What a build is like, on validation prompts and fresh samples (temperature 1, top-p 0.9).

    Mean gold of policy and baseline; the policy's by family and their spread; the reward model's agreement with gold on
    pairs of responses to one prompt (all that differ in gold, and those at least 1 apart); the Spearman correlation of
    each prompt's mean reward with its mean gold; and the seconds of the build.
    """
    asked = sandbox.prompts("validation", prompts)
    texts = {name: sample(getattr(models, name), asked, samples, seed, TINY) for name in ("policy", "baseline")}
    gold = {name: _golds(asked, rows) for name, rows in texts.items()}
    rewards = _rewards(models.reward, asked, texts["policy"])
    pairs = []  # (gap in gold, gap in reward) of two responses to one prompt
    for g, r in zip(gold["policy"], rewards, strict=True):
        of_prompt = [(g[i] - g[j], r[i] - r[j]) for i, j in itertools.combinations(range(samples), 2)]
        pairs += [gaps for gaps in of_prompt if gaps[0]]
    by_family: dict[str, list[float]] = {}
    for prompt, values in zip(asked, gold["policy"], strict=True):
        by_family.setdefault(prompt.category, []).extend(values)
    families = {family: mean(values) for family, values in by_family.items()}
    return {
        "gold_policy": mean(itertools.chain(*gold["policy"])),
        "gold_baseline": mean(itertools.chain(*gold["baseline"])),
        "gold_by_family": families,
        "gold_family_spread": max(families.values()) - min(families.values()),
        "agreement_all": _agreement(pairs),
        "agreement_gap_1": _agreement([pair for pair in pairs if abs(pair[0]) >= 1]),
        "pairs": {"all": len(pairs), "gap_1": sum(abs(gap) >= 1 for gap, _ in pairs)},
        "rank_correlation_across_prompts": _spearman([mean(g) for g in gold["policy"]], [mean(r) for r in rewards]),
        "held_out_accuracy": models.report["reward"]["held_out_accuracy"],
        "build_seconds": models.report["timing"],
    }


def _golds(prompts: Sequence[Prompt], texts: list[list[str]]) -> list[list[float]]:
    golds = []
    for prompt, row in zip(prompts, texts, strict=True):
        golds.append([sandbox.gold(prompt.text, text) for text in row])
    return golds


def _rewards(model: Path, prompts: Sequence[Prompt], texts: list[list[str]]) -> list[list[float]]:
    from optune.reward.sequence_classifier import SequenceClassifier

    n = len(texts[0])
    asked, answers = [], []
    for prompt, row in zip(prompts, texts, strict=True):
        asked += [prompt] * n
        answers += [Response(prompt.prompt_id, index, 0, (), text, "stop") for index, text in enumerate(row)]
    flat = SequenceClassifier(RewardConfig(model=str(model), batch_size=512, max_length=64)).score(
        asked, answers, seed=0
    )
    return [flat[i : i + n] for i in range(0, len(flat), n)]


def _agreement(pairs: list[tuple[float, float]]) -> float:
    return mean(gap * reward_gap > 0 for gap, reward_gap in pairs) if pairs else float("nan")


def _spearman(x: list[float], y: list[float]) -> float:
    import pandas as pd

    return float(pd.Series(x).corr(pd.Series(y), method="spearman"))


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
        intermediate_size=2 * settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
        initializer_range=0.06,  # the usual 0.02 learns half as fast at this width
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def sample(model: Path, prompts: Sequence[Prompt], n: int, seed: int, settings: BuildSettings) -> list[list[str]]:
    """The texts of `n` responses per prompt at temperature 1 and top-p 0.9."""
    from optune.generate.hf import sample as generate

    decoding = SamplingSettings(n=n, max_new_tokens=settings.max_new_tokens, max_prompt_tokens=64, batch_size=2048)
    texts = [response.text for response in generate(model, prompts, decoding, seed=seed, iteration=0)]
    return [texts[i : i + n] for i in range(0, len(texts), n)]


def _seeded(settings: TrainingSettings, seed: int) -> TrainingSettings:
    return TrainingSettings(**{**asdict(settings), "seed": seed})
