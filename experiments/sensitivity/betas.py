"""How much the two betas matter: beta_2 of wDPO's weights, and beta_1 of both losses.

Lowest reward at ratio 0.5. beta_2 is varied in multiples of `auto`, 1 / the median reward gap of iteration 0: at 0 all
pairs weigh one half, at infinity all weigh one, which is DPO. RMSprop divides the gradient by its own size, so that a
constant weight cancels: 0 and infinity should give nearly the same policy, and do. Leads are over the default (beta_2
auto, beta_1 0.1, the same loss), paired by seed. Descriptive: three seeds of one build, which carry no verdict.
"""

from __future__ import annotations

from pathlib import Path

from experiments.figures.figure import Data, Evidence, Figure, preview
from experiments.sensitivity.arms import BETA_1, BETA_2
from experiments.sensitivity.leads import dress, foot, lead, points, told

DEFAULT_1, DEFAULT_2 = 0.1, 1.0
LOSSES = {"wdpo": "wDPO", "dpo": "DPO"}
SHOWN_2 = {0.0: "0", 0.25: "1/4", 1.0: "1", 4.0: "4", float("inf"): "infinity"}
ARMS = {a.name: a for by_level in (BETA_2, *BETA_1.values()) for a in by_level.values()}


def collect(evidence: Evidence) -> Data:
    """Leads over the default by value of beta_2 and, for each loss, of beta_1."""
    raw = evidence.raw
    default = raw[BETA_2[DEFAULT_2].name]
    data: Data = {"beta_2": {SHOWN_2[value]: lead(raw[a.name], default) for value, a in BETA_2.items()}, "beta_1": {}}
    for loss, by_level in BETA_1.items():
        own = raw[by_level[DEFAULT_1].name]
        data["beta_1"][loss] = {str(value): lead(raw[a.name], own) for value, a in by_level.items()}
    return data


def lines(data: Data) -> list[str]:
    """The leads, without the default's over itself."""
    rows = [f"  beta_2 {value:9s} times auto: {told(v)}" for value, v in data["beta_2"].items() if value != "1"]
    for loss, by_level in data["beta_1"].items():
        others = {value: v for value, v in by_level.items() if value != str(DEFAULT_1)}
        rows += [f"  beta_1 {value:9s} {LOSSES[loss]:10s}: {told(v)}" for value, v in others.items()]
    return rows


def draw(data: Data, path: Path) -> list[str]:
    """A panel for each beta: win score against the default."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.0), sharey=True)
    values = [v["win_score"] for v in data["beta_2"].values()]
    points(left, range(len(values)), values, "wDPO", 1)
    left.set_xticks(range(len(values)), list(data["beta_2"]))
    left.set_xlabel("beta_2, times auto (infinity: DPO)")
    for place, (loss, by_level) in enumerate(data["beta_1"].items(), start=1):
        x = [at + 0.08 * (place - 1.5) for at in range(len(by_level))]
        points(right, x, [v["win_score"] for v in by_level.values()], LOSSES[loss], place)
        right.set_xticks(range(len(by_level)), list(by_level))
    right.set_xlabel("beta_1")
    dress(left, "Win score minus the default's")
    dress(right)
    right.legend(edgecolor="none", framealpha=1, fontsize=7.5)
    figure.subplots_adjust(top=0.92, bottom=0.21, left=0.08, right=0.985, wspace=0.08)
    style.stamp(figure, foot(data, "means, 95% t intervals, seeds as dots"), preview(data))
    return style.save(figure, path)


FIGURE = Figure("Sensitivity: beta_1 and beta_2", tuple(ARMS.values()), collect, draw, lines)
