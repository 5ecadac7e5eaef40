"""Pairs that nobody here sampled: the offline set of hybrid learning, in the columns that pairs have everywhere.

JSONL, Parquet, CSV or a hub data set with `prompt` (text or chat, as prompt files have it), `chosen` and `rejected`
(texts, or chats whose last turn is the answer). Without `prompt` it is what both answers begin with (TRL's implicit
prompt). `score_chosen` and `score_rejected` where a loss weighs pairs by them;
`chosen_token_ids` and `rejected_token_ids` are kept where they decode to the text, else it is tokenised, with an end
token. They count as sampled before iteration 0: their `iteration` is -1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from optune.config import RunConfig
from optune.pairs.pairing import OF_A_SIDE, SCHEMA
from optune.prompts.conversation import ADDING, ASKING, conversation_of, present, turns_of_chat
from optune.prompts.files import check_characters, parse_prompt, rows_of
from optune.prompts.tokens import encode_prompts
from optune.types import Message, PreferencePair, Prompt, Response, UserError

BEFORE_ALL = -1


@dataclass
class OfflinePairs:
    """The pairs that can train, their prompts, and the rest by reason: offered = pairs + left out."""

    offered: int = 0
    pairs: list[PreferencePair] = field(default_factory=list)
    prompts: dict[str, Prompt] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def table(self) -> pa.Table:
        """As pairs are stored."""
        columns: dict[str, list[Any]] = {
            "prompt_id": [p.prompt_id for p in self.pairs],
            "prompt": [self.prompts[p.prompt_id].text for p in self.pairs],
        }
        for side in ("chosen", "rejected"):
            responses = [getattr(pair, side) for pair in self.pairs]
            columns |= {side: [r.text for r in responses], f"score_{side}": [r.reward for r in responses]}
            for name in OF_A_SIDE:
                columns[f"{side}_{name}"] = [getattr(response, name) for response in responses]
        return pa.table(columns, schema=SCHEMA)

    @property
    def counts(self) -> dict[str, Any]:
        """For the manifest."""
        return {"offered": self.offered, "pairs": len(self.pairs), "left_out": dict(self.left_out)}


def offline_pairs_beside(online: Mapping[str, Prompt], config: RunConfig, tokenizer: Any) -> OfflinePairs:
    """The pairs of `pairs.offline` that fit. Raises UserError where a prompt has the id of another one of `online`."""
    limits = config.prompts.max_tokens, config.generation.max_new_tokens
    offline = read_offline_pairs(config.pairs.offline, tokenizer, *limits)
    for prompt_id, prompt in offline.prompts.items():
        if online.get(prompt_id, prompt).chat != prompt.chat:
            raise UserError(
                f"{config.pairs.offline}: prompt_id {prompt_id!r} is another prompt in {config.prompts.path}; "
                "give one of them another id."
            )
    return offline


def read_offline_pairs(path: str | Path, tokenizer: Any, max_prompt_tokens: int, max_new_tokens: int) -> OfflinePairs:
    """All pairs of a file. Raises UserError naming file, row and column for what cannot be read."""
    offline = OfflinePairs()
    for number, row in rows_of(path, "train"):
        where = f"{path}, row {number}"
        row = question_of(row, where)
        prompt, _ = parse_prompt(row, where)
        pair = PreferencePair(
            prompt.prompt_id, *(_response(prompt, row, side, tokenizer, where) for side in ("chosen", "rejected"))
        )
        offline.offered += 1
        reason = _reason(pair, max_new_tokens)
        if reason:
            offline.left_out[reason] += 1
            continue
        if offline.prompts.setdefault(prompt.prompt_id, prompt) != prompt:
            raise UserError(f"{where}: prompt_id {prompt.prompt_id!r} was another prompt's before; make ids unique.")
        offline.pairs.append(pair)
    if not offline.offered:
        raise UserError(f"{path}: holds no pairs; expected one per row in `prompt`, `chosen` and `rejected`.")
    too_long = set(encode_prompts(tokenizer, list(offline.prompts.values()), max_prompt_tokens)[1])
    fitting = [pair for pair in offline.pairs if pair.prompt_id not in too_long]
    offline.left_out += Counter({"too_long_prompt": len(offline.pairs) - len(fitting)})
    offline.pairs, offline.prompts = fitting, {i: p for i, p in offline.prompts.items() if i not in too_long}
    return offline


def _reason(pair: PreferencePair, max_new_tokens: int) -> str | None:
    """Why a pair cannot train, if so."""
    sides = (pair.chosen, pair.rejected)
    if any(side.retokenized and not side.text.strip() for side in sides):
        return "empty_response"
    if pair.chosen.text == pair.rejected.text:
        return "identical_responses"
    return "too_long_response" if any(len(side.token_ids) > max_new_tokens for side in sides) else None


def _response(prompt: Prompt, row: dict[str, Any], side: str, tokenizer: Any, where: str) -> Response:
    text = answer_of(row.get(side), f"{where}: `{side}`")
    ids = _ids(row.get(f"{side}_token_ids"), text, tokenizer)
    return Response(
        prompt_id=prompt.prompt_id,
        index=("chosen", "rejected").index(side),
        iteration=BEFORE_ALL,
        token_ids=ids or tokenised(text, tokenizer),
        text=text,
        finish_reason="stop",
        reward=score_of(row.get(f"score_{side}"), f"{where}: `score_{side}`"),
        retokenized=not ids,
    )


def question_of(row: Any, where: str) -> dict[str, Any]:
    """The row with the conversation that its answers continue.

    Answers given as chats repeat it; where they say more of it than `prompt` does, or there is no `prompt` (TRL's
    implicit prompt), theirs counts. Of two texts without a prompt it is their common beginning. Raises UserError where
    the two answers continue different conversations.
    """
    if not isinstance(row, dict):
        return row
    contexts = [_context(row.get(side), f"{where}: `{side}`") for side in ("chosen", "rejected")]
    if contexts[0] != contexts[1]:
        raise UserError(f"{where}: `chosen` and `rejected` continue different conversations.")
    context = contexts[0]
    if not context:
        return row if any(name in row for name in ASKING) else _parted(row, where)
    own = conversation_of(row, where) if any(present(row.get(name)) for name in ASKING) else ()
    if own != context[: len(own)]:
        raise UserError(f"{where}: `prompt` is not how the conversation of `chosen` begins; keep one of them.")
    return {**{name: value for name, value in row.items() if name not in ASKING + ADDING}, "messages": list(context)}


def _parted(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A row of two texts without a prompt: what both begin with, up to a white space, is the prompt."""
    sides = [row.get(side) for side in ("chosen", "rejected")]
    if not all(isinstance(side, str) for side in sides):
        return row
    alike = next((i for i, (a, b) in enumerate(zip(*sides, strict=False)) if a != b), min(map(len, sides)))
    length = alike - len(re.search(r"\S*$", sides[0][:alike])[0])
    if not sides[0][:length].strip():
        raise UserError(f"{where}: no column `prompt`, and `chosen` and `rejected` have no beginning in common.")
    return {**row, "prompt": sides[0][:length].rstrip(), "chosen": sides[0][length:], "rejected": sides[1][length:]}


