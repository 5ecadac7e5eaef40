"""Figure 1: the pipeline, drawn from the loop's own list of steps (`optune/loop/steps.py`). Only the captions are ours.

The paper's figure shows one iteration as a cartoon: low-reward prompts regenerated, the others reused, weighted DPO.
Here each step is a box with the algorithm's lines, the option that swaps it, what is registered for it, and its file.
"""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

from experiments.figures.figure import Data, Evidence, Figure
from optune.config import RunConfig
from optune.loop.parts import PARTS
from optune.loop.steps import STEPS, LoopStep, carried

CAPTIONS = {
    "prompts": "this iteration's prompts",
    "select": "the lowest share ρ (t = 0: all)",
    "generate": "two fresh responses each",
    "score": "rewards of the fresh ones",
    "history": "append; the rest is reused",
    "pairs": "fresh and reused, as pairs",
    "train": "weighted by the reward gap",
    "kl": "distance from the SFT policy",
}
CONTRIBUTIONS = ("select", "train")  # what the paper adds to online DPO
WIDTH, BOX, HEADER, GAP, RAILS, MARGIN = 7.2, 1.02, 0.24, 0.17, 0.8, 0.06  # inches
COLOURS = {"policy": "#7B4B94", "history": "#0072B2", "flow": "#555555", "own": "#D55E00"}


def collect(evidence: Evidence) -> Data:
    """The steps of the loop in order, each with lines, inputs, outputs, files and pluggable parts; and the state."""
    return {"steps": [_step(step, evidence.setting.config) for step in STEPS], "state": carried()}


def _step(step: LoopStep, config: RunConfig) -> Data:
    """A step with its parts; an option that is left alone is not shown."""
    parts = []
    for part in (PARTS[name] for name in step.parts):
        if chosen := part.chosen(config):
            named = {"option": part.option, "registry": part.registry_name}
            parts.append({**named, "chosen": chosen, "registered": list(part.registry)})
    return {
        "step": step.name,
        "lines": step.lines,
        "note": step.note,
        "reads": list(step.reads),
        "writes": list(step.writes),
        "files": list(step.files),
        "parts": parts,
    }


def lines(data: Data) -> list[str]:
    """One line per step."""
    told = [f"  carried from iteration to iteration: {', '.join(data['state'])}"]
    for step in data["steps"]:
        parts = "; ".join(f"{part['option']} in {part['registry']}" for part in step["parts"])
        flow = f"{', '.join(step['reads'])} -> {', '.join(step['writes'])}"
        told.append(f"  {step['step']:9s} {step['lines'] or '-':14s} {flow:58s} {parts}")
    return told


