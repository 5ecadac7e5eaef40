"""Prompt files: JSONL, Parquet or a hub data set in, prompts out, and back to Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from optune.types import Prompt, UserError
from optune.utils.files import NOT_JSON
from optune.utils.hashing import stable_hash

SCHEMA = pa.schema([(name, pa.string()) for name in ("prompt_id", "prompt", "messages", "category")])


def load_prompts(
    path: str | Path,
    split: str = "train",
    columns: Mapping[str, str] | None = None,
    counts: dict[str, Any] | None = None,
) -> list[Prompt]:
    """All prompts of a file or hub data set, in order. columns: what `prompt`, `category`, ... are called there.

    A row that repeats an earlier row's text but has no id of its own is left out; where there are such, `counts` gets
    their number as `repeated`, beside that of all `rows`. Raises UserError naming file, row and column for what cannot
    be read, for ids given twice, and for a file without prompts.
    """
    prompts: dict[str, Prompt] = {}
    repeated = 0
    for number, row in rows_of(path, split):
        if columns and isinstance(row, dict):
            row = {**row, **{ours: row.get(theirs) for ours, theirs in columns.items()}}
        prompt, has_id = parse_prompt(row, f"{path}, row {number}")
        known = prompt.prompt_id in prompts
        if known and has_id:
            raise UserError(f"{path}, row {number}: prompt_id {prompt.prompt_id!r} was given before; make ids unique.")
        repeated += known
        prompts.setdefault(prompt.prompt_id, prompt)
    if not prompts:
        raise UserError(f"{path}: holds no prompts; expected one per row in a column `prompt` or `messages`.")
    if counts is not None and repeated:
        counts |= {"rows": len(prompts) + repeated, "repeated": repeated}
    return list(prompts.values())


def stored_prompts(path: Path) -> Iterator[Prompt]:
    """The prompts of a file of `write_prompts`, one after the other."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                yield parse_prompt(row, str(path))[0]


def stored_texts(path: Path) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """The ids and texts of a file of `write_prompts`, as columns."""
    table = pq.read_table(path, columns=["prompt_id", "prompt"])
    return table["prompt_id"], table["prompt"]


def write_prompts(path: Path, prompts: list[Prompt]) -> None:
    """Parquet that `load_prompts` and `datasets.load_dataset` read back."""
    columns = {
        "prompt_id": [p.prompt_id for p in prompts],
        "prompt": [p.text for p in prompts],
        "messages": [json.dumps(p.messages, ensure_ascii=False) if p.messages else None for p in prompts],
        "category": [p.category for p in prompts],
    }
    pq.write_table(pa.table(columns, schema=SCHEMA), path)


def rows_of(path: str | Path, split: str) -> Iterator[tuple[int, Any]]:
    """Rows with their numbers; of a JSONL file the line's number."""
    file = Path(path)
    if file.suffix in (".jsonl", ".json"):
        yield from _jsonl_rows(file)
    elif file.suffix == ".parquet":
        _must_exist(file)
        try:
            yield from enumerate(pq.read_table(file).to_pylist(), start=1)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: not a readable Parquet file ({error}).") from None
    elif file.exists():
        raise UserError(f"{file}: prompts are read from .jsonl or .parquet files.")
    else:
        yield from _hub_rows(str(path), split)


def _must_exist(file: Path) -> None:
    if not file.is_file():
        raise UserError(f"{file}: there is no such prompt file.")


def _jsonl_rows(file: Path) -> Iterator[tuple[int, Any]]:
    _must_exist(file)
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            raise UserError(f"{file}, row {number}: not valid UTF-8.") from None
        except NOT_JSON as error:
            raise UserError(f"{file}, row {number}: not a JSON object ({error}).") from None


def _hub_rows(name: str, split: str) -> Iterator[tuple[int, Any]]:
    from datasets import load_dataset

    try:
        yield from enumerate(load_dataset(name, split=split), start=1)
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"{name!r} is neither a prompt file nor a data set that can be loaded (split {split!r}: {reason})."
        ) from None


def parse_prompt(row: Any, where: str) -> tuple[Prompt, bool]:
    """The prompt of a row, and whether it has an id of its own. Raises UserError naming `where`."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object with a column `prompt` or `messages`.")
    value = row.get("prompt") if row.get("prompt") is not None else row.get("messages")
    if isinstance(row.get("messages"), str):
        value = _json_chat(row["messages"], where)
    if value is None:
        raise UserError(f"{where}: no column `prompt` or `messages` (found: {', '.join(map(str, row)) or 'none'}).")
    messages = () if isinstance(value, str) else _conversation(value, where)
    text = messages[-1]["content"] if messages else value
    _check_text(text, where)
    given = row.get("prompt_id", row.get("id"))
    prompt_id = str(given) if given is not None else stable_hash(text, messages)[:16]
    keep_chat = len(messages) > 1
    category = "" if row.get("category") is None else str(row["category"])
    for name, value in (("prompt_id", prompt_id), ("category", category)):
        check_characters(value, f"{where}: the {name}")
    return Prompt(prompt_id, text, messages if keep_chat else (), category), given is not None


def _json_chat(text: str, where: str) -> Any:
    """A chat that a table without nested columns holds as JSON text."""
    try:
        return json.loads(text)
    except NOT_JSON:
        raise UserError(f"{where}: `messages` is text, but no JSON list of {{role, content}} objects.") from None


def _conversation(value: Any, where: str) -> tuple[dict[str, str], ...]:
    """The turns up to the last user turn: what the policy is to answer."""
    if not isinstance(value, list | tuple) or not all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in value
    ):
        raise UserError(f"{where}: a chat is a list of {{role, content}} objects with text in both.")
    turns = [{"role": m["role"], "content": m["content"]} for m in value]
    while turns and turns[-1]["role"] != "user":
        turns.pop()
    if not turns:
        raise UserError(f"{where}: the chat has no user turn to answer.")
    for turn in turns:
        _check_text(turn["content"], where)
        check_characters(turn["role"], f"{where}: a role")
    return tuple(turns)


def _check_text(text: str, where: str) -> None:
    if not text.strip():
        raise UserError(f"{where}: the prompt is empty.")
    check_characters(text, f"{where}: the prompt")


def check_characters(text: str, what: str) -> None:
    """Raises UserError where a text cannot be written as UTF-8; `what` says which text, and where."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{what} holds a lone surrogate, which is not text.") from None
