"""What a caller may add to a page: tables, curves with intervals, and answers beside each other with their checks.

A section is a JSON object with `kind`, `title` and, if wanted, `note`, and:

- `table`: `columns` (texts) and `rows` (lists of texts or numbers; a column of whole numbers shows no decimals);
- `curve`: `x` and `y` (what the axes are), and `series`, each with a `name` and `points` of `x`, `y` and, if wanted,
  `low` and `high`, the ends of an interval;
- `answers`: `names` (what stands beside each other, such as before and after) and `rows`, each with a `prompt` and an
  `answers` list of the same length; an answer is `text` and, if wanted, `reward` and `checks` (`name`, `met`).

Held-out answers of a run's own `validate` stage become such a section, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from optune.prompts.files import load_prompts
from optune.types import UserError
from optune.view.run_files import RunFiles

HELD_OUT_SHOWN = 200


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Section(_Part):
    title: str
    note: str = ""


class Table(_Section):
    kind: Literal["table"]
    columns: list[str]
    rows: list[list[str | float | int | None]]


class Point(_Part):
    x: float
    y: float
    low: float | None = None
    high: float | None = None


class Series(_Part):
    name: str
    points: list[Point]


class Curve(_Section):
    kind: Literal["curve"]
    x: str = "iteration"
    y: str
    series: list[Series]


class Check(_Part):
    name: str
    met: bool


class Answer(_Part):
    text: str
    reward: float | None = None
    checks: list[Check] = []


class Row(_Part):
    prompt: str
    category: str = ""
    answers: list[Answer]


class Answers(_Section):
    kind: Literal["answers"]
    names: list[str] = Field(min_length=1, max_length=2)
    rows: list[Row]


_ANY = TypeAdapter(list[Table | Curve | Answers])


def checked_sections(extra: Sequence[Any]) -> list[dict[str, Any]]:
    """Sections as plain data. Raises UserError naming the place of what is none."""
    try:
        return [section.model_dump() for section in _ANY.validate_python(list(extra))]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"Extra sections: {where}: {first['msg']} (see optune/view/sections.py).") from None


def held_out_section(run: RunFiles, name: str) -> dict[str, Any] | None:
    """A run's answers to its validation prompts, of the first policy and of the last; None without two of them.

    At most HELD_OUT_SHOWN rows, drawn at random with a fixed seed.
    """
    at = sorted(t for t, stage in run.entries if stage == "validate")
    if len(at) < 2:
        return None
    first, last = (_answers(run, t) for t in (at[0], at[-1]))
    prompts = _held_out_prompts(run.config["validation"])
    both = sorted(first.keys() & last.keys())
    drawn = Random(0).sample(both, min(HELD_OUT_SHOWN, len(both)))
    rows = [{**prompts.get(key, {"prompt": key}), "answers": [first[key], last[key]]} for key in drawn]
    return {
        "kind": "answers",
        "title": f"Held-out prompts{name}",
        "note": f"Answers of the policy after iteration {at[0]} and after iteration {at[-1]} to {len(drawn)} of "
        f"{len(both)} validation prompts, drawn at random. None of these prompts trains.",
        "names": [f"after iteration {at[0]}", f"after iteration {at[-1]}"],
        "rows": rows,
    }


def _answers(run: RunFiles, t: int) -> dict[str, dict[str, Any]]:
    """By prompt id the first answer of the policy of iteration `t`."""
    path = run.file(t, "validate", "answers.parquet")
    rows = pq.read_table(path, columns=["prompt_id", "index", "text", "reward"]).to_pylist()
    return {row["prompt_id"]: {"text": row["text"], "reward": row["reward"]} for row in rows if row["index"] == 0}


def _held_out_prompts(validation: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The texts of validation prompts by id, where their file is on this machine: nothing is fetched."""
    if not Path(validation["path"]).is_file():
        return {}
    prompts = load_prompts(validation["path"], validation.get("split", "train"))
    return {prompt.prompt_id: {"prompt": prompt.text, "category": prompt.category} for prompt in prompts}
