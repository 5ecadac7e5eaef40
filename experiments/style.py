"""One style for every figure: colour-blind safe, legible at column width, the provenance stamped on the picture."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe-Ito, distinguishable with every common form of colour blindness.
COLOURS = {"ratio": ("#56B4E9", "#0072B2", "#009E73", "#D55E00"), "none": "#999999", "line": "#000000"}

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
