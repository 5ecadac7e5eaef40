"""Figure 6: win score of DPO and wDPO over iterations, at equal selection ratio.

The paper: wDPO (Eq. 6) is above DPO (Eq. 5) at equal ratio, and comes to the same score in fewer iterations, that is
sooner. Differences: a panel per ratio, intervals over seeds and, where it was run, a control: DPO with a constant
weight equal to wDPO's mean weight. The weights lie below 1, so wDPO also takes smaller steps, and only its lead over
the control is due to weighting pairs by their reward gap. Seeds differ more than losses do, so the lower row has
wDPO's lead, paired by seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from experiments.claims.contrasts import outcome
from experiments.claims.rules import OUTCOMES
from experiments.compute.arms import RATIOS, arm, loss_arms
from experiments.compute.raw_result import Raw
from experiments.figures.figure import Data, Evidence, Figure, at_iteration, caption, interval, preview, shown

CONTROL = "dpo_mean_weight"
LOSSES = {"dpo": "DPO", "wdpo": "wDPO", CONTROL: "DPO, wDPO's mean weight"}
ARMS = tuple(chain.from_iterable(map(loss_arms, LOSSES)))
SWEEP = (*RATIOS, 1.0)


def collect(evidence: Evidence) -> Data:
    """Per arm and iteration the outcomes; per ratio and iteration wDPO's lead, paired by seed. 95% t intervals."""
    raw = evidence.raw
    data: Data = {}
    iterations = range(len(next(iter(raw.values()))[0]["iterations"]))
    data["arms"] = {}
    for name, results in raw.items():
        data["arms"][name] = [{"iteration": t, **at_iteration(results, t, OUTCOMES)} for t in iterations]
    data["leads"] = {}
    for ratio in SWEEP:
        rivals = {}
        for rival in LOSSES:
            if rival != "wdpo" and arm_name(rival, ratio) in raw:
                rivals[rival] = [{"iteration": t, **_leads(raw, ratio, rival, t)} for t in iterations]
        if rivals:
            data["leads"][str(ratio)] = rivals
    return data


def _leads(raw: Raw, ratio: float, rival: str, t: int) -> Data:
    return {measure: lead(raw, ratio, rival, measure, t) for measure in OUTCOMES}


def arm_name(loss: str, ratio: float) -> str:
    """OPTune of one loss at a ratio; ratio 1 regenerates all."""
    return arm(loss, "all" if ratio == 1 else "lowest_reward", ratio).name


def lead(raw: Raw, ratio: float, rival: str, measure: str, t: int) -> dict[str, float | None] | None:
    """wDPO minus another loss at one ratio and iteration, over seeds; None where the outcome is not measured."""
    ours, theirs = arm_name("wdpo", ratio), arm_name(rival, ratio)
    if measure not in raw[ours][0]["iterations"][t]:
        return None
    return interval(np.subtract(outcome(raw, ours, measure, t), outcome(raw, theirs, measure, t)).tolist())


def lines(data: Data) -> list[str]:
    """wDPO's leads in the last iteration, and where they have no control."""
    told = []
    for ratio, leads in data["leads"].items():
        over = []
        for rival, points in leads.items():
            over.append(f"over {LOSSES[rival].replace(', ', ' with ')} {shown(points[-1]['win_score'])}")
        told.append(f"  ratio {ratio}, iteration {leads['dpo'][-1]['iteration']}: wDPO's lead {', '.join(over)}")
    without = [ratio for ratio, leads in data["leads"].items() if CONTROL not in leads]
    if without:
        where = "here" if len(without) == len(data["leads"]) else f"at ratio {', '.join(without)}"
        told += [
            f"  The control, DPO with wDPO's mean weight for every pair, was not run {where}. A lead of wDPO",
            "  may come from its smaller steps, so it cannot be attributed to weighting pairs by their reward gap.",
        ]
    return told


def draw(data: Data, path: Path) -> list[str]:
    """A column per ratio: win scores above, wDPO's paired leads below."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    looks = {
        loss: {"color": colour, "marker": marker, "linestyle": line}
        for loss, colour, marker, line in zip(
            LOSSES, style.COLOURS["loss"], style.MARKERS, ("-", "-", "--"), strict=False
        )
    }
    ratios = [float(ratio) for ratio in data["leads"]]
    figure, panels = plt.subplots(2, len(ratios), figsize=(7.2, 4.2), sharex=True, sharey="row", squeeze=False)
    for column, ratio in enumerate(ratios):
        above, below = panels[:, column]
        above.set_title(f"ratio {ratio}" if ratio < 1 else "ratio 1.0 (full)", fontsize=9)
        for loss, label in LOSSES.items():  # not shifted: on a steep curve that would look like a lead in time
            if arm_name(loss, ratio) in data["arms"]:
                _line(above, data["arms"][arm_name(loss, ratio)], 0, label=label, **looks[loss])
        above.axhline(50, color=style.COLOURS["line"], linewidth=0.7, linestyle=":")
        below.axhline(0, color=style.COLOURS["line"], linewidth=0.7)
        for place, (rival, points) in enumerate(data["leads"][str(ratio)].items()):
            _line(below, points, 0.14 * (place - 0.5), **looks[rival])
        below.set_xticks([p["iteration"] for p in points])
        for axes in (above, below):
            style.grid(axes)
    panels[0, 0].set_ylabel("Win score against\nthe offline baseline", fontsize=8)
    panels[1, 0].set_ylabel("wDPO minus the other,\npaired by seed", fontsize=8)
    figure.supxlabel("Iteration", fontsize=9, y=0.055)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), ncols=3, loc="upper center", frameon=False, fontsize=8)
    figure.subplots_adjust(top=0.86, bottom=0.145, left=0.11, right=0.99, wspace=0.08, hspace=0.12)
    style.stamp(figure, caption(data, "OPTune; mean, 95% t interval over seeds"), preview(data))
    return style.save(figure, path)


def _line(axes, points: Sequence[Data], shift: float, **look) -> None:
    """Win scores or leads over iterations, shifted sideways where intervals would hide one another."""
    from experiments.figures import style

    scores = [p["win_score"] for p in points]
    x = [p["iteration"] + shift for p in points]
    axes.errorbar(
        x, [p["mean"] for p in scores], style.reach(scores), markersize=3, linewidth=1.1, elinewidth=0.7, **look
    )


FIGURE = Figure("DPO and wDPO over iterations, by selection ratio", ARMS, collect, draw, lines)
