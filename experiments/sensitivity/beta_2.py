"""How much beta_2 matters, which sets how wDPO weighs pairs by their reward gap.

Lowest reward at ratio 0.5. beta_2 is varied in multiples of `auto`, 1 / the median reward gap of iteration 0: at 0 all
pairs weigh one half, at infinity all weigh one, which is DPO. RMSprop divides the gradient by its own size, so that a
constant weight cancels: 0 and infinity give nearly the same policy. Leads are over `auto`, paired by seed. Descriptive:
three seeds of one build, which carry no verdict.
"""

from __future__ import annotations

from pathlib import Path

from experiments.figures.figure import Data, Evidence, Figure, preview
from experiments.sensitivity.arms import BETA_2, OPTUNE
from experiments.sensitivity.leads import draw_leads, foot, lead, told

SHOWN = {0.0: "0", 0.25: "1/4", 1.0: "1", 4.0: "4", float("inf"): "infinity"}


def collect(evidence: Evidence) -> Data:
    """Leads over the default by value of beta_2."""
    default = evidence.raw[OPTUNE.name]
    return {"leads": {SHOWN[value]: lead(evidence.raw[a.name], default) for value, a in BETA_2.items()}}


def lines(data: Data) -> list[str]:
    """The leads, without the default's over itself."""
    return [f"  beta_2 {value:8s} times auto: {told(v)}" for value, v in data["leads"].items() if value != "1"]


def draw(data: Data, path: Path) -> list[str]:
    """A panel for each outcome."""
    names = {"win_score": "Win score minus auto's", "gold_mean": "Gold minus auto's"}
    labels = [value.replace("infinity", "infinity\n(DPO)") for value in data["leads"]]
    text = foot(data, "95% t intervals, dots: seeds")
    return draw_leads(list(data["leads"].values()), labels, names, "beta_2, times auto", text, preview(data), path)


FIGURE = Figure("Sensitivity: beta_2", tuple(BETA_2.values()), collect, draw, lines)
