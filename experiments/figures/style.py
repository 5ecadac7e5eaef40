"""One style for every figure: colour-blind safe, legible at column width, the provenance stamped on the picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from statistics import median

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

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
CUT = "arrowheads: the interval goes on beyond the axis"  # for the line below a picture with `mark_cut`

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
    """Preset, seeds, builds and world below the picture; `preview` in its corner where it can carry no verdict.

    A line that is too long is broken. The lines that it then needs go below the picture's edge, and `save` adds them.
    """
    below = figure.text(0.01, 0.005, text, fontsize=6.5, color="#444444", ha="left", va="bottom")
    height, columns = below.get_window_extent().height, len(text)
    while below.get_window_extent().x1 > 0.995 * figure.bbox.width and columns > 20:
        columns -= 1
        broken = (textwrap.fill(line, columns, break_on_hyphens=False) for line in text.split("\n"))
        below.set_text("\n".join(broken))
    below.set_y(0.005 - (below.get_window_extent().height - height) / figure.bbox.height)
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


def in_sight(
    points: Sequence[dict[str, float | None]], zero: float, possible: tuple[float, float]
) -> tuple[float, float]:
    """From where to where an axis shows the intervals of `points`, so that a few very wide ones don't flatten the rest.

    Beyond the means and `zero` there is room for as much again, or for an interval of median width if that is more.
    An interval that needs more room, or reaches beyond what a value can be (`possible`), is cut.
    """
    means = [p["mean"] for p in points]
    lows = [p["mean"] if p["low"] is None else p["low"] for p in points]
    highs = [p["mean"] if p["high"] is None else p["high"] for p in points]
    first, last = min(*means, zero), max(*means, zero)
    room = max(last - first, median(high - low for low, high in zip(lows, highs, strict=True)))
    least, most = max(first - room, possible[0]), min(last + room, possible[1])
    low = min([*means, *(low for low in lows if low >= least)])
    return low, max([*means, *(high for high in highs if high <= most)])


def mark_cut(
    axes: Axes, x: Sequence[float], points: Sequence[dict[str, float | None]], limits: tuple[float, float]
) -> int:
    """An arrowhead at the axis's end where an interval leaves `limits`; returns how many there are."""
    look = {"color": "black", "markersize": 3.5, "linestyle": "none", "transform": axes.get_xaxis_transform()}
    low = [at for at, p in zip(x, points, strict=True) if p["low"] < limits[0]]
    high = [at for at, p in zip(x, points, strict=True) if p["high"] > limits[1]]
    for places, height, marker in ((low, 0.012, "v"), (high, 0.988, "^")):
        if places:
            axes.plot(places, [height] * len(places), marker, **look)
    return len(low) + len(high)


def save(figure: Figure, path_without_suffix) -> list[str]:
    """PDF and PNG, without dates, so that equal data gives equal bytes."""
    path_without_suffix.parent.mkdir(parents=True, exist_ok=True)
    lowest = min((text.get_position()[1] for text in figure.texts), default=0)
    width, height = figure.get_size_inches()
    whole = {"bbox_inches": Bbox([[0, lowest * height], [width, height]])} if lowest < 0 else {}
    written = []
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        path = path_without_suffix.with_suffix(suffix)
        figure.savefig(path, metadata=metadata, **whole)
        written.append(str(path))
    plt.close(figure)
    return written
