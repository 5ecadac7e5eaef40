"""The real model on development seeds: what ratio 1 and never regenerating do to outcomes and to the policy.

Drawn from `results/<preset>/development.json` by `make report`. The gate was decided before any other arm was run
on those seeds. A search for economy later ran wDPO's arms, selection among them, on one of the real model's, seed 1000
(`results/smollm2/development_economy.json`). Whether the gate is open is decided by the last iteration alone.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

from experiments.compute.results import RESULTS, ROOT
from optune.utils.files import read_json

NAME = "gate"
TITLE = "Ratio 1 and never regenerating on development seeds"
ARMS = {"full": "every prompt regenerated (ratio 1)", "none": "nothing regenerated (none)"}
PANELS = {
    "win_score": "Win score against the start policy",
    "gold_mean": "Gold (1 to 10)",
    "kl_to_sft": "KL to the start policy (nats)",
}
START = {"win_score": 50.0, "kl_to_sft": 0.0}  # of the start policy by definition; the rest was measured


def draw(preset: str) -> list[str]:
    """A panel for each outcome: every seed's values thin, their mean thick. The paths that were written."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    development = read_json(RESULTS / preset / "development.json")
    start = START | development["start"]
    figure, panels = plt.subplots(1, 3, figsize=(9.0, 3.1))
    for axes, (measure, title) in zip(panels, PANELS.items(), strict=True):
        for place, (arm, label) in enumerate(ARMS.items()):
            runs = development["by_iteration"][arm]
            _lines(axes, [[start[measure], *run[measure]] for run in runs], label, place)
        axes.set_title(title)
        axes.set_xlabel("Iteration")
        axes.set_xticks(range(_iterations(development) + 1), ["start", *range(_iterations(development))])
        style.grid(axes)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="upper center", ncol=2, frameon=False)
    figure.subplots_adjust(top=0.78, bottom=0.2, left=0.055, right=0.99, wspace=0.2)
    seeds = ", ".join(map(str, development["seeds"]))
    told = f"preset {preset}, plain DPO, development seeds {seeds}, validation prompts; thin: a seed, thick: their mean"
    style.stamp(figure, told, preview=False)
    return style.save(figure, ROOT / "figures" / preset / NAME)


def _lines(axes: Any, by_seed: list[list[float]], label: str, place: int) -> None:
    """Each seed's curve and their mean, in an arm's colour."""
    from experiments.figures import style

    colour, marker = style.COLOURS["loss"][place], style.MARKERS[place]
    places = range(len(by_seed[0]))
    for values in by_seed:
        axes.plot(places, values, color=colour, linewidth=0.7, alpha=0.5)
    means = [fmean(values) for values in zip(*by_seed, strict=True)]
    axes.plot(places, means, color=colour, marker=marker, linewidth=1.8, markersize=4.5, label=label)


def _iterations(development: dict[str, Any]) -> int:
    return len(development["by_iteration"]["full"][0]["win_score"])
