"""The README's parts that commands write: each between two marks under its name, and compared by a test ever after."""

from __future__ import annotations

from experiments.compute.results import ROOT
from optune.types import UserError
from optune.utils.files import write_text

README = ROOT / "README.md"
WRITTEN_BY = {
    "results": "make report",
    "recipes": "make report",
    "bench": "make bench",
    "robustness": "make chaos, make fuzz and make audit",
}


def written(name: str) -> str:
    """What stands between the marks of a part. Raises UserError where the README has none."""
    return _parts(name)[1].strip()


def update_readme(texts: dict[str, str]) -> None:
    """Put each text in the place of its name; the rest of the README stays as it is."""
    for name, text in texts.items():
        before, _, after = _parts(name)
        begin, end = _marks(name)
        write_text(README, f"{before}{begin}\n{text}\n{end}{after}")


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin (written by {WRITTEN_BY[name]}) -->", f"<!-- {name}: end -->"


def _parts(name: str) -> tuple[str, str, str]:
    """The README before, between and after the marks."""
    text, (begin, end) = README.read_text("utf-8"), _marks(name)
    if begin not in text or end not in text:
        raise UserError(f"README.md has no place for the {name}: put {begin!r} and {end!r} into it, on own lines.")
    before, rest = text.split(begin, 1)
    between, after = rest.split(end, 1)
    return before, between, after
