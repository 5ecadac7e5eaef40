"""Rows to train a start model on, in TRL's formats, and the split into rows that train and rows that measure.

A text `prompt` is one user turn and goes through the chat template, as in a run. Every row is used, or counted by the
reason why not.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from optune.pairs.offline import answer_of, question_of, score_of
from optune.pipeline.settings import DataConfig
from optune.prompts.conversation import conversation_of, present, turns_of_chat
from optune.prompts.files import check_characters, parse_prompt, rows_of
from optune.types import Message, Prompt, Response, UserError
from optune.utils.hashing import canonical_json, stable_hash

DIALOGUES = ("messages", "conversations")
IDS = pa.list_(pa.int32())


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What supervised fine-tuning learns from: a chat that ends with an answer, or a plain text. key: `opening_key`."""

    where: str
    key: str
    category: str
    turns: tuple[Message, ...] = ()
    text: str = ""

    @property
    def unusable(self) -> str | None:
        """Why nothing can be learnt from it, if so."""
        said = self.turns[-1]["content"] if self.turns else self.text
        return None if said.strip() else "empty_response"


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt, the preferred answer and the other one, with their scores where the data has them."""

    where: str
    prompt: Prompt
    chosen: str
    rejected: str
    score_chosen: float | None = None
    score_rejected: float | None = None

    @property
    def key(self) -> str:
        """`opening_key` of the prompt."""
        return opening_key(self.prompt.chat)

    @property
    def category(self) -> str:
        """The prompt's."""
        return self.prompt.category

    @property
    def unusable(self) -> str | None:
        """Why nothing can be learnt from it, if so."""
        if not (self.chosen.strip() and self.rejected.strip()):
            return "empty_response"
        return "identical_responses" if self.chosen == self.rejected else None


Row = TypeVar("Row", Demonstration, Preference)


def opening_key(turns: Sequence[Message]) -> str:
    """The same for all rows that begin with the same user turn: they are trained on together, or held out together.

    A later turn of a dialogue is learnt with the earlier ones, so that its own question alone would not tell.
    """
    first = next((place for place, turn in enumerate(turns) if turn["role"] == "user"), len(turns) - 1)
    return stable_hash(list(turns[: first + 1]))


def demonstration_of(row: dict[str, Any], where: str) -> Demonstration:
    """`prompt` and `completion`, `messages` (or `conversations`), or `text`; the first of these that is there."""
    category = str(row["category"]) if present(row.get("category")) else ""
    check_characters(category, f"{where}: the category")
    if isinstance(row.get("completion"), str) or present(row.get("completion")):
        asked = {name: value for name, value in row.items() if name not in DIALOGUES}
        prompt, _ = parse_prompt(asked, where)
        turns = (*prompt.chat, *_completion(row["completion"], f"{where}: `completion`"))
        return Demonstration(where, opening_key(turns), category, turns)
    for name in DIALOGUES:
        if present(row.get(name)):
            return _dialogue(row, name, category, where)
    text = row.get("text")
    if isinstance(text, str):
        check_characters(text, f"{where}: `text`")
        return Demonstration(where, stable_hash(text), category, text=text)
    given = ", ".join(map(str, row)) or "none"
    raise UserError(
        f"{where}: needs `prompt` and `completion`, or `messages`, or `text` (found: {given}); data.columns says what "
        "they are called."
    )


def _completion(value: Any, what: str) -> tuple[Message, ...]:
    """The turns of a completion: a text is one answer."""
    if isinstance(value, str):
        return ({"role": "assistant", "content": answer_of(value, what)},)
    return _ending_in_an_answer(value, what)


def _ending_in_an_answer(value: Any, what: str) -> tuple[Message, ...]:
    turns = turns_of_chat(value, what)
    if turns[-1]["role"] != "assistant":
        raise UserError(f"{what} must end with the assistant's answer.")
    for turn in turns:
        check_characters(turn["role"] + turn["content"], what)
    return turns


def _dialogue(row: dict[str, Any], name: str, category: str, where: str) -> Demonstration:
    """A whole chat, with the row's `system` before it."""
    asked = conversation_of({name: row[name], "system": row.get("system")}, where)
    value = row[name]
    if name == "messages" and isinstance(value, str):  # as a table of texts holds it
        value = json.loads(value)
    turns = _ending_in_an_answer(value, f"{where}: `{name}`")
    system = asked[:1] if asked[0]["role"] == "system" and turns[0]["role"] != "system" else ()
    return Demonstration(where, opening_key((*system, *turns)), category, (*system, *turns))


def preference_of(row: dict[str, Any], where: str) -> Preference:
    """`prompt`, `chosen` and `rejected`, all texts or chats; without `prompt` what both answers begin with."""
    missing = [side for side in ("chosen", "rejected") if row.get(side) is None]
    if missing:
        given = ", ".join(map(str, row)) or "none"
        raise UserError(f"{where}: no `{missing[0]}` (found: {given}); data.columns says what it is called.")
    row = question_of(row, where)
    prompt, _ = parse_prompt(row, where)
    answers = [answer_of(row[side], f"{where}: `{side}`") for side in ("chosen", "rejected")]
    scores = [score_of(row.get(name), f"{where}: `{name}`") for name in ("score_chosen", "score_rejected")]
    return Preference(where, prompt, *answers, *scores)


