"""What selection leaves old: who is never refreshed, how selected sets overlap, and how old the reused pairs are.

From the runs of Figure 3 (wDPO, lowest reward and random at 0.3, 0.5 and 0.7). a: prompts that no iteration after 0
has refreshed; a random part misses a prompt three times with (1 - ratio)^3. b: of the prompts selected in iterations 2
and 3, the share that had been selected in the iteration before; by chance it is the ratio. c: age in iterations of the
pairs that train in iteration 3. d: by task family, prompts never refreshed at 0.5. The lines also give, at 0.5 and 0.7,
how much of a smaller ratio's selection the larger one holds in the same iteration, and how much of random's selection
lowest reward holds. Descriptive: three seeds of one build, which carry no verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from experiments.compute.arms import RATIOS
from experiments.figures.figure import Data, Evidence, Figure, interval, preview, shown
from experiments.sensitivity.arms import STALENESS
from experiments.sensitivity.leads import foot

LABELS = {"lowest_reward": "lowest reward", "random": "random"}
AT = 0.5  # the ratio whose families are shown
ARMS = tuple(a for by_ratio in STALENESS.values() for a in by_ratio.values())


def selected(result: dict[str, Any]) -> np.ndarray:
    """(iterations after 0, prompts) bool: who was selected."""
    return np.array([[mark == "1" for mark in row["selected"]] for row in result["iterations"][1:]])


def repeated(result: dict[str, Any]) -> float:
    """Of the prompts selected from iteration 2 on, the share that the iteration before had selected, too."""
    chosen = selected(result)
    return float((chosen[1:] & chosen[:-1]).sum() / chosen[1:].sum())


def held(small: dict[str, Any], large: dict[str, Any]) -> float:
    """Of what one run selected, the share that another one selected in the same iteration."""
    ours, theirs = selected(small), selected(large)
    return float((ours & theirs).sum() / ours.sum())


def ages(result: dict[str, Any]) -> list[float]:
    """Shares of the last iteration's pairs by age: 0 for fresh ones, then 1, 2, ..."""
    last = result["iterations"][-1]
    counts = [last["pairs_sampled_at"].get(str(last["iteration"] - age), 0) for age in range(last["iteration"] + 1)]
    return [count / sum(counts) for count in counts]


def never_by_family(result: dict[str, Any]) -> dict[str, float]:
    """By family, the share of prompts that were never refreshed."""
    never, families = ~selected(result).any(axis=0), np.array(result["families"])
    return {name: float(never[families == name].mean()) for name in sorted(set(families))}


def first_reward(result: dict[str, Any]) -> list[float]:
    """Mean reward in iteration 0 of the prompts that were never refreshed, and of the others."""
    never, reward = ~selected(result).any(axis=0), np.array(result["first_reward"])
    return [float(reward[never].mean()), float(reward[~never].mean())]


def collect(evidence: Evidence) -> Data:
    """Everything that is shown, by strategy and ratio."""
    raw = evidence.raw
    data: Data = {"arms": {}, "held": {}, "families": {}}
    for strategy, by_ratio in STALENESS.items():
        data["arms"][strategy] = {str(ratio): _arm(raw[a.name]) for ratio, a in by_ratio.items()}
        data["families"][strategy] = _mean_by_name([never_by_family(result) for result in raw[by_ratio[AT].name]])
    lowest, random = ({ratio: raw[a.name] for ratio, a in by.items()} for by in STALENESS.values())
    for small, large in pairwise(RATIOS):
        data["held"][f"lowest {small} in lowest {large}"] = _held(lowest[small], lowest[large])
    for ratio in RATIOS:
        data["held"][f"random {ratio} in lowest {ratio}"] = _held(random[ratio], lowest[ratio])
    return data


def _arm(results: Sequence[dict[str, Any]]) -> Data:
    never = [float((~selected(result).any(axis=0)).mean()) for result in results]
    return {
        "never": interval(never),
        "repeated": interval([repeated(result) for result in results]),
        "ages": [fmean(shares) for shares in zip(*map(ages, results), strict=True)],
        "first_reward": [fmean(values) for values in zip(*map(first_reward, results), strict=True)],
    }


def _held(small: Sequence[dict[str, Any]], large: Sequence[dict[str, Any]]) -> Data:
    return interval([held(*pair) for pair in zip(small, large, strict=True)])


def _mean_by_name(by_seed: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: fmean(shares[name] for shares in by_seed) for name in by_seed[0]}


