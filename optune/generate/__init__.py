"""Engines that answer prompts, behind one contract (line 8 of Algorithm 1).

An engine is a function

    sample(model: str | Path, prompts: Sequence[Prompt], settings, *, seed: int, iteration: int,
           on_progress: Callable[[int, int], None] | None = None) -> list[Response]

which loads `model`, draws `settings.n` responses for each prompt and returns them in order of prompts, then index.
`settings` has `n`, `temperature` (0 is greedy; `temperatures` in its place: see `temperature_of`), `top_p`,
`max_new_tokens`, `max_prompt_tokens`, `batch_size` (rows in one forward pass), `dtype` and `trust_remote_code`. Of each
response,

- `token_ids` are the sampled ids, with the end token only where one was sampled, and never padding;
- `text` is those ids decoded without special tokens;
- `finish_reason` is "stop" where an end token was sampled, else "length";
- `logprob` is the sum of their log-probabilities at temperature 1 under the whole, untruncated distribution, in nats.

The random stream of a response depends on (seed, "generate", iteration, prompt id, index) alone. `on_progress` is
called with (responses done, responses in all). An engine that cannot tell `logprob` gives None, and one that has to
tokenise the text again, since it got no ids, marks the response `retokenized`. No engine cuts a prompt: callers leave
out those that `encode_prompts` reports as too long, and an engine that meets one raises UserError.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optune.types import Prompt, UserError

ENGINES = {
    "hf": "optune.generate.hf:sample",
    "ray": "optune.generate.ray_cluster:sample",
    "server": "optune.generate.server:sample",
    "vllm": "optune.generate.vllm:sample",
}


@dataclass(frozen=True)
class Prepared:
    """What every engine starts from: the policy's tokenizer, each prompt's ids, and the ids that end a response."""

    tokenizer: Any
    ids: list[list[int]]
    stop: set[int]


def prepare(model: str | Path, prompts: Sequence[Prompt], settings: Any) -> Prepared:
    """The prompts as the checkpoint `model` takes them. Raises UserError where it cannot take one."""
    from optune.utils.checkpoints import load_generation_config, load_tokenizer

    trust = settings.trust_remote_code
    tokenizer = load_tokenizer(model, trust_remote_code=trust)
    ids = checked_ids(tokenizer, prompts, settings.max_prompt_tokens)
    return Prepared(tokenizer, ids, stop_ids_of(load_generation_config(model, trust_remote_code=trust), tokenizer))


def encode_prompts(
    tokenizer: Any, prompts: Sequence[Prompt], max_prompt_tokens: int
) -> tuple[list[list[int]], list[str]]:
    """The token ids of each prompt as the policy sees it, and the prompt ids of those above `max_prompt_tokens`.

    With a chat template the whole conversation and the opening of the assistant's turn; without one the plain text.
    """
    if not prompts:
        return [], []
    if tokenizer.chat_template:
        texts = tokenizer.apply_chat_template([p.chat for p in prompts], add_generation_prompt=True, tokenize=False)
    else:
        texts = [p.text for p in prompts]
    # A template writes its own special tokens; adding them again would begin the prompt twice.
    ids = tokenizer(texts, add_special_tokens=not tokenizer.chat_template)["input_ids"]
    return ids, [p.prompt_id for p, row in zip(prompts, ids, strict=True) if len(row) > max_prompt_tokens]


def checked_ids(tokenizer: Any, prompts: Sequence[Prompt], max_prompt_tokens: int) -> list[list[int]]:
    """`encode_prompts` for an engine: raises UserError for a prompt that is too long or has no tokens."""
    ids, too_long = encode_prompts(tokenizer, prompts, max_prompt_tokens)
    if too_long:
        raise UserError(f"Prompt {too_long[0]!r} is longer than max_prompt_tokens ({max_prompt_tokens}).")
    if [] in ids:
        raise UserError(f"Prompt {prompts[ids.index([])].prompt_id!r} is empty: it has no tokens to answer.")
    return ids


def identity(settings: Any) -> dict[str, Any]:
    """What of `settings` can change a response, for a stage's key: not where an engine runs, or how it is asked."""
    fields = settings.model_dump(exclude={"server", "vllm", "ray"})
    if settings.engine == "server" and settings.server and settings.server.parameters:
        fields["server"] = settings.server.parameters
    if settings.engine == "ray":
        from optune.generate.ray_cluster import options_of

        fields["ray"] = options_of(settings).model_dump(exclude={"address"})
    if "vllm" in (settings.engine, fields.get("ray", {}).get("engine")):
        from optune.generate.vllm import engine_identity

        fields["vllm"] = engine_identity(settings)
    return fields


def in_batches(ids: Sequence[Sequence[int]], settings: Any) -> list[list[int]]:
    """Places in `ids`, longest first, in batches of `batch_size` responses: like lengths together need little padding.

    A prompt's responses share a batch, which has one prompt at least.
    """
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]), reverse=True)
    size = max(1, settings.batch_size // settings.n)
    return [order[start : start + size] for start in range(0, len(order), size)]


def temperature_of(settings: Any, index: int) -> float:
    """The temperature that response `index` of a prompt is drawn at: of several, each in turn."""
    several = getattr(settings, "temperatures", None)
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
