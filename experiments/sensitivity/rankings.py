"""Which reward should rank a prompt: that of its preferred response (the paper), the mean, the rejected one, the gap?

wDPO at ratio 0.5 with each ranking; the highest reward first is the opposite of the paper's, as a control. Leads are
over a random half, paired by seed. Descriptive: three seeds of one build, which carry no verdict.
"""

from __future__ import annotations

from pathlib import Path

from experiments.figures.figure import Data, Evidence, Figure, preview
from experiments.sensitivity.arms import RANKINGS
from experiments.sensitivity.leads import draw_leads, foot, lead, told

LABELS = {
    "preferred": "lowest\npreferred\n(paper)",
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
    names = {"win_score": "Win score, lead over random", "gold_mean": "Gold, lead over random"}
    text = foot(data, "95% t intervals, dots: seeds")
    labels = list(LABELS.values())
    return draw_leads(list(data["leads"].values()), labels, names, "Reward that ranks", text, preview(data), path)


FIGURE = Figure("Sensitivity: which reward ranks a prompt", tuple(RANKINGS.values()), collect, draw, lines)
