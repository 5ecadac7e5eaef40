"""Selection at ratios below the paper's: 0.1 and 0.2 beside 0.3, 0.5 and 0.7, lowest reward and random, wDPO.

Leads are over never regenerating (`none`, ratio 0), paired by seed; ratio 1 regenerates every prompt. Descriptive:
three seeds of one build, which carry no verdict. The claims on 0.3 to 0.7 rest on ten seeds (Figure 3).
"""

from __future__ import annotations

from pathlib import Path

from experiments.figures.figure import Data, Evidence, Figure, preview
from experiments.sensitivity.arms import ALL, NONE, RATIO_ARMS
from experiments.sensitivity.leads import dress, foot, lead, points, told

LABELS = {"lowest_reward": "lowest reward", "random": "random"}
ARMS = (*(a for by_ratio in RATIO_ARMS.values() for a in by_ratio.values()), ALL, NONE)


def collect(evidence: Evidence) -> Data:
    """Leads over `none` by strategy and ratio, and lowest reward's over random by ratio."""
    raw = evidence.raw
    none = raw[NONE.name]
    data: Data = {"leads": {}, "all": lead(raw[ALL.name], none), "over_random": {}}
    for strategy, by_ratio in RATIO_ARMS.items():
        data["leads"][strategy] = {str(ratio): lead(raw[a.name], none) for ratio, a in by_ratio.items()}
    for ratio, a in RATIO_ARMS["lowest_reward"].items():
        data["over_random"][str(ratio)] = lead(raw[a.name], raw[RATIO_ARMS["random"][ratio].name])
    return data


def lines(data: Data) -> list[str]:
    """The leads over `none`, then lowest reward's over random."""
    rows = []
    for strategy, by_ratio in data["leads"].items():
        rows += [f"  {LABELS[strategy]:14s} {ratio} over none: {told(v)}" for ratio, v in by_ratio.items()]
    rows.append(f"  {'all':14s} 1.0 over none: {told(data['all'])}")
    return rows + [f"  lowest reward over random at {ratio}: {told(v)}" for ratio, v in data["over_random"].items()]


def draw(data: Data, path: Path) -> list[str]:
    """A panel for each outcome: leads over `none` against the ratio."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.0))
    names = {"win_score": "Win score, lead over none", "gold_mean": "Gold, lead over none"}
    for axes, (measure, name) in zip(panels, names.items(), strict=True):
        for place, (strategy, by_ratio) in enumerate(data["leads"].items(), start=1):
            x = [float(ratio) + 0.012 * (2 * place - 3) for ratio in by_ratio]
            points(axes, x, [v[measure] for v in by_ratio.values()], LABELS[strategy], place)
        points(axes, [1.0], [data["all"][measure]], "all", 3, joined=False)
        dress(axes, name)
        axes.set_xticks([0.1, 0.2, 0.3, 0.5, 0.7, 1.0])
        axes.set_xlabel("Selection ratio")
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(low, high + 0.3 * (high - low))  # room for the legend
    panels[0].legend(edgecolor="none", framealpha=1, fontsize=7.5, loc="upper left")
    figure.subplots_adjust(top=0.92, bottom=0.21, left=0.08, right=0.985, wspace=0.25)
    style.stamp(figure, foot(data, "95% t intervals, dots: seeds"), preview(data))
    return style.save(figure, path)


FIGURE = Figure("Sensitivity: small selection ratios", ARMS, collect, draw, lines)
