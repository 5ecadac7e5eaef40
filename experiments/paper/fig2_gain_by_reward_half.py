"""Figure 2: how much of an iteration's reward gain comes from the prompts in the top and the bottom half by reward.

The paper: prompts are halved by the reward of their preferred response; the top half brings only 31.4% of iteration
2's gain (the figure's other values are not in its text), so low-reward prompts are worth regenerating.

The same draw of responses there ranks the prompts and is what the gain is measured from. A prompt in the bottom half
is then there partly by bad luck, which the next draw does not repeat: regression to the mean, with or without training.
Each policy of the ratio-1 DPO arm is therefore drawn from twice, and three gains are shown side by side:
- `shared_sample`: the paper's.
- `independent_sample`: ranked by the second draw, gain from the first one: no regression to the mean.
- `no_training`: ranked by the first draw, gain to the second one of the *same* policy: regression to the mean alone.
In expectation the gap between the halves in the first is the sum of the gaps in the other two.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from experiments.compute.arms import arm
from experiments.compute.results import ROOT
from experiments.figures.figure import Data, Evidence, Figure, caption, interval, preview, shown
from optune.utils.files import read_json

ARM = arm("dpo", "all").probed("redraw")
RANKINGS = {
    "shared_sample": "Ranked by the sample that the\ngain starts from (the paper's way)",
    "independent_sample": "Ranked by an\nindependent sample",
    "no_training": "No training: two samples\nof the same policy",
}


def collect(evidence: Evidence) -> Data:
    """Per iteration: mean gain of both halves and the top half's share by ranking, and regression's share of the gap.

    Gains are in units of reward, shares in percent, all with 95% t intervals over seeds.
    """
    raw = evidence.raw
    results = raw[ARM.name]
    data: Data = {"prompts": len(results[0]["iterations"][0]["first"])}
    published = read_json(ROOT / "results" / "published" / "fig2.json")["halves"]
    paper = {row["iteration"]: row["top"] for row in published}
    data["iterations"] = []
    for t in range(1, len(results[0]["iterations"])):
        halves = [result["iterations"][t]["halves"] for result in results]
        rows = {ranking: gains([half[ranking] for half in halves]) for ranking in RANKINGS}
        regression = regression_share(halves)
        data["iterations"].append(
            {"iteration": t, "paper_top_share": paper.get(t), **rows, "regression_to_the_mean": regression}
        )
    return data


def gains(halves: Sequence[dict[str, float]]) -> Data:
    """Over seeds: gain of each half, bottom minus top, and the top half's share of the total or why it has none."""
    top = np.array([half["top"] for half in halves])
    bottom = np.array([half["bottom"] for half in halves])
    by_half = {
        "top": interval(top.tolist()),
        "bottom": interval(bottom.tolist()),
        "gap": interval((bottom - top).tolist()),
    }
    if top.mean() * bottom.mean() < 0:
        return {**by_half, "top_share": None, "no_share_because": "one half gains and the other one loses"}
    if not _differs_from_zero(top + bottom):
        return {**by_half, "top_share": None, "no_share_because": "the total gain is not shown to differ from 0"}
    return {**by_half, "top_share": percentage(top, top + bottom)}


def regression_share(halves: Sequence[dict[str, dict[str, float]]]) -> Data:
    """The halves' gap without training in percent of the paper's gap, or why that says nothing."""
    without, shared = _gap(halves, "no_training"), _gap(halves, "shared_sample")
    if not _differs_from_zero(shared) or shared.mean() == 0:
        return {"share": None, "no_share_because": "the bottom half is not shown to gain more than the top half"}
    if shared.mean() < 0:
        return {"share": None, "no_share_because": "the bottom half gains less than the top half"}
    return {"share": percentage(without, shared)}


def _gap(halves: Sequence[dict[str, dict[str, float]]], ranking: str) -> np.ndarray:
    """(n_seeds,): the bottom half's gain minus the top half's."""
    return np.array([half[ranking]["bottom"] - half[ranking]["top"] for half in halves])


