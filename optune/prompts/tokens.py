"""Prompts as the policy sees them: token ids through its chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from optune.types import Message, Prompt, UserError

# What a chat template raises: its own refusals and undefined names, and Python's errors inside an expression.
TEMPLATE_ERRORS = (TemplateError, ValueError, TypeError, LookupError, AttributeError)


class TemplateRefuses(UserError):
    """A chat template that does not take a prompt: what it told, and the `reason` without the tokenizer's name."""

    def __init__(self, name: str, prompt: Prompt, error: Exception):
        roles = ", ".join(message["role"] for message in prompt.chat)
        self.told = told = str(error).strip().split("\n")[0] or type(error).__name__
        self.reason = (
            f"chat template does not take prompt {prompt.prompt_id!r} (turns: {roles}): {told}; use a template that "
            "does, or other prompts."
        )
        super().__init__(f"{name!r}: its {self.reason}")


def templated(
    tokenizer: Any, chats: Sequence[Sequence[Message]], prompts: Sequence[Prompt], opens_answer: bool
) -> list[str]:
    """Each chat as the tokenizer's template writes it; with `opens_answer`, and the opening of the assistant's turn.

    Raises TemplateRefuses for the first of `prompts` whose chat the template does not take.
    """
    try:
        return tokenizer.apply_chat_template(list(chats), add_generation_prompt=opens_answer, tokenize=False)
    except TEMPLATE_ERRORS as error:
        for chat, prompt in zip(chats, prompts, strict=True):
            try:
                tokenizer.apply_chat_template(chat, add_generation_prompt=opens_answer, tokenize=False)
            except TEMPLATE_ERRORS as error:
                raise TemplateRefuses(str(tokenizer.name_or_path), prompt, error) from None
        raise error


def encode_prompts(
    tokenizer: Any, prompts: Sequence[Prompt], max_prompt_tokens: int
) -> tuple[list[list[int]], list[str]]:
    """The token ids of each prompt as the policy sees it, and the prompt ids of those above `max_prompt_tokens`.

    With a chat template the whole conversation and the opening of the assistant's turn; without one the plain text.
    Raises UserError for a conversation that the template does not take, or of several turns without a template.
    """
    if not prompts:
        return [], []
    if tokenizer.chat_template:
        texts = templated(tokenizer, [p.chat for p in prompts], prompts, opens_answer=True)
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
