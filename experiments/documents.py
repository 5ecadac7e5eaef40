"""The parts of README.md and docs/ that commands write. Each is between two marks, and a test checks it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from experiments.compute.results import ROOT
from optune.types import UserError
from optune.utils.files import write_text


class Place(NamedTuple):
    """Where a part stands, and which command writes it."""

    file: str
    command: str


PLACES = {
    "real model": Place("README.md", "make report PRESET=smollm2"),
    "real findings": Place("README.md", "make report PRESET=smollm2"),
    "summary": Place("README.md", "make report"),
    "results": Place("docs/results.md", "make report"),
    "recipes": Place("docs/results.md", "make report"),
    "real preferences": Place("docs/own_model.md", "experiments.development.real_preferences"),
    "judge agreement": Place("docs/evaluation.md", "experiments.development.judge_agreement"),
    "bench": Place("docs/speed.md", "make bench"),
    "robustness": Place("docs/reliability.md", "make chaos, make fuzz and make audit"),
}


def path_of(name: str) -> Path:
    """The document that holds a part."""
    return ROOT / PLACES[name].file


def written(name: str) -> str:
    """What stands between the marks of a part. Raises UserError where its document has none."""
    return _split(name)[1].strip()


def update(texts: dict[str, str]) -> None:
    """Replace each named part by its text. The rest of the document is unchanged."""
    for name, text in texts.items():
        before, _, after = _split(name)
        begin, end = _marks(name)
        write_text(path_of(name), f"{before}{begin}\n{text}\n{end}{after}")


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin (written by {PLACES[name].command}) -->", f"<!-- {name}: end -->"


def _split(name: str) -> tuple[str, str, str]:
    """A document before, between and after the marks of a part."""
    text, (begin, end) = path_of(name).read_text("utf-8"), _marks(name)
    if begin not in text or end not in text:
        file = PLACES[name].file
        raise UserError(f"{file} has no place for the {name}: put {begin!r} and {end!r} into it, on own lines.")
    before, rest = text.split(begin, 1)
    between, after = rest.split(end, 1)
    return before, between, after
