"""Files of answers in AlpacaEval's form, as win score, AlpacaEval and human study read them: one rule for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optune.prompts.conversation import ADDING, conversation_of, present, transcript
from optune.prompts.files import check_characters
from optune.types import Prompt, UserError
from optune.utils.files import read_json, read_jsonl

Rows = list[dict[str, Any]]
IDS = ("prompt_id", "id")


def read_outputs(path: str | Path) -> Rows:
    """The rows of a JSON list, or JSONL, with `instruction` and `output` as texts.

    `instruction` comes back as all that was asked: with Alpaca's `input`, and with the turns of `messages` before it.
    An id that is null or empty is as good as absent. Raises UserError naming file, row and field.
    """
    path = Path(path)
    content = read_jsonl(path) if path.suffix == ".jsonl" else read_json(path)
    if not isinstance(content, list) or not content:
        raise UserError(f"{path}: expected a list of answers with `instruction` and `output`, at least one.")
    numbered = content if path.suffix == ".jsonl" else enumerate(content, start=1)
    return [_row(row, f"{path}, row {number}") for number, row in numbered]


def _row(row: Any, where: str) -> dict[str, Any]:
    for name in ("instruction", "output"):
        if not isinstance(row, dict) or not isinstance(row.get(name), str):
            raise UserError(f"{where}: needs a text `{name}`.")
        check_characters(row[name], f"{where}: `{name}`")
    row = {name: value for name, value in row.items() if name not in IDS or present(value)}
    for name in IDS:
        if name in row and (isinstance(row[name], bool) or not isinstance(row[name], str | int)):
            raise UserError(f"{where}: `{name}` must be a text or a whole number, not {row[name]!r}.")
    for name in (*IDS, "generator", "category"):
        check_characters(str(row.get(name)), f"{where}: `{name}`")
    return {**row, "instruction": _asked(row, where)}


def _asked(row: dict[str, Any], where: str) -> str:
    """All that the row asks, as a judge or a rater reads it."""
    added = {name: row[name] for name in ADDING if present(row.get(name))}
    if present(row.get("messages")):
        turns = conversation_of({"prompt": row["instruction"], "messages": row["messages"], **added}, where)
    elif added:
        turns = conversation_of({"instruction": row["instruction"], **added}, where)
    else:
        return row["instruction"]
    asked = transcript(Prompt("", turns[-1]["content"], turns if len(turns) > 1 else ()))
    check_characters(asked, f"{where}: what is asked")
    return asked