def draw(data: Data, path: Path) -> list[str]:
    """The steps as boxes in a ring, the state that iterations hand on as rails between the two rows."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    columns = ceil(len(data["steps"]) / 2)
    width = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) / columns
    height = 2 * BOX + RAILS + 0.62
    figure = plt.figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, height))
    axes.axis("off")
    low = 0.24
    high = low + BOX + RAILS
    places = {}
    for place, step in enumerate(data["steps"]):
        column = place if place < columns else 2 * columns - 1 - place
        places[step["step"]] = (MARGIN + column * (width + GAP), high if place < columns else low)
    for step in data["steps"]:
        _box(axes, step, *places[step["step"]], width)
    _chain(axes, data, places, width)
    _rails(axes, data, places, width, low + BOX)
    axes.text(MARGIN, height - 0.06, "One iteration t of Algorithm 1", va="top", fontsize=8.5, fontweight="bold")
    note = "name in monospace: an option, and what is registered for it (or your own, as package.module:name)"
    axes.text(WIDTH - MARGIN, height - 0.07, note, va="top", ha="right", fontsize=6.5, color="#444444")
    key = "orange: what the paper adds to online DPO; dashed: not the paper's"
    axes.text(WIDTH - MARGIN, 0.02, key, va="bottom", ha="right", fontsize=6.5, color="#444444")
    style.stamp(figure, f"read from the source of optune/loop; {data['command']}", False)
    return style.save(figure, path)


def _box(axes: Any, step: dict[str, Any], x: float, y: float, width: float) -> None:
    """Name and lines in the header; caption, option with what is registered, and the file written."""
    from matplotlib.patches import FancyBboxPatch, Rectangle

    own, in_paper = step["step"] in CONTRIBUTIONS, not step["note"].startswith("not the paper's")
    edge = COLOURS["own"] if own else "#666666"
    shape = FancyBboxPatch(
        (x, y),
        width,
        BOX,
        boxstyle="round,pad=0,rounding_size=0.05",
        facecolor="white",
        edgecolor=edge,
        linewidth=1.3 if own else 0.8,
        linestyle="-" if in_paper else "--",
    )
    axes.add_patch(shape)
    tint = Rectangle((x, y + BOX - HEADER), width, HEADER, color="#FBE5D9" if own else "#EDEDED", linewidth=0)
    tint.set_clip_path(shape)
    axes.add_patch(tint)
    left, middle = x + 0.07, y + BOX - HEADER / 2
    axes.text(left, middle, step["step"], fontsize=9, fontweight="bold", va="center_baseline")
    axes.text(
        x + width - 0.07, middle, _lines_of(step), fontsize=6.5, va="center_baseline", ha="right", color="#333333"
    )
    axes.text(left, y + 0.66, CAPTIONS[step["step"]], fontsize=7, va="center_baseline")
    for part in step["parts"]:
        colour = edge if own else "#333333"
        axes.text(left, y + 0.47, part["option"], fontsize=6.8, va="center_baseline", family="monospace", color=colour)
        axes.text(left, y + 0.31, _registered(part), fontsize=6.2, va="center_baseline", color="#333333")
    written = step["files"] or step["writes"][-1:]
    axes.text(left, y + 0.1, f"→ {written[0]}" if written else "", fontsize=6.2, va="center_baseline", color="#555555")


def _lines_of(step: dict[str, Any]) -> str:
    if not step["lines"]:
        return step["note"].partition(":")[0]
    several = not step["lines"].partition(", Eq")[0].isdigit()
    return f"line{'s' * several} {step['lines']}"


def _registered(part: dict[str, Any], room: int = 34) -> str:
    """The chosen one and as many others as there is room for."""
    names = [part["chosen"], *(name for name in part["registered"] if name != part["chosen"])]
    shown = list(names)
    while len(", ".join(shown)) > room - 4 * (len(shown) < len(names)):
        shown.pop()
    return ", ".join(shown) + (f", +{len(names) - len(shown)}" if len(shown) < len(names) else "")


def _chain(axes: Any, data: Data, places: dict[str, tuple[float, float]], width: float) -> None:
    """From step to step."""
    for one, other in zip(data["steps"], data["steps"][1:], strict=False):
        if not set(one["writes"]) & set(other["reads"]) - set(data["state"]):
            continue
        (x1, y1), (x2, y2) = places[one["step"]], places[other["step"]]
        if y1 != y2:
            start, end = (x1 + width / 2, y1), (x2 + width / 2, y2 + BOX)
        elif x2 > x1:
            start, end = (x1 + width, y1 + BOX / 2), (x2, y2 + BOX / 2)
        else:
            start, end = (x1, y1 + BOX / 2), (x2 + width, y2 + BOX / 2)
        _arrow(axes, start, end, COLOURS["flow"], 1.6)


def _rails(axes: Any, data: Data, places: dict[str, tuple[float, float]], width: float, bottom: float) -> None:
    """A rail per carried variable: an arrow up or down to it from whoever writes it, and from it to its readers."""
    for place, name in enumerate(data["state"]):
        y = bottom + RAILS * (len(data["state"]) - place) / (len(data["state"]) + 1)
        colour = COLOURS[name]
        axes.plot((MARGIN, WIDTH - MARGIN), (y, y), color=colour, linewidth=2.2, solid_capstyle="round", zorder=1)
        for step in data["steps"]:
            x, base = places[step["step"]]
            upper = base > bottom
            edge = base if upper else base + BOX
            offset = width * ((0.12 if upper else 0.2) + 0.16 * place)  # an arrow of its own for each row and rail
            if name in step["reads"]:
                axes.plot(x + offset, y, marker="o", markersize=4, color=colour, zorder=3)
                _arrow(axes, (x + offset, y), (x + offset, edge), colour, 1.1)
            if name in step["writes"]:
                _arrow(axes, (x + width - offset, edge), (x + width - offset, y), colour, 2.2)
        axes.text(WIDTH - MARGIN, y + 0.03, name, fontsize=7, color=colour, ha="right", va="bottom", fontweight="bold")
    told = "handed on from iteration to iteration:"
    axes.text(
        max(x for x, _ in places.values()) + width / 2 - 0.08,  # left of the arrow from row to row
        bottom + RAILS * len(data["state"]) / (len(data["state"]) + 1) + 0.03,
        told,
        fontsize=6.5,
        color="#444444",
        ha="right",
        va="bottom",
    )


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], colour: str, width: float) -> None:
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8}
    axes.annotate("", end, start, arrowprops=style, zorder=2)


FIGURE = Figure("The pipeline, drawn from the loop's own source", (), collect, draw, lines)
