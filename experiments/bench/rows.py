"""A row of the table: what was measured, of whom, the goal, and whether it is met."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from experiments.bench.timing import Spread, ratios, spread

Row = dict[str, Any]
Side = Literal["at least", "at most", "within"]


def row(
    what: str,
    peer: str,
    unit: str,
    ours: Spread | None,
    theirs: Spread | None,
    ratio: Spread | None,
    goal: float | None = None,
    side: Side = "at least",
    settings: dict[str, str] | None = None,
    why: str = "",
    note: str = "",
) -> Row:
    """One comparison. ratio: ours over the peer's, as `goal` reads it. why: the reason if the goal is not met, or if
    nothing was measured (`ratio` None). settings: how each side was run, in words.
    """
    met = None if goal is None or ratio is None else reaches(ratio["median"], goal, side)
    return {
        "what": what,
        "peer": peer,
        "unit": unit,
        "ours": ours,
        "theirs": theirs,
        "ratio": ratio,
        "goal": goal,
        "side": side,
        "met": met,
        "why": "" if met else why,
        "settings": settings or {},
        "note": note,
    }


def compared(
    what: str,
    peer: str,
    unit: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    goal: float | None = None,
    **more: Any,
) -> Row:
    """The row of what both sides reached, turn by turn. more: as in `row`."""
    return row(what, peer, unit, spread(ours), spread(theirs), ratios(ours, theirs), goal, **more)


def not_measured(what: str, peer: str, unit: str, goal: float | None, why: str, side: Side = "at least") -> Row:
    """The row of a comparison that could not be made."""
    return row(what, peer, unit, None, None, None, goal, side, why=why)


def reaches(value: float, goal: float, side: Side) -> bool:
    """`within` is a distance from 1."""
    if side == "within":
        return abs(value - 1) <= goal
    return value >= goal if side == "at least" else value <= goal


def row_text(row: Row) -> str:
    """One line for the screen."""
    if row["ratio"] is None:
        value = f"{number(row['ours']['median'])} {row['unit']}" if row["ours"] else f"not measured ({row['why']})"
        against = "" if row["peer"] == "none" else f" against {row['peer']}"
        return f"  {row['what']}{against}: {value}"
    goal = "" if row["goal"] is None else f"; goal {goal_text(row)}: {'met' if row['met'] else 'not met'}"
    values = "; ".join(
        f"{who} {number(row[key]['median'])} {row['unit']}"
        for who, key in (("ours", "ours"), ("theirs", "theirs"))
        if row[key]
    )
    return f"  {row['what']} against {row['peer']}: {ratio_text(row)}{goal} ({values})"


def goal_text(row: Row) -> str:
    """`>= 2.5`, `<= 0.75`, `within 5%`."""
    if row["side"] == "within":
        return f"within {row['goal']:.0%}"
    return f"{'≥' if row['side'] == 'at least' else '≤'} {row['goal']:g}"


def ratio_text(row: Row) -> str:
    """The ratio with its spread."""
    ratio = row["ratio"]
    digits = 3 if row["side"] == "within" else 2
    return f"{ratio['median']:.{digits}f} [{ratio['low']:.{digits}f}, {ratio['high']:.{digits}f}]"


def number(value: float) -> str:
    """Three figures, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
