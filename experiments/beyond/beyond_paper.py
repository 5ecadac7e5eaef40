"""Beyond the paper: is reuse worth it, what do equal budgets buy, and does another strategy select better?

Hypotheses and what is compared (wDPO, paired by seed; the contrasts are those of `claims.py`):
(a) Reused pairs are worth training on: `lowest_reward` at each ratio on the latest pair of every prompt (the paper)
    against the fresh pairs alone. Fresh alone also means fewer pairs and so fewer steps, in proportion to the ratio.
(b) What half the prompts save is worth more as further iterations: ratio 0.5 for six iterations (lowest reward, random)
    against ratio 1 for three, at the tokens and at the seconds that ratio 1's three iterations took; the third
    iteration on these curves is ratio 0.5 for three. Iteration 0, shared, is not counted; seconds are those of runs
    for the clock alone.
(c) The best further strategy of the development seeds selects better than the lowest reward and than random, at 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.claims.contrasts import (
    BEST_STRATEGY_ARMS,
    FRESH_ARMS,
    LONG_ARMS,
    PHASES,
    best_strategy_over_lowest,
    equal_seconds,
    equal_tokens,
    of,
    on_the_clock,
    reuse_over_fresh,
    timed,
)
from experiments.claims.rules import OUTCOMES
from experiments.compute.arms import BEST_STRATEGY, RATIOS, arm, ratio_arms
from experiments.compute.raw_result import Raw
from experiments.figures.figure import Data, Evidence, Figure, at_iteration, caption, interval, preview, shown

FULL = arm("wdpo", "all")
CLOCKED = (FULL, LONG_ARMS[0])  # random takes the same time as the lowest reward
ARMS = (*ratio_arms("wdpo"), *FRESH_ARMS, *LONG_ARMS, BEST_STRATEGY_ARMS[0], *timed(*CLOCKED)[len(CLOCKED) :])
REUSED = tuple(arm("wdpo", "lowest_reward", ratio) for ratio in RATIOS)
STRATEGIES = {name: arm("wdpo", name, 0.5) for name in (BEST_STRATEGY, "lowest_reward", "random")}


def best_over_random(raw: Raw, measure: str) -> np.ndarray:
    """The best further strategy minus random, at 0.5."""
    return of(raw, measure, "wdpo", BEST_STRATEGY, 0.5) - of(raw, measure, "wdpo", "random", 0.5)


CONTRASTS = {
    "reused and fresh pairs - fresh alone (mean over ratios)": reuse_over_fresh,
    "half the prompts for longer - all, at equal tokens": equal_tokens,
    "half the prompts for longer - all, at equal seconds": equal_seconds,
    f"{BEST_STRATEGY} - lowest_reward, at 0.5": best_strategy_over_lowest,
    f"{BEST_STRATEGY} - random, at 0.5": best_over_random,
}


def collect(evidence: Evidence) -> Data:
    """Levels of every arm and iteration with intervals, what each curve cost, and the contrasts."""
    raw = evidence.raw
    data: Data = {"ratios": list(RATIOS), "best_strategy": BEST_STRATEGY}
    data["arms"] = {}
    for name, results in raw.items():
        if "iterations" in results[0]:  # not those for the clock
            iterations = range(len(results[0]["iterations"]))
            data["arms"][name] = [at_iteration(results, t, OUTCOMES) for t in iterations]
    data["tokens"] = {a.name: _spent(raw[a.name], ("tokens",)) for a in (FULL, *LONG_ARMS)}
    data["seconds"] = {a.name: _spent(on_the_clock(raw, a), PHASES) for a in CLOCKED}
    data["contrasts"] = {}
    for said, contrast in CONTRASTS.items():
        data["contrasts"][said] = {measure: _by_seed(contrast(raw, measure)) for measure in OUTCOMES}
    return data


def _by_seed(values: np.ndarray) -> Data:
    values = [round(float(value), 6) for value in values]
    return {**interval(values), "per_seed": values}


def _spent(results: list[dict[str, Any]], columns: Sequence[str]) -> list[float]:
    """Sum of the ledger's columns by the end of each iteration, from iteration 1 on, mean over seeds."""
    spent = []
    for result in results:
        rows = [[entry[column] for column in columns] for entry in result["timing"]["ledger"][1:]]
        spent.append(np.cumsum([sum(row) for row in rows]))
    return np.mean(spent, axis=0).round(3).tolist()


