"""Prompt files: JSONL, Parquet, CSV or a hub data set in, prompts out, and back to Parquet."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from optune.prompts.conversation import ADDING, ASKING, asks_first_turn_alone, conversation_of, present
from optune.types import Message, Prompt, UserError
from optune.utils.files import NOT_JSON
from optune.utils.hashing import stable_hash

IDS = ("prompt_id", "id")
READ = {*ASKING, *ADDING, *IDS, "category"}  # columns
SCHEMA = pa.schema([(name, pa.string()) for name in ("prompt_id", "prompt", "messages", "category")])


def load_prompts(
    path: str | Path,
    split: str = "train",
    columns: Mapping[str, str] | None = None,
    counts: dict[str, Any] | None = None,
) -> list[Prompt]:
    """All prompts of a file or hub data set, in order. columns: what `prompt`, `category`, ... are called there.

    A row that repeats an earlier row's text but has no id of its own is left out. `counts` gets what is not used, where
    there is any: `repeated` (beside the number of `rows`), `later_turns_not_asked` (dialogues of which only the first
    turn is asked, UltraChat's form) and `columns_not_read`. Raises UserError naming file, row and column for what
    cannot be read, for ids given twice, and for a file without prompts.
    """
    prompts: dict[str, Prompt] = {}
    repeated, later_turns, unread = 0, 0, set()
    for number, row in rows_of(path, split):
        if columns and isinstance(row, dict):
            row = {**row, **{ours: row.get(theirs) for ours, theirs in columns.items()}}
        prompt, has_id = parse_prompt(row, f"{path}, row {number}")
        unread |= {str(name) for name in row.keys() - READ if present(row[name])}
        later_turns += asks_first_turn_alone(row)
        known = prompt.prompt_id in prompts
        if known and has_id:
            raise UserError(f"{path}, row {number}: prompt_id {prompt.prompt_id!r} was given before; make ids unique.")
        repeated += known
        prompts.setdefault(prompt.prompt_id, prompt)
    if not prompts:
        raise UserError(f"{path}: holds no prompts; expected one per row in a column `prompt` or `messages`.")
    if counts is not None:
        counts |= {"rows": len(prompts) + repeated, "repeated": repeated} if repeated else {}
        counts |= {"later_turns_not_asked": later_turns} if later_turns else {}
        counts |= {"columns_not_read": sorted(unread - set((columns or {}).values()))} if unread else {}
    return list(prompts.values())


def prompt_rows(
    path: str | Path, split: str = "train", columns: Mapping[str, str] | None = None
) -> Iterator[tuple[Prompt, dict[str, Any]]]:
    """Each prompt of a file or hub data set with its whole row: columns that only a reward reads stand there."""
    for number, row in rows_of(path, split):
        if columns and isinstance(row, dict):
            row = {**row, **{ours: row.get(theirs) for ours, theirs in columns.items()}}
        yield parse_prompt(row, f"{path}, row {number}")[0], row


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
    """Rows with their numbers (in a JSONL file: line numbers). A `.json` file may hold a list, or one row a line."""
    file = Path(path)
    kind = file.suffix.lower()
    if kind in (".jsonl", ".json"):
        _must_exist(file)
        text = _decoded(file)
        yield from _json_rows(file, text) if kind == ".json" and text.lstrip().startswith("[") else _lines(file, text)
    elif kind == ".parquet":
        _must_exist(file)
        try:
            yield from enumerate(pq.read_table(file).to_pylist(), start=1)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: not a readable Parquet file ({error}).") from None
    elif kind == ".csv":
        _must_exist(file)
        yield from _csv_rows(file, _decoded(file))
    elif file.exists():
        raise UserError(f"{file}: rows are read from .jsonl, .json, .csv or .parquet files.")
    else:
        yield from _hub_rows(str(path), split)


def _must_exist(file: Path) -> None:
    if not file.is_file():
        raise UserError(f"{file}: there is no such file.")


def _decoded(file: Path) -> str:
    """A file's text without a byte-order mark. Raises UserError naming the row that is not UTF-8."""
    data = file.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{file}: is UTF-16 text; save it as UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise UserError(f"{file}, row {number}: not valid UTF-8.") from None


def _json_rows(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    try:
        yield from enumerate(json.loads(text), start=1)
    except NOT_JSON as error:
        raise UserError(f"{file}: not a JSON list ({error}).") from None


def _csv_rows(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Rows counted without the titles, all cells as texts; an empty one is None."""
    try:
        frame = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False)
    except ValueError as error:
        raise UserError(f"{file}: not a readable CSV file ({' '.join(str(error).split())}).") from None
    for number, row in enumerate(frame.to_dict("records"), start=1):
        yield number, {name: value or None for name, value in row.items()}


def _lines(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except NOT_JSON as error:
            raise UserError(f"{file}, row {number}: not a JSON object ({error}).") from None


def _hub_rows(name: str, split: str) -> Iterator[tuple[int, Any]]:
    from datasets import load_dataset

    try:
        yield from enumerate(load_dataset(name, split=split), start=1)
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"{name!r} is neither a file nor a data set that can be loaded (split {split!r}: {reason})."
        ) from None


def parse_prompt(row: Any, where: str) -> tuple[Prompt, bool]:
    """The prompt of a row, and whether it has an id of its own. Raises UserError naming `where`."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object with a column `prompt` or `messages`.")
    turns = conversation_of(row, where)
    for turn in turns:
        _check_text(turn["content"], where)
        check_characters(turn["role"], f"{where}: a role")
    text, messages = turns[-1]["content"], turns if len(turns) > 1 else ()
    given = next((row[name] for name in IDS if present(row.get(name))), None)
    prompt_id = str(given) if given is not None else stable_hash(text, _hashed(row, turns))[:16]
    category = str(row["category"]) if present(row.get("category")) else ""
    for name, value in (("prompt_id", prompt_id), ("category", category)):
        check_characters(value, f"{where}: the {name}")
    return Prompt(prompt_id, text, messages, category), given is not None


def _hashed(row: dict[str, Any], turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns that are hashed into the id of a row that has none; empty for a plain text, whose text is hashed."""
    given = next((row[name] for name in ("prompt", "instruction") if present(row.get(name))), None)
    return () if len(turns) == 1 and isinstance(given, str) else turns


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