def _context(value: Any, what: str) -> tuple[Message, ...]:
    """The turns before the answer, of an answer given as a chat."""
    if isinstance(value, str) or not present(value):
        return ()
    turns = turns_of_chat(value, what)
    if turns[-1]["role"] != "assistant":
        raise UserError(f"{what}: the chat must end with the assistant's answer.")
    return turns[:-1]


def answer_of(value: Any, what: str) -> str:
    """The text of an answer, or of the last turn of a chat. `what` is what an error calls it."""
    if not isinstance(value, str) and present(value):  # a chat, its last turn the answer
        value = turns_of_chat(value, what)[-1]["content"]
    if not isinstance(value, str):
        raise UserError(f"{what} must be a text, or a chat that ends with the answer.")
    check_characters(value, what)
    return value


def score_of(value: Any, what: str) -> float | None:
    """A score, or None for an empty cell. A table of texts (CSV) writes numbers as text."""
    if isinstance(value, str):
        value = _number(value) if value else None
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0):
        raise UserError(f"{what} must be a finite number.")
    return None if value is None else float(value)


def _ids(value: Any, text: str, tokenizer: Any) -> tuple[int, ...]:
    """Ids as they were sampled, if they are this tokenizer's."""
    known = isinstance(value, list) and value and all(isinstance(i, int) and 0 <= i < len(tokenizer) for i in value)
    return tuple(value) if known and tokenizer.decode(value, skip_special_tokens=True) == text else ()


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def tokenised(text: str, tokenizer: Any) -> tuple[int, ...]:
    """The ids of a text that nobody here sampled, with an end token."""
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return (*tokenizer(text, add_special_tokens=False)["input_ids"], *end)
