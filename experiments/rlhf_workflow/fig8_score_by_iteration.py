"""RLHF Workflow's Figure 8 and its headline: score by iteration, and whether iterating beats offline DPO.

The paper: an 8B policy gets better with each of three iterations, and iterative DPO beats offline DPO on every chat
benchmark. Here: the recipe at the comparison's sizes (256 new prompts and 8 responses each in an iteration) with its
own AdamW at a rate found for it (`experiments/development/rlhf_workflow_rate.py`), going on from its last policy or
restarting from the SFT policy on all data so far, which two claims rest on; at the preset's learning rate, which was
found for another optimizer; the same with the preset's optimizer; and vanilla online DPO (1,024 prompts, two
responses). A win score of 50 is level with the offline DPO baseline. All but the first two are runs of
`make compare-recipes`, looked at by iteration instead of at a budget, and descriptive; another machine made them, whose
builds of the same worlds differ in their last bits, so that they are beside the first two and not paired with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.claims.recipe_contrasts import AFTERWARDS, CONTINUING, RECIPES, RESTARTING, VANILLA
from experiments.claims.rules import OUTCOMES
from experiments.figures.figure import Data, Evidence, Figure, at_iteration, caption, preview, shown

LEVEL = 50  # the win score of an answer as good as the offline baseline's
MEMBERS = {
    "RLHF Workflow, its own rate": CONTINUING,
    "RLHF Workflow, its own rate, restarting": RESTARTING,
    "RLHF Workflow, the preset's rate": RECIPES["rlhf_workflow"],
    "RLHF Workflow, RMSprop": AFTERWARDS["rlhf_workflow_rmsprop"][0],
    "vanilla online DPO": VANILLA,
}


def collect(evidence: Evidence) -> Data:
    """Win score and gold of every iteration, with intervals over seeds, and the iterations ahead of offline DPO."""
    curves, ahead = {}, {}
    for name, member in MEMBERS.items():
        results = evidence.raw[member.name]
        curves[name] = [at_iteration(results, t, OUTCOMES) for t in range(len(results[0]["iterations"]))]
        ahead[name] = [t for t, point in enumerate(curves[name]) if _above(point["win_score"])]
    return {"curves": curves, "ahead_of_offline": ahead}


def _above(score: dict[str, Any]) -> bool:
    """Whether the whole interval is above the offline baseline's level."""
    return score["low"] is not None and score["low"] > LEVEL


def lines(data: Data) -> list[str]:
    """Win score and gold by iteration, and where the headline appears."""
    rows = []
    for name, curve in data["curves"].items():
        rows.append(f"  {name}: win score (gold) after iterations 0, 1, ...")
        rows += [f"    {shown(point['win_score'])} ({shown(point['gold_mean'], 2)})" for point in curve]
        ahead = data["ahead_of_offline"][name]
        told = f"appears after iterations {', '.join(map(str, ahead))}" if ahead else "does not appear"
        rows.append(f"    headline (iterative beats offline DPO: interval above {LEVEL}): {told}")
    return rows


def draw(data: Data, path: Path) -> list[str]:
    """Win score and gold against the iteration."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.0))
    names = {"win_score": "Win score against offline DPO", "gold_mean": "Gold"}
    colours, markers = (*style.COLOURS["ratio"], style.COLOURS["none"]), (*style.MARKERS, "v")
    for axes, (measure, label) in zip(panels, names.items(), strict=True):
        for (name, curve), colour, marker in zip(data["curves"].items(), colours, markers, strict=True):
            values = [point[measure] for point in curve]
            look = {"color": colour, "marker": marker, "markersize": 4}
            axes.errorbar(
                range(len(values)), [v["mean"] for v in values], style.reach(values), label=name, capsize=2, **look
            )
        style.grid(axes)
        axes.set_ylabel(label)
        axes.set_xlabel("Iteration")
    panels[0].axhline(LEVEL, color=style.COLOURS["line"], linewidth=0.7, linestyle=":")
    panels[0].text(7.3, LEVEL + 2.2, "offline DPO", fontsize=7, ha="right")
    low, high = panels[1].get_ylim()
    panels[1].set_ylim(low - 0.75 * (high - low), high)  # room for the legend
    panels[1].legend(edgecolor="none", framealpha=1, fontsize=7, loc="lower right")
    figure.subplots_adjust(top=0.93, bottom=0.21, left=0.08, right=0.985, wspace=0.22)
    style.stamp(figure, caption(data, "means, 95% t intervals"), preview(data))
    return style.save(figure, path)


FIGURE = Figure("RLHF Workflow, Figure 8: score by iteration", tuple(MEMBERS.values()), collect, draw, lines)