Encoded = dict[str, Any]
Encode = Callable[[Row], Encoded]  # columns of a row; token ids are int32 arrays


@dataclass
class Split:
    """Encoded rows that train and that measure; offered = train + held out + left out."""

    train: list[Encoded] = field(default_factory=list)
    held_out: list[Encoded] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)


def read_split(data: DataConfig, parse: Callable[[Any, str], Row], encode: Encode, seed: int) -> Split:
    """Read, encode and part the rows that `data` names, so that no opening is on both sides.

    Raises UserError naming file, row and field for what cannot be read, and where either side would be empty.
    """
    left_out: Counter[str] = Counter()
    offered = _sample(list(_read(data, data.path, data.split, parse)), data.limit, seed)
    rows = encoded(offered, encode, data.max_length, left_out)
    if data.held_out_path:
        measured = list(_read(data, data.held_out_path, data.held_out_split, parse))
        held = encoded(measured, encode, data.max_length, left_out)
        keys = {key for key, _ in held}
        train = [row for key, row in rows if key not in keys]
        left_out["prompt_is_held_out"] += len(rows) - len(train)
        count, held_out = len(offered) + len(measured), [row for _, row in held]
    else:
        keys = _held_out_keys([key for key, _ in rows], data, seed)
        train = [row for key, row in rows if key not in keys]
        count, held_out = len(offered), [row for key, row in rows if key in keys]
    _check_sides(data, train, held_out, left_out)
    reasons = {reason: number for reason, number in left_out.items() if number}
    return Split(
        train, held_out, {"offered": count, "train": len(train), "held_out": len(held_out), "left_out": reasons}
    )


def _read(data: DataConfig, path: str, split: str, parse: Callable[[Any, str], Row]) -> Iterator[Row]:
    for number, row in rows_of(path, split):
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise UserError(f"{where}: expected an object with a column for each field.")
        renamed = {ours: row[theirs] for ours, theirs in (data.columns or {}).items() if theirs in row}
        yield parse({**row, **renamed}, where)


def _sample(rows: list[Row], limit: int | None, seed: int) -> list[Row]:
    if limit is None or limit >= len(rows):
        return rows
    keep = np.random.default_rng([seed, len(rows)]).choice(len(rows), size=limit, replace=False)
    return [rows[place] for place in np.sort(keep)]


def encoded(rows: Sequence[Row], encode: Encode, max_length: int, left_out: Counter[str]) -> list[tuple[str, Encoded]]:
    """The key and the columns of each row that can train; the others are counted in `left_out`."""
    kept = []
    for row in rows:
        reason = row.unusable
        columns = {} if reason else encode(row)
        if not reason and columns["length"] > max_length:
            reason = "too_long"
        if reason:
            left_out[reason] += 1
        else:
            kept.append((row.key, {"row": row.where, "key": row.key, "category": row.category, **columns}))
    return kept


def _held_out_keys(keys: Sequence[str], data: DataConfig, seed: int) -> set[str]:
    """A random share of the prompts, at least one, the same whatever the rows' order."""
    prompts = sorted(set(keys), key=lambda key: stable_hash("held out", seed, key))
    if prompts and len(prompts) < 2:
        raise UserError(f"{data.path}: training needs rows of at least two prompts, as one is held out to measure on.")
    return set(prompts[: min(len(prompts) - 1, max(1, round(data.held_out * len(prompts))))])


def _check_sides(data: DataConfig, train: list[Encoded], held_out: list[Encoded], left_out: Counter[str]) -> None:
    told = ", ".join(f"{number} {reason}" for reason, number in left_out.items() if number) or "none"
    for rows, path, use in ((train, data.path, "train on"), (held_out, data.held_out_path or data.path, "measure on")):
        if not rows:
            raise UserError(f"{path}: no row is left to {use} (left out: {told}; data.max_length={data.max_length}).")


def write_rows(path: Path, rows: Sequence[Encoded]) -> None:
    """Parquet with a column for each name of the rows."""
    columns = {}
    for name, value in rows[0].items():
        kind = IDS if isinstance(value, np.ndarray) else pa.float64() if name.startswith("score_") else None
        columns[name] = pa.array([row[name] for row in rows], kind)
    pq.write_table(pa.table(columns), path)


def as_stored(row: Preference) -> Encoded:
    """The texts of a preference, as `answered` reads them back."""
    messages = canonical_json(row.prompt.messages) if row.prompt.messages else ""
    return {
        "prompt_id": row.prompt.prompt_id,
        "prompt": row.prompt.text,
        "messages": messages,
        "chosen": row.chosen,
        "rejected": row.rejected,
        "score_chosen": row.score_chosen,
        "score_rejected": row.score_rejected,
    }


def answered(rows: Sequence[Encoded], side: str) -> tuple[list[Prompt], list[Response]]:
    """Stored rows as prompts and the responses of one side, as rewards take them."""
    prompts = [parse_prompt(row, row["row"])[0] for row in rows]
    return prompts, [response_of(prompt, row[side]) for prompt, row in zip(prompts, rows, strict=True)]


def response_of(prompt: Prompt, text: str) -> Response:
    """A text that nobody here sampled, as an answer."""
    return Response(prompt.prompt_id, 0, 0, (), text, "stop")
