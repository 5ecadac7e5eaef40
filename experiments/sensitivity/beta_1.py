"""How much beta_1 matters, for wDPO and for DPO: lowest reward at ratio 0.5.

Leads are over beta_1 0.1 with the same loss, paired by seed. Descriptive: three seeds of one build, which carry no
verdict.
"""

from __future__ import annotations

from pathlib import Path

from experiments.figures.figure import Data, Evidence, Figure, preview
from experiments.sensitivity.arms import BETA_1
from experiments.sensitivity.leads import dress, foot, lead, points, told

DEFAULT = 0.1
LOSSES = {"wdpo": "wDPO", "dpo": "DPO"}
ARMS = tuple(a for by_level in BETA_1.values() for a in by_level.values())


def collect(evidence: Evidence) -> Data:
    """Leads over the default by loss and value of beta_1."""
    leads = {}
    for loss, by_level in BETA_1.items():
        own = evidence.raw[by_level[DEFAULT].name]
        leads[loss] = {str(value): lead(evidence.raw[a.name], own) for value, a in by_level.items()}
    return {"leads": leads}


def lines(data: Data) -> list[str]:
    """The leads, without the default's over itself."""
    rows = []
    for loss, by_level in data["leads"].items():
        others = {value: v for value, v in by_level.items() if value != str(DEFAULT)}
        rows += [f"  beta_1 {value:5s} {LOSSES[loss]:5s}: {told(v)}" for value, v in others.items()]
    return rows


def draw(data: Data, path: Path) -> list[str]:
    """A panel for each outcome."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.0))
    names = {"win_score": "Win score minus that at 0.1", "gold_mean": "Gold minus that at 0.1"}
    for axes, (measure, name) in zip(panels, names.items(), strict=True):
        for place, (loss, by_level) in enumerate(data["leads"].items(), start=1):
            x = [at + 0.06 * (2 * place - 3) for at in range(len(by_level))]
            points(axes, x, [v[measure] for v in by_level.values()], LOSSES[loss], place)
            axes.set_xticks(range(len(by_level)), list(by_level))
        dress(axes, name)
        axes.set_xlabel("beta_1")
    panels[0].legend(edgecolor="none", framealpha=1, fontsize=7.5)
    figure.subplots_adjust(top=0.92, bottom=0.21, left=0.08, right=0.985, wspace=0.32)
    style.stamp(figure, foot(data, "95% t intervals, dots: seeds"), preview(data))
    return style.save(figure, path)


FIGURE = Figure("Sensitivity: beta_1", ARMS, collect, draw, lines)
