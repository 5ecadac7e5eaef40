"""The README's table of results: written by `make report` between two marks, and compared by a test ever after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.results import ROOT
from optune.artefacts import write_text
from optune.types import UserError

BEGIN, END = "<!-- results: begin (written by make report) -->", "<!-- results: end -->"
README = ROOT / "README.md"
UNITS = {"win_score": "win score", "gold_mean": "gold", "length_controlled_winrate": "LC win rate"}


def table(verdicts: Sequence[dict[str, Any]]) -> str:
    """One row per claim of the paper: what it claims, our contrast with its interval, and the verdict."""
    lines = ["| the paper's claim | here: contrast [95% interval] | verdict |", "|---|---|---|"]
    for row in verdicts:
        if row["family"] == "paper":
            told = "; ".join(_told(name, test) for name, test in row["outcomes"].items())
            lines.append(f"| {row['statement']} | {told} | **{row['verdict']}** |")
    return "\n".join(lines)


def _told(name: str, test: dict[str, Any]) -> str:
    digits = 1 if name == "win_score" else 2
    limits = f"[{test['low']:+.{digits}f}, {test['high']:+.{digits}f}]"
    return f"{UNITS.get(name, name.replace('_', ' '))} {test['estimate']:+.{digits}f} {limits}"


def written() -> str:
    """What stands between the marks. Raises UserError where the README has none."""
    text = README.read_text("utf-8")
    if BEGIN not in text or END not in text:
        raise UserError(f"README.md has no place for the results: put {BEGIN!r} and {END!r} into it, on own lines.")
    return text.split(BEGIN, 1)[1].split(END, 1)[0].strip()


def update_readme(verdicts: Sequence[dict[str, Any]]) -> None:
    """Put the table in its place; the rest of the README stays as it is."""
    written()
    text = README.read_text("utf-8")
    before, after = text.split(BEGIN, 1)[0], text.split(END, 1)[1]
    write_text(README, f"{before}{BEGIN}\n{table(verdicts)}\n{END}{after}")
