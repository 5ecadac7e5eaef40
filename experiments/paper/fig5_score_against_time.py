"""Figure 5: win score against training time by selection ratio, wDPO.

The paper: with half of the prompts regenerated, OPTune comes to ratio 1's win score in less time; its speedups are 1.27
(ratio 0.7) and 1.56 (ratio 0.5), which is 1/(1 - g(1 - ratio)) with generation's share of time g = 71.8% (Table 1).
Training time is generation, rewarding and training together; whether iteration 0 counts is not said. Differences: time
from iteration 1 on is drawn, with iteration 0 it stands in the data too; a second panel has generated tokens, which
depend on no machine and no load. Seconds are those of runs made for the clock alone, one arm after the other in turn;
beside the measured speedup stands the one that follows from this preset's own g. A run of the real model takes a
quarter of an hour, and none was repeated for the clock: its seconds are the work that was counted (tokens, scored
responses, trained pairs) at what ratio 1 took for each, on average over all seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.claims.contrasts import SPEEDUPS, on_the_clock, seconds_of, speedup, timed
from experiments.compute.arms import RATIOS, arm, loss_arms
from experiments.compute.raw_result import Raw
from experiments.development.time_to_quality import PHASES, unit_costs
from experiments.figures.figure import Data, Evidence, Figure, at_iteration, caption, interval, preview, shown
from experiments.paper.table1_time_shares import time_share

SHOWN = loss_arms("wdpo")
ARMS = timed(*SHOWN)
FULL = arm("wdpo", "all").name
CLOCKED = arm("wdpo", "all").probed("seconds").name
LEGEND = 0.5  # its height, over that of what is above the baseline
COSTS: dict[str, Callable[[dict[str, Any]], float]] = {
    "seconds": seconds_of,
    "tokens": lambda entry: entry["tokens"],
}


def collect(evidence: Evidence) -> Data:
    """Per arm and iteration: outcomes, and seconds and tokens so far; per ratio: speedups. 95% t intervals."""
    raw = evidence.raw
    clocked = {member.name: on_the_clock(raw, member) for member in SHOWN}
    data: Data = {}
    data["seconds"] = "runs for the clock"
    if CLOCKED not in raw:
        data["seconds"] = "work at ratio 1's mean cost"
        costs = unit_costs(raw[FULL])
        clocked = {name: [priced(result, costs) for result in results] for name, results in clocked.items()}
    data["engine"] = raw[FULL][0]["config"]["generation"]["engine"]
    data["arms"] = {}
    for name, results in clocked.items():
        data["arms"][name] = [point(results, t) for t in range(len(results[0]["iterations"]))]
    data["speedups"] = {str(ratio): speedups({**raw, **clocked}, ratio) for ratio in RATIOS}
    return data


def priced(result: dict[str, Any], costs: dict[str, float]) -> dict[str, Any]:
    """A result with the seconds that its work takes at `costs`, those of `unit_costs`, in the place of its own."""
    ledger = []
    for entry, done in zip(result["timing"]["ledger"], result["iterations"], strict=True):
        seconds = {phase: costs[phase] * done["stages"][stage][count] for phase, (stage, count) in PHASES.items()}
        ledger.append({**entry, **seconds})
    return {**result, "timing": {**result["timing"], "ledger": ledger}}


def point(results: Sequence[dict[str, Any]], t: int) -> Data:
    """Outcomes after iteration t, and the cost until then, without and with iteration 0."""
    values = {"iteration": t, **at_iteration(results, t, ("win_score", "gold_mean"))}
    for cost in COSTS:
        values[cost] = interval([spent(result, cost, t) for result in results])
        values[f"{cost}_from_iteration_0"] = interval([spent(result, cost, t, first=0) for result in results])
    return values


def spent(result: dict[str, Any], cost: str, last: int, first: int = 1) -> float:
    """Seconds or tokens of the iterations `first` to `last`, both included."""
    entries = [entry for entry in result["timing"]["ledger"] if first <= entry["iteration"] <= last]
    return float(sum(COSTS[cost](entry) for entry in entries))


def speedups(raw: Raw, ratio: float) -> Data:
    """How many times less than ratio 1: measured in seconds, in tokens, predicted from our shares, and the paper's.

    `predicted` counts generation alone as saved, as the paper's numbers do; `predicted_with_rewarding` both of what
    is done for fresh responses only.
    """
    reduced, last = raw[arm("wdpo", "lowest_reward", ratio).name], len(raw[FULL][0]["iterations"]) - 1
    tokens = [spent(a, "tokens", last) / spent(b, "tokens", last) for a, b in zip(raw[FULL], reduced, strict=True)]
    generation = np.array([time_share(result, "generation_s") for result in raw[FULL]])
    rewarding = np.array([time_share(result, "rewarding_s") for result in raw[FULL]])
    return {
        "measured": interval(speedup(raw, ratio).tolist()),
        "predicted": interval((1 / (1 - generation * (1 - ratio))).tolist()),
        "predicted_with_rewarding": interval((1 / (1 - (generation + rewarding) * (1 - ratio))).tolist()),
        "paper": SPEEDUPS.get(ratio),
        "tokens": interval(tokens),
    }


def lines(data: Data) -> list[str]:
    """The speedups by ratio."""
    said = []
    for ratio, times in data["speedups"].items():
        paper = f"paper {times['paper']}; " if times["paper"] else ""
        said.append(
            f"  ratio {ratio}: {shown(times['measured'], 2)} times as fast as ratio 1 ({paper}generation's share gives "
            f"{shown(times['predicted'], 2)}), {shown(times['tokens'], 2)} times fewer tokens"
        )
    return said


def draw(data: Data, path: Path) -> list[str]:
    """Win score over seconds and over tokens; a marker per iteration, the first one the shared iteration 0."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.5), sharey=True)
    titles = {"seconds": "ratio: times as fast as full", "tokens": "ratio: times fewer than full"}
    labels = {"seconds": "Seconds from iteration 1 on", "tokens": "Generated tokens from iteration 1 on"}
    for axes, cost in zip(panels, COSTS, strict=True):
        for (name, points), colour, marker in zip(
            data["arms"].items(), style.COLOURS["ratio"], style.MARKERS, strict=True
        ):
            x, y = [p[cost] for p in points], [p["win_score"] for p in points]
            axes.errorbar(
                [p["mean"] for p in x],
                [p["mean"] for p in y],
                style.reach(y),
                style.reach(x),
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.3,
                elinewidth=0.6,
                label=_label(name, data["speedups"], cost),
            )
        axes.axhline(50, color=style.COLOURS["line"], linewidth=0.7, linestyle=":")
        axes.set_xlabel(labels[cost])
        axes.legend(loc="lower right", title=titles[cost], title_fontsize=7, fontsize=7, frameon=False)
        style.grid(axes)
    low, high = panels[0].get_ylim()
    if low > 50 - LEGEND * (high - 50):  # the legend's room, below the line of the baseline
        panels[0].set_ylim(50 - LEGEND * (high - 50), high)
    panels[1].xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value else "0")
    panels[0].set_ylabel("Win score against the offline baseline")
    figure.subplots_adjust(top=0.93, bottom=0.2, left=0.08, right=0.98, wspace=0.06)
    panels[1].text(0.99, 50, "baseline", transform=panels[1].get_yaxis_transform(), fontsize=6, ha="right", va="bottom")
    what = f"wDPO, engine {data['engine']}, seconds of {data['seconds']}; mean, 95% t interval"
    style.stamp(figure, caption(data, what), preview(data))
    return style.save(figure, path)


def _label(name: str, speedups: Data, cost: str) -> str:
    if name == FULL:
        return "1.0: full"
    ratio = name.rsplit("-", 1)[1]
    if cost == "tokens":
        return f"{ratio}: {shown(speedups[ratio]['tokens'], 2)}"
    paper = f"; paper {speedups[ratio]['paper']}" if speedups[ratio]["paper"] else ""
    return f"{ratio}: {shown(speedups[ratio]['measured'], 2)}{paper}"


FIGURE = Figure("Win score against time and generated tokens", ARMS, collect, draw, lines)
