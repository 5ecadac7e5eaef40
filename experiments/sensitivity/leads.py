"""Shared by the scripts here: leads of one arm over another after the last iteration, paired by seed; their picture.

A lead is `{"mean", "low", "high", "per_seed"}`: a 95% t interval over seeds, and the seeds themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.claims.rules import OUTCOMES
from experiments.compute.raw_result import RawResult
from experiments.figures.figure import Data, caption, interval, shown

DIGITS = {"win_score": 1, "gold_mean": 2}
NO_VERDICT = "3 seeds, no verdict"


def at_the_end(results: Sequence[RawResult], measure: str) -> list[float]:
    """One measure of each seed's last policy."""
    return [result["iterations"][-1][measure] for result in results]


SPENT = {"tokens": "generate", "pairs": "pairs", "updates": "train"}  # what is counted, and by which stage


def total(result: RawResult, count: str, since: int = 0) -> int:
    """Tokens sampled, pairs trained on or updates made (SPENT), over all iterations from `since` on."""
    return sum(row["stages"][SPENT[count]][count] for row in result["iterations"][since:])


def until(results: Sequence[RawResult], iteration: int) -> list[RawResult]:
    """The results as if their runs had ended after `iteration`."""
    return [{**result, "iterations": result["iterations"][: iteration + 1]} for result in results]


def level(results: Sequence[RawResult]) -> Data:
    """By outcome the value after the last iteration, with its interval over seeds."""
    return {measure: interval(at_the_end(results, measure)) for measure in OUTCOMES}


def lead(results: Sequence[RawResult], rival: Sequence[RawResult]) -> Data:
    """By outcome what one arm is ahead of another by, seed by seed."""
    leads: Data = {}
    for measure in OUTCOMES:
        pairs = zip(at_the_end(results, measure), at_the_end(rival, measure), strict=True)
        by_seed = [round(ours - theirs, 6) for ours, theirs in pairs]
        leads[measure] = {**interval(by_seed), "per_seed": by_seed}
    return leads


def told(by_outcome: Data) -> str:
    """`win score 1.2 [0.3, 2.1], gold 0.03 [-0.01, 0.07]`."""
    names = {"win_score": "win score", "gold_mean": "gold"}
    cells = []
    for measure, value in by_outcome.items():
        cells.append(f"{names[measure]} {shown(value, DIGITS[measure])}")
    return ", ".join(cells)


def foot(data: Data, what: str) -> str:
    """The line below a picture."""
    return caption(data, f"descriptive, {NO_VERDICT}: {what}")


def points(axes: Any, x: Sequence[float], leads: Sequence[Data], label: str, place: int, joined: bool = True) -> None:
    """Means with intervals, joined by a line, and the seeds as small dots; `place` picks colour and marker."""
    from experiments.figures import style

    colour = style.COLOURS["ratio"][place]
    line = "-" if joined else "none"
    look = {"color": colour, "marker": style.MARKERS[place], "markersize": 5, "linestyle": line, "linewidth": 1.2}
    axes.errorbar(x, [v["mean"] for v in leads], style.reach(leads), label=label, capsize=2.5, elinewidth=0.9, **look)
    for at, value in zip(x, leads, strict=True):
        for seed in value["per_seed"]:
            axes.plot(at, seed, ".", color=colour, markersize=3.5, alpha=0.6, zorder=1)


def dress(axes: Any, ylabel: str = "") -> None:
    """Grid, and a line at no lead."""
    from experiments.figures import style

    style.grid(axes)
    axes.axhline(0, color=style.COLOURS["line"], linewidth=0.7, linestyle=":")
    axes.set_ylabel(ylabel)


def draw_leads(
    leads: Sequence[Data],
    labels: Sequence[str],
    names: dict[str, str],
    xlabel: str,
    text: str,
    without_verdict: bool,
    path: Path,
) -> list[str]:
    """Leads side by side, a panel for each outcome of `names` with its label; `text` goes below."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, panels = plt.subplots(1, len(names), figsize=(7.2, 3.2))
    for axes, (measure, name) in zip(panels, names.items(), strict=True):
        points(axes, range(len(leads)), [by_outcome[measure] for by_outcome in leads], name, 1, joined=False)
        dress(axes, name)
        axes.set_xticks(range(len(labels)), labels, fontsize=7)
        axes.set_xlabel(xlabel)
        axes.margins(x=0.1)
    figure.subplots_adjust(top=0.92, bottom=0.26, left=0.09, right=0.985, wspace=0.27)
    style.stamp(figure, text, without_verdict)
    return style.save(figure, path)
