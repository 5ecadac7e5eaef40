"""Prompts as the policy sees them: token ids through its chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optune.types import Prompt, UserError


def encode_prompts(
    tokenizer: Any, prompts: Sequence[Prompt], max_prompt_tokens: int
) -> tuple[list[list[int]], list[str]]:
    """The token ids of each prompt as the policy sees it, and the prompt ids of those above `max_prompt_tokens`.

    With a chat template the whole conversation and the opening of the assistant's turn; without one the plain text.
    Raises UserError for a conversation of several turns where there is no template to write it with.
    """
    if not prompts:
        return [], []
    if tokenizer.chat_template:
        texts = tokenizer.apply_chat_template([p.chat for p in prompts], add_generation_prompt=True, tokenize=False)
    else:
        texts = [plain_text(p, "the policy") for p in prompts]
    # A template writes its own special tokens; adding them again would begin the prompt twice.
    ids = tokenizer(texts, add_special_tokens=not tokenizer.chat_template)["input_ids"]
    return ids, [p.prompt_id for p, row in zip(prompts, ids, strict=True) if len(row) > max_prompt_tokens]


def plain_text(prompt: Prompt, model: str) -> str:
    """The text of a prompt for a `model` without a chat template. Raises UserError where it has several turns."""
    if prompt.messages:
        raise UserError(
            f"Prompt {prompt.prompt_id!r} is a conversation of {len(prompt.messages)} turns, and {model}'s tokenizer "
            "has no chat template to write it with; give it one, or prompts of a single turn."
        )
    return prompt.text


def checked_ids(tokenizer: Any, prompts: Sequence[Prompt], max_prompt_tokens: int) -> list[list[int]]:
    """`encode_prompts` for an engine: raises UserError for a prompt that is too long or has no tokens."""
    ids, too_long = encode_prompts(tokenizer, prompts, max_prompt_tokens)
    if too_long:
        raise UserError(f"Prompt {too_long[0]!r} is longer than max_prompt_tokens ({max_prompt_tokens}).")
    if [] in ids:
        raise UserError(f"Prompt {prompts[ids.index([])].prompt_id!r} is empty: it has no tokens to answer.")
    return ids
