"""Engines that answer prompts, behind one contract (line 8 of Algorithm 1).

An engine is a function

    sample(model: str | Path, prompts: Sequence[Prompt], settings, *, seed: int, iteration: int,
           on_progress: Callable[[int, int], None] | None = None) -> list[Response]

which loads `model`, draws `settings.n` responses for each prompt and returns them in order of prompts, then index.
`settings` has `n`, `temperature` (0 is greedy), `top_p`, `max_new_tokens`, `max_prompt_tokens`, `batch_size` (rows in
one forward pass), `dtype` and `trust_remote_code`. Of each response,

- `token_ids` are the sampled ids, with the end token only where one was sampled, and never padding;
- `text` is those ids decoded without special tokens;
- `finish_reason` is "stop" where an end token was sampled, else "length";
- `logprob` is the sum of their log-probabilities at temperature 1 under the whole, untruncated distribution, in nats.

The random stream of a response depends on (seed, "generate", iteration, prompt id, index) alone. `on_progress` is
called with (responses done, responses in all). No engine cuts a prompt: callers leave out those that `encode_prompts`
reports as too long, and an engine that meets one raises UserError.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from optune.types import Prompt

ENGINES = {"hf": "optune.generate.hf:sample"}


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


def stream_key(seed: int, iteration: int, prompt_id: str, index: int) -> int:
    """The signed 64-bit key of one response's random stream, the same on every machine."""
    name = "\x1f".join((str(seed), "generate", str(iteration), prompt_id, str(index)))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)
