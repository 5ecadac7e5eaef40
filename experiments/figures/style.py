"""One style for every figure: colour-blind safe, legible at column width, the provenance stamped on the picture."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe-Ito, distinguishable with every common form of colour blindness.
COLOURS = {
    "ratio": ("#56B4E9", "#0072B2", "#009E73", "#D55E00"),  # 0.3, 0.5, 0.7, 1.0
    "phase": ("#0072B2", "#E69F00", "#BBBBBB"),  # generation, rewarding, training
    "half": ("#56B4E9", "#D55E00"),  # top, bottom
    "loss": ("#0072B2", "#D55E00", "#009E73"),  # DPO, wDPO, DPO with wDPO's mean weight
    "none": "#999999",
    "line": "#000000",
}
MARKERS = ("o", "s", "^", "D")  # beside the colour, in the same order

plt.rcParams.update(
    {
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "figure.dpi": 200,
        "hatch.linewidth": 0.8,
        "pdf.fonttype": 42,
        "svg.hashsalt": "optune",
    }
)


def stamp(figure: Figure, text: str, preview: bool) -> None:
    """Preset, seeds, builds and world below the picture; `preview` in its corner where it can carry no verdict."""
    figure.text(0.01, 0.005, text, fontsize=6.5, color="#444444", ha="left", va="bottom")
    if preview:
        figure.text(0.99, 0.985, "preview: no verdicts", fontsize=8, color="#B00000", ha="right", va="top")


def grid(axes: Axes) -> None:
    """Faint horizontal lines."""
    axes.grid(axis="y", linewidth=0.4, color="#cccccc")


def reach(points: Sequence[dict[str, float | None]]) -> list[list[float]] | None:
    """How far the intervals of `points` reach below and above their means, for error bars; None with one seed."""
    if any(point["low"] is None for point in points):
        return None
    return [[p["mean"] - p["low"] for p in points], [p["high"] - p["mean"] for p in points]]


def save(figure: Figure, path_without_suffix) -> list[str]:
    """PDF and PNG, without dates, so that equal data gives equal bytes."""
    path_without_suffix.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        path = path_without_suffix.with_suffix(suffix)
        figure.savefig(path, metadata=metadata)
        written.append(str(path))
    plt.close(figure)
    return written
