"""A row of the table: what was measured, of whom, the goal, and whether it is met."""

from __future__ import annotations

from typing import Any, Literal

from experiments.bench.timing import Spread

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


def reaches(value: float, goal: float, side: Side) -> bool:
    """`within` is a distance from 1."""
    if side == "within":
        return abs(value - 1) <= goal
    return value >= goal if side == "at least" else value <= goal


def told(found: Row) -> str:
    """One line for the screen."""
    if found["ratio"] is None:
        value = (
            f"{number(found['ours']['median'])} {found['unit']}" if found["ours"] else f"not measured ({found['why']})"
        )
        against = "" if found["peer"] == "none" else f" against {found['peer']}"
        return f"  {found['what']}{against}: {value}"
    goal = "" if found["goal"] is None else f"; goal {goal_told(found)}: {'met' if found['met'] else 'not met'}"
    values = "; ".join(
        f"{who} {number(found[key]['median'])} {found['unit']}"
        for who, key in (("ours", "ours"), ("theirs", "theirs"))
        if found[key]
    )
    return f"  {found['what']} against {found['peer']}: {ratio_told(found)}{goal} ({values})"


def goal_told(found: Row) -> str:
    """`>= 2.5`, `<= 0.75`, `within 5%`."""
    if found["side"] == "within":
        return f"within {found['goal']:.0%}"
    return f"{'≥' if found['side'] == 'at least' else '≤'} {found['goal']:g}"


def ratio_told(found: Row) -> str:
    """The ratio with its spread."""
    ratio = found["ratio"]
    digits = 3 if found["side"] == "within" else 2
    return f"{ratio['median']:.{digits}f} [{ratio['low']:.{digits}f}, {ratio['high']:.{digits}f}]"


def number(value: float) -> str:
    """Three figures, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
