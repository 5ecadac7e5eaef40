"""The README's tables of results, as `make report` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.figures.figure import Data, shown

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
        cells = [f"{shown(at_budget['win_score'])}; {shown(at_budget['gold_mean'], 2)}" for at_budget in _at(member)]
        lines.append(f"| {member['title']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _at(member: Data) -> list[Data]:
    return [member["at"][unit] for unit in ("tokens", "seconds")]
