"""What all engines share: prompts prepared for a checkpoint, batches, random streams, end tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optune.config import RayConfig, SamplingSettings
from optune.prompts.tokens import checked_ids
from optune.types import Prompt


@dataclass(frozen=True)
class Prepared:
    """What every engine starts from: the policy's tokenizer, each prompt's ids, and the ids that end a response."""

    tokenizer: Any
    ids: list[list[int]]
    stop: set[int]


def prepare(model: str | Path, prompts: Sequence[Prompt], settings: SamplingSettings) -> Prepared:
    """The prompts as the checkpoint `model` takes them. Raises UserError where it cannot take one."""
    from optune.utils.checkpoints import load_generation_config, load_tokenizer

    trust = settings.trust_remote_code
    tokenizer = load_tokenizer(model, trust_remote_code=trust)
    ids = checked_ids(tokenizer, prompts, settings.max_prompt_tokens)
    return Prepared(tokenizer, ids, stop_ids_of(load_generation_config(model, trust_remote_code=trust), tokenizer))


def in_batches(ids: Sequence[Sequence[int]], settings: SamplingSettings) -> list[list[int]]:
    """Places in `ids`, longest first, in batches of `batch_size` responses: like lengths together need little padding.

    A prompt's responses share a batch, which has one prompt at least.
    """
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]), reverse=True)
    size = max(1, settings.batch_size // settings.n)
    return [order[start : start + size] for start in range(0, len(order), size)]


def temperature_of(settings: SamplingSettings, index: int) -> float:
    """The temperature that response `index` of a prompt is drawn at: of several, each in turn."""
    several = settings.temperatures
    return several[index % len(several)] if several else settings.temperature


def stop_ids_of(generation_config: Any, tokenizer: Any) -> set[int]:
    """The ids that end a response: the checkpoint's generation config (one or several), else the tokenizer's."""
    stop = generation_config.eos_token_id
    stop = tokenizer.eos_token_id if stop is None else stop
    return set(stop) if isinstance(stop, list) else {stop} - {None}


def request_seed(seed: int, iteration: int, prompt_id: str, index: int) -> int:
    """`stream_key` as engines with a seed per request take it: 0 to 2^63 - 1."""
    return stream_key(seed, iteration, prompt_id, index) & (2**63 - 1)


def stream_key(seed: int, iteration: int, prompt_id: str, index: int) -> int:
    """The signed 64-bit key of one response's random stream, the same on every machine."""
    name = "\x1f".join((str(seed), "generate", str(iteration), prompt_id, str(index)))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)


def options_of(settings: SamplingSettings) -> RayConfig:
    """The section `generation.ray`, or its defaults."""
    return settings.ray or RayConfig()
