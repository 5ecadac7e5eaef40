"""The README's tables of results: written by `make report` between marks, and compared by a test ever after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.figure import Data, told
from experiments.results import ROOT
from optune.artefacts import write_text
from optune.types import UserError

README = ROOT / "README.md"
UNITS = {
    "win_score": "win score",
    "gold_mean": "gold",
    "length_controlled_winrate": "LC win rate",
    "seconds": "measured minus claimed",
    "share": "share minus 0.5",
}


def table(verdicts: Sequence[dict[str, Any]]) -> str:
    """One row per claim of the paper: what it claims, our contrast with its interval, and the verdict."""
    lines = ["| the paper's claim | here: contrast [95% interval] | verdict |", "|---|---|---|"]
    for row in verdicts:
        if row["family"] == "paper":
            told = "; ".join(_told(name, test) for name, test in row["outcomes"].items())
            lines.append(f"| {row['statement']} | {told} | **{row['verdict']}**{_caution(row)} |")
    return "\n".join(lines)


def _caution(row: dict[str, Any]) -> str:
    """What makes a parity verdict say little."""
    gates = [test["gate"]["within_margin"] for test in row["outcomes"].values() if "gate" in test]
    weak = row["verdict"] == "replicated" and gates and all(gates)
    return " (by the same rule, so is never regenerating)" if weak else ""


def _told(name: str, test: dict[str, Any]) -> str:
    digits = 1 if name == "win_score" else 2
    limits = f"[{test['low']:+.{digits}f}, {test['high']:+.{digits}f}]"
    return f"{UNITS.get(name, name.replace('_', ' '))} {test['estimate']:+.{digits}f} {limits}"


def recipes(data: Data) -> str:
    """One row per member of `compare-recipes.json`: its outcomes where vanilla's tokens, or seconds, are spent."""
    lines = ["| recipe | at equal tokens: win score; gold | at equal seconds: win score; gold |", "|---|---|---|"]
    for member in data["members"].values():
        cells = [f"{told(found['win_score'])}; {told(found['gold_mean'], 2)}" for found in _at(member)]
        lines.append(f"| {member['title']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _at(member: Data) -> list[Data]:
    return [member["at"][unit] for unit in ("tokens", "seconds")]


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin (written by make report) -->", f"<!-- {name}: end -->"


def written(name: str = "results") -> str:
    """What stands between the marks. Raises UserError where the README has none."""
    return _parts(name)[1].strip()


def _parts(name: str) -> tuple[str, str, str]:
    """The README before, between and after the marks."""
    text, (begin, end) = README.read_text("utf-8"), _marks(name)
    if begin not in text or end not in text:
        raise UserError(f"README.md has no place for the {name}: put {begin!r} and {end!r} into it, on own lines.")
    before, rest = text.split(begin, 1)
    between, after = rest.split(end, 1)
    return before, between, after


def update_readme(tables: dict[str, str]) -> None:
    """Put each table in its place, by the name in its marks; the rest of the README stays as it is."""
    for name, text in tables.items():
        before, _, after = _parts(name)
        begin, end = _marks(name)
        write_text(README, f"{before}{begin}\n{text}\n{end}{after}")