def lines(data: Data) -> list[str]:
    """The contrasts."""
    return [
        f"  {said}: win score {shown(by_outcome['win_score'])}, gold {shown(by_outcome['gold_mean'], 3)}"
        for said, by_outcome in data["contrasts"].items()
    ]


# --- the picture -----------------------------------------------------------------------------------------------------


def draw(data: Data, path: Path) -> list[str]:
    """Four panels of win scores: reuse by ratio, strategies over iterations, and score against tokens and seconds."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, ((reuse, strategies), (tokens, seconds)) = plt.subplots(2, 2, figsize=(7.2, 5.6))
    _reuse(reuse, data)
    _strategies(strategies, data)
    _budget(tokens, data, "tokens", 1e3, "Generated tokens, thousands")
    _budget(seconds, data, "seconds", 1, "Seconds (generation, rewarding, training)")
    titles = {reuse: "a  Reuse", strategies: "b  Another strategy", tokens: "c  Equal tokens", seconds: "d  Equal time"}
    for axes, title in titles.items():
        axes.set_title(title, loc="left", fontsize=9)
        style.grid(axes)
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.35 * (high - low), high)  # room for the legend
        axes.legend(edgecolor="none", framealpha=1, fontsize=7, loc="lower right", handlelength=2.2)
    for axes in (reuse, tokens):
        axes.set_ylabel("Win score")
    figure.subplots_adjust(top=0.95, bottom=0.125, left=0.08, right=0.985, hspace=0.42, wspace=0.17)
    style.stamp(figure, caption(data, "wDPO, means, 95% t intervals; dotted: what ratio 1 spends"), preview(data))
    return style.save(figure, path)


def _curve(axes: Any, x: Sequence[float], points: Sequence[Data], label: str, place: int, line: str = "-") -> None:
    """Means joined by a line, with intervals; `place` picks colour and marker."""
    from experiments.figures import style

    scores = [point["win_score"] for point in points]
    colour = style.COLOURS["ratio"][place]
    look = {"color": colour, "marker": style.MARKERS[place], "markersize": 4, "linestyle": line, "linewidth": 1.2}
    means = [score["mean"] for score in scores]
    axes.errorbar(x, means, style.reach(scores), label=label, capsize=2, elinewidth=0.9, **look)


def _reuse(axes: Any, data: Data) -> None:
    reused = [data["arms"][member.name][3] for member in REUSED]
    fresh = [data["arms"][member.name][3] for member in FRESH_ARMS]
    _curve(axes, [ratio - 0.006 for ratio in data["ratios"]], reused, "reused and fresh pairs", 1)
    _curve(axes, [ratio + 0.006 for ratio in data["ratios"]], fresh, "fresh pairs alone", 3, "--")
    axes.set_xticks(data["ratios"])
    axes.set_xlabel("Selection ratio, iteration 3")


def _strategies(axes: Any, data: Data) -> None:
    for place, (name, of_name) in enumerate(STRATEGIES.items()):
        points = data["arms"][of_name.name][1:]
        x = [t + 0.05 * (place - 1) for t in range(1, len(points) + 1)]
        label = name.replace("_", " ") + (" (best on development)" if name == BEST_STRATEGY else "")
        _curve(axes, x, points, label, (3, 1, 2)[place], ("-", "-", "--")[place])
    axes.set_xticks(range(1, len(points) + 1))
    axes.set_xlabel("Iteration, ratio 0.5")


def _budget(axes: Any, data: Data, unit: str, scale: float, label: str) -> None:
    from experiments.figures import style

    looks = [("all, ratio 1", 3, "-"), ("lowest reward, 0.5", 1, "-"), ("random, 0.5", 2, "--")]
    for a, (who, place, line) in zip((FULL, *LONG_ARMS), looks, strict=True):
        if a.name in data[unit]:
            _curve(axes, [cost / scale for cost in data[unit][a.name]], data["arms"][a.name][1:], who, place, line)
    budget = data[unit][FULL.name][-1] / scale
    axes.axvline(budget, color=style.COLOURS["line"], linewidth=0.7, linestyle=":")
    axes.set_xlabel(label)


FIGURE = Figure("Beyond the paper: reuse, equal budgets, another strategy", ARMS, collect, draw, lines)