def lines(data: Data) -> list[str]:
    """A line for each arm, then overlaps between arms."""
    rows = []
    for strategy, by_ratio in data["arms"].items():
        for ratio, arm in by_ratio.items():
            mean_age = sum(age * share for age, share in enumerate(arm["ages"]))
            never, others = arm["first_reward"]
            rows.append(
                f"  {LABELS[strategy]:13s} {ratio}: never refreshed {shown(arm['never'], 2)}, selected again "
                f"{shown(arm['repeated'], 2)}; mean age of pairs in iteration 3 {mean_age:.2f}; reward in iteration 0 "
                f"of those never refreshed {never:.2f}, of others {others:.2f}"
            )
    return rows + [f"  share of {said}: {shown(share, 2)}" for said, share in data["held"].items()]


# --- the picture -----------------------------------------------------------------------------------------------------


def draw(data: Data, path: Path) -> list[str]:
    """Four panels; see the top of this file."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, ((never, again), (age, family)) = plt.subplots(2, 2, figsize=(7.2, 5.8))
    _by_ratio(never, data, "never", lambda ratio: (1 - ratio) ** 3)
    _by_ratio(again, data, "repeated", lambda ratio: ratio)
    _ages(age, data)
    _families(family, data)
    titles = {never: "a  Never refreshed", again: "b  Selected twice in a row", age: "c  Age of pairs, iteration 3"}
    for axes, title in {**titles, family: f"d  Never refreshed, by family, ratio {AT}"}.items():
        axes.set_title(title, loc="left", fontsize=9)
        style.grid(axes)
    never.set_ylabel("Share of prompts")
    again.set_ylabel("Share of selected prompts")
    age.set_ylabel("Share of pairs")
    family.set_ylabel("Share of prompts")
    figure.subplots_adjust(top=0.94, bottom=0.15, left=0.08, right=0.985, hspace=0.36, wspace=0.22)
    style.stamp(figure, foot(data, "means, 95% t intervals in a and b"), preview(data))
    return style.save(figure, path)


def _by_ratio(axes: Any, data: Data, name: str, chance: Any) -> None:
    from experiments.figures import style

    for place, (strategy, by_ratio) in enumerate(data["arms"].items(), start=1):
        x, values = [float(ratio) for ratio in by_ratio], [arm[name] for arm in by_ratio.values()]
        look = {"color": style.COLOURS["ratio"][place], "marker": style.MARKERS[place], "markersize": 5}
        axes.errorbar(x, [v["mean"] for v in values], style.reach(values), label=LABELS[strategy], capsize=2.5, **look)
    by_chance = [chance(ratio) for ratio in RATIOS]
    axes.plot(RATIOS, by_chance, ":", color="black", linewidth=1.2, label="by chance", zorder=9)
    axes.set_xticks(RATIOS)
    axes.set_ylim(0, 1)
    axes.set_xlabel("Selection ratio")
    axes.legend(edgecolor="none", framealpha=1, fontsize=7.5)


def _ages(axes: Any, data: Data) -> None:
    """A stacked bar for each arm: fresh pairs at the bottom."""
    colours = ("#0072B2", "#56B4E9", "#BBBBBB", "#555555")
    names = []
    for strategy, by_ratio in data["arms"].items():
        for ratio, arm in by_ratio.items():
            below = 0.0
            for old, share in enumerate(arm["ages"]):
                label = f"age {old}" if not names else None
                axes.bar(len(names), share, 0.7, below, color=colours[old], label=label)
                below += share
            names.append(f"{LABELS[strategy].split()[0]}\n{ratio}")
    axes.set_xticks(range(len(names)), names, fontsize=7.5)
    axes.set_ylim(0, 1.25)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.legend(edgecolor="none", fontsize=7, ncols=4, loc="upper left", columnspacing=1, handlelength=1.4)


def _families(axes: Any, data: Data) -> None:
    from experiments.figures import style

    order = sorted(data["families"]["lowest_reward"], key=data["families"]["lowest_reward"].__getitem__)
    for place, (strategy, shares) in enumerate(data["families"].items(), start=1):
        x = [at + 0.2 * (2 * place - 3) for at in range(len(order))]
        axes.bar(x, [shares[name] for name in order], 0.4, color=style.COLOURS["ratio"][place], label=LABELS[strategy])
    axes.set_xticks(range(len(order)), order, rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
    axes.legend(edgecolor="none", framealpha=1, fontsize=7.5, loc="upper left")


FIGURE = Figure("What selection leaves old", ARMS, collect, draw, lines)