def percentage(part: ArrayLike, whole: ArrayLike) -> dict[str, float | None]:
    """Mean of `part` in percent of the mean of `whole`, and its 95% t interval over seeds, linearised.

    A ratio of means: a seed with a small whole does not weigh more than the others. Arguments: (n_seeds,).
    """
    part, whole = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    ratio = part.mean() / whole.mean()
    return interval((100 * (ratio + (part - ratio * whole) / whole.mean())).tolist())


def _differs_from_zero(values: np.ndarray) -> bool:
    limits = interval(values.tolist())
    return limits["low"] is None or limits["low"] * limits["high"] > 0


def lines(data: Data) -> list[str]:
    """The top half's share by the paper's ranking and by an independent one, and regression's share of the gap."""
    told_of = []
    for row in data["iterations"]:
        beside = "" if row["paper_top_share"] is None else f" (the paper has {row['paper_top_share']}%)"
        told_of += [
            f"  iteration {row['iteration']}",
            f"    top half's share of the gain, ranked as in the paper: {_share(row['shared_sample'])}{beside}",
            f"    top half's share of the gain, ranked by an independent sample: {_share(row['independent_sample'])}",
            f"    share of the halves' gap that is there without training (regression to the mean): {_regression(row)}",
        ]
    return told_of


def _share(row: Data, name: str = "top_share") -> str:
    return f"not given, because {row['no_share_because']}" if row[name] is None else _percent(row[name])


def _regression(row: Data) -> str:
    """Regression's share of the gap, or the reason for none and the gap."""
    regression = row["regression_to_the_mean"]
    return _share(regression, "share") + (f" ({_gap_shown(row)})" if regression["share"] is None else "")


def _gap_shown(row: Data) -> str:
    return f"bottom minus top: {shown(row['shared_sample']['gap'], 2)}"


def _percent(estimate: dict[str, float | None]) -> str:
    mean, _, limits = shown(estimate, 0).partition(" ")
    return f"{mean}% {limits}".rstrip()


def draw(data: Data, path: Path) -> list[str]:
    """A panel per ranking, in it two bars per iteration; above, what they say of the paper's iteration."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, panels = plt.subplots(1, 3, figsize=(7.2, 3.5), sharey=True)
    rows = data["iterations"]
    for axes, (ranking, title) in zip(panels, RANKINGS.items(), strict=True):
        for place, (half, colour) in enumerate(zip(("top", "bottom"), style.COLOURS["half"], strict=True)):
            points = [row[ranking][half] for row in rows]
            x = [row["iteration"] + (place - 0.5) * 0.4 for row in rows]
            axes.bar(x, [p["mean"] for p in points], 0.36, color=colour, label=f"{half} half by reward")
            if reach := style.reach(points):
                axes.errorbar(
                    x, [p["mean"] for p in points], reach, fmt="none", ecolor="black", elinewidth=0.7, capsize=1.5
                )
        axes.axhline(0, color=style.COLOURS["line"], linewidth=0.7)
        axes.set_title(title, fontsize=8.5)
        axes.set_xticks([row["iteration"] for row in rows], [f"Iter. {row['iteration']}" for row in rows])
        axes.tick_params(axis="x", length=0)
        style.grid(axes)
    panels[0].set_ylabel("Mean gain in reward")
    figure.legend(*panels[0].get_legend_handles_labels(), ncols=2, loc="upper center", frameon=False, fontsize=8)
    figure.text(0.5, 0.075, _message(data), fontsize=8, ha="center", va="bottom")
    figure.subplots_adjust(top=0.8, bottom=0.2, left=0.1, right=0.99, wspace=0.08)
    what = f"{data['prompts']} prompts; bars: mean, 95% t interval over seeds"
    style.stamp(figure, caption(data, what), preview(data))
    return style.save(figure, path)


def _message(data: Data) -> str:
    """One sentence on iteration 2, the paper's, or on the last where there is none."""
    row = data["iterations"][min(2, len(data["iterations"])) - 1]
    regression = row["regression_to_the_mean"]
    if regression["share"] is None:
        return f"Iteration {row['iteration']}, left: {regression['no_share_because']} ({_gap_shown(row)})"
    return (
        f"Iteration {row['iteration']}: of the gap between the halves on the left, "
        f"{_percent(regression['share'])} is there without training (right)"
    )


FIGURE = Figure("Reward gain by half of the prompts", (ARM,), collect, draw, lines)
