"""Table 2: AlpacaEval's length-controlled win rate of the final policies, wDPO.

The paper: OPTune at ratio 0.7 wins most often (16.45%), ratio 1 included (15.43%), the baseline 13.2%; one run each and
no errors. Differences: intervals over seeds beside the package's own standard error; prompts and judge are the world's
own (805 prompts of the tiny world, the 600 test instructions of the real model), the judge in the package's form, and
the offline baseline is the reference (so that its own rate is 50% by construction) where AlpacaEval 2 has GPT-4's
answers: the levels cannot be compared, the order can. The package's formula lacks difficulties of such prompts; which
variant was fitted is in the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.claims.contrasts import ALPACA_ARMS
from experiments.compute.results import ROOT
from experiments.figures.figure import Data, Evidence, Figure, caption, interval, preview, shown
from optune.utils.files import read_json

ARMS = tuple(member.probed("alpaca") for member in ALPACA_ARMS)
LABELS = {"all": "full", "lowest_reward": "OPTune", "random": "random"}


def collect(evidence: Evidence) -> Data:
    """Per arm the win rates in percent with 95% t intervals over seeds, the mean standard error, and the paper's."""
    raw = evidence.raw
    data: Data = {}
    first = next(iter(raw.values()))[0]
    data |= {"prompts": first["n"] + first["unparsed"], "lc_variant": first["lc_variant"]}
    data["paper_baseline"] = read_json(ROOT / "results" / "published" / "table2.json")["arms"]["baseline"]
    data["arms"] = {
        member.name: _row(raw[probed.name], member.name) for member, probed in zip(ALPACA_ARMS, ARMS, strict=True)
    }
    return data


def _row(results: Sequence[dict[str, Any]], name: str) -> Data:
    def values(measure: str) -> list[float]:
        return [result[measure] for result in results]

    return {
        "lc_win_rate": interval(values("length_controlled_winrate")),
        "win_rate": interval(values("win_rate")),
        "lc_standard_error": fmean(values("lc_standard_error")),
        "avg_length": fmean(values("avg_length")),
        "unparsed": sum(values("unparsed")),
        "paper": read_json(ROOT / "results" / "published" / "table2.json")["arms"].get(name),
    }


def lines(data: Data) -> list[str]:
    """One row per arm; the last column is the paper's."""
    heading = f"  {'percent':26s}{'length-controlled':22s}{'package s.e.':14s}{'raw':22s}{'characters':12s}paper"
    rows = [
        f"  {name:26s}{shown(row['lc_win_rate']):22s}{row['lc_standard_error']:<14.2f}{shown(row['win_rate']):22s}"
        f"{row['avg_length']:<12.0f}{_number(row['paper'])}"
        for name, row in data["arms"].items()
    ]
    reference = f"  {'offline baseline':26s}{'50 (the reference)':70s}{_number(data['paper_baseline'])}"
    return [heading, *rows, reference]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def draw(data: Data, path: Path) -> list[str]:
    """Two panels with the same rows, random selection hollow: ours with intervals over seeds, the paper's values."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, (ours, paper) = plt.subplots(1, 2, figsize=(7.2, 2.6), sharey=True)
    for place, (name, row) in enumerate(data["arms"].items()):
        colour = style.COLOURS["ratio"][3 if "-all-" in name else 1]
        dot = {"fmt": "o", "color": colour, "markersize": 5, "mfc": "white" if "-random-" in name else colour}
        point = row["lc_win_rate"]
        ours.errorbar(point["mean"], place, xerr=style.reach([point]), capsize=2, linewidth=1, **dot)
        if row["paper"] is not None:
            paper.errorbar(row["paper"], place, **dot)
    ours.axvline(50, color=style.COLOURS["line"], linewidth=0.7, linestyle=":")
    paper.axvline(data["paper_baseline"], color=style.COLOURS["line"], linewidth=0.7, linestyle=":")
    ours.set_title("Ours, against the offline baseline (dotted)", fontsize=8.5)
    paper.set_title("The paper's, against GPT-4 (dotted: baseline)", fontsize=8.5)
    ours.set_yticks(range(len(data["arms"])), [_label(name) for name in data["arms"]])
    ours.invert_yaxis()
    for axes in (ours, paper):
        axes.set_xlabel("Length-controlled win rate (%)")
        axes.grid(axis="x", linewidth=0.4, color="#cccccc")
    figure.subplots_adjust(top=0.87, bottom=0.29, left=0.12, right=0.98, wspace=0.08)
    what = f"wDPO, final policies, {data['prompts']} prompts; 95% t intervals over seeds"
    style.stamp(figure, caption(data, what), preview(data))
    return style.save(figure, path)


def _label(name: str) -> str:
    """`OPTune 0.7` of `wdpo-lowest_reward-0.7`."""
    _, strategy, ratio = name.split("-")
    return f"{LABELS[strategy]} {ratio}"


FIGURE = Figure("AlpacaEval, length-controlled win rate of the final policies", ARMS, collect, draw, lines)
