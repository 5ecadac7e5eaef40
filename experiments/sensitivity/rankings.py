"""Which reward should rank a prompt: that of its preferred response (the paper), the mean, the rejected one, the gap?

wDPO at ratio 0.5 with each ranking; the highest reward first is the opposite of the paper's, as a control. Leads are
over a random half, paired by seed. Descriptive: three seeds of one build, which carry no verdict.
"""

from __future__ import annotations

from pathlib import Path

from experiments.figures.figure import Data, Evidence, Figure, preview
from experiments.sensitivity.arms import RANKINGS
from experiments.sensitivity.leads import dress, foot, lead, points, told

LABELS = {
    "preferred": "lowest preferred\n(the paper)",
    "mean": "lowest\nmean",
    "rejected": "lowest\nrejected",
    "gap": "smallest\ngap",
    "highest": "highest\npreferred",
}


def collect(evidence: Evidence) -> Data:
    """Each ranking's lead over random selection."""
    raw = evidence.raw
    rival = raw[RANKINGS["random"].name]
    return {"leads": {name: lead(raw[RANKINGS[name].name], rival) for name in LABELS}}


def lines(data: Data) -> list[str]:
    """The leads."""
    return [f"  {LABELS[n].replace(chr(10), ' '):28s} over random: {told(v)}" for n, v in data["leads"].items()]


def draw(data: Data, path: Path) -> list[str]:
    """A panel for each outcome."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.0))
    names = {"win_score": "Win score, lead over random", "gold_mean": "Gold, lead over random"}
    for axes, (measure, name) in zip(panels, names.items(), strict=True):
        values = [by_outcome[measure] for by_outcome in data["leads"].values()]
        points(axes, range(len(values)), values, name, 1, joined=False)
        dress(axes, name)
        axes.set_xticks(range(len(values)), list(LABELS.values()), fontsize=6.5)
        axes.margins(x=0.1)
    figure.subplots_adjust(top=0.92, bottom=0.21, left=0.08, right=0.985, wspace=0.25)
    style.stamp(figure, foot(data, "means, 95% t intervals, seeds as dots"), preview(data))
    return style.save(figure, path)


FIGURE = Figure("Sensitivity: which reward ranks a prompt", tuple(RANKINGS.values()), collect, draw, lines)
