"""Win score by selection ratio, strategy and iteration, for one loss: Figure 3 (wDPO) and Figure 4 (DPO) are this."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from experiments.compute.arms import RATIOS, arm, ratio_arms
from experiments.compute.raw_result import RawResult
from experiments.figures.figure import Data, Evidence, Figure, at_iteration, caption, preview, shown

LABELS = {"wdpo": "wDPO", "dpo": "DPO"}
BASELINE = 50  # the win score of an answer as good as the baseline's
POSSIBLE = (-50, 150)  # win scores by Eq. 7
OFFSET = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}


def win_score_figure(loss: str) -> Figure:
    """The figure of `loss`."""
    return Figure(
        f"Win score by selection ratio and strategy, {LABELS[loss]}",
        ratio_arms(loss),
        partial(collect, loss),
        draw,
        lines,
    )


def collect(loss: str, evidence: Evidence) -> Data:
    """Mean win score and gold, with 95% t intervals over seeds, per arm and iteration."""
    raw = evidence.raw
    any_arm = next(iter(raw.values()))
    data: Data = {"loss": loss, "prompts": any_arm[0]["iterations"][0]["n"]}
    data["baseline_gold"] = [result["baseline"].get("gold_mean") for result in any_arm]
    data["arms"] = {arm_name: _by_iteration(results) for arm_name, results in raw.items()}
    return data


def _by_iteration(results: Sequence[RawResult]) -> list[Data]:
    iterations = range(len(results[0]["iterations"]))
    return [{"iteration": t, **at_iteration(results, t, ("win_score", "gold_mean"))} for t in iterations]


def lines(data: Data) -> list[str]:
    """The last iteration of each arm."""
    return [
        f"  {name:28s} iteration {points[-1]['iteration']}: {shown(points[-1]['win_score'])}"
        for name, points in data["arms"].items()
    ]


def bars_of(loss: str) -> list[tuple[str, str, str, str]]:
    """(arm, label, colour, hatch) in the order of the bars."""
    from experiments.figures import style

    bars = [(arm(loss, "none").name, "static (none)", style.COLOURS["none"], "")]
    for ratio, colour in zip(RATIOS, style.COLOURS["ratio"], strict=False):
        bars.append((arm(loss, "random", ratio).name, f"random {ratio}", colour, "////"))
        bars.append((arm(loss, "lowest_reward", ratio).name, f"OPTune {ratio}", colour, ""))
    return [*bars, (arm(loss, "all").name, "full 1.0", style.COLOURS["ratio"][3], "")]


def draw(data: Data, path: Path) -> list[str]:
    """Bars in groups of iterations, as in the paper: random striped, ratio in colour, intervals over seeds.

    They stand on the baseline's 50, so that their lengths are leads over it, whatever part of the axis is shown.
    """
    import matplotlib.pyplot as plt

    from experiments.figures import style

    bars = [bar for bar in bars_of(data["loss"]) if bar[0] in data["arms"]]
    limits, cut = _limits(data), 0
    iterations = range(1, len(data["arms"][bars[0][0]]))  # the shared iteration 0 is no bar
    figure, axes = plt.subplots(figsize=(7.2, 3.6))
    width = 0.85 / len(bars)
    for place, (name, label, colour, hatch) in enumerate(bars):
        points = [data["arms"][name][t]["win_score"] for t in iterations]
        means = [p["mean"] for p in points]
        x = [t + (place - (len(bars) - 1) / 2) * width for t in iterations]
        face = {"facecolor": "white", "edgecolor": colour, "hatch": hatch} if hatch else {"color": colour}
        leads = [mean - BASELINE for mean in means]
        axes.bar(x, leads, width * 0.9, bottom=BASELINE, label=label, linewidth=0.8, **face)
        if errors := style.reach(points):
            axes.errorbar(x, means, errors, fmt="none", ecolor="black", elinewidth=0.7, capsize=1.5)
            cut += style.mark_cut(axes, x, points, limits)
    axes.axhline(BASELINE, color=style.COLOURS["line"], linewidth=0.7)
    below = means[-1] >= BASELINE  # where the last bars are not
    place = {"va": "top" if below else "bottom", "ha": "right"}
    axes.annotate("baseline: 50", (1, BASELINE), (0, -3 if below else 3), fontsize=7, **place, **OFFSET)
    axes.set_ylim(*limits)
    axes.set_xlim(0.5, len(iterations) + 0.5)
    axes.set_xticks(iterations, [f"Iteration {t}" for t in iterations])
    axes.set_ylabel("Win score against the offline baseline")
    style.grid(axes)
    figure.legend(*axes.get_legend_handles_labels(), ncols=4, loc="upper center", frameon=False, fontsize=7.5)
    figure.subplots_adjust(top=0.83, bottom=0.15, left=0.09, right=0.99)
    what = f"{LABELS[data['loss']]}, {data['prompts']} prompts in both orders; bars: mean, 95% t interval over seeds"
    what += f"; {style.CUT}" if cut else ""
    style.stamp(figure, caption(data, what), preview(data))
    return style.save(figure, path)


def _limits(data: Data) -> tuple[float, float]:
    """Of the axis: all intervals, but for the ends of those that are far wider than most (`style.in_sight`)."""
    from experiments.figures import style

    points = []
    for by_iteration in data["arms"].values():
        points += [point["win_score"] for point in by_iteration[1:]]
    low, high = style.in_sight(points, BASELINE, POSSIBLE)
    span = high - low or 1
    return min(low, BASELINE) - 0.1 * span, max(high, BASELINE) + 0.1 * span
