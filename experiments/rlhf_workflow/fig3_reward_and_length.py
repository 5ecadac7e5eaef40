"""RLHF Workflow's Figure 3: how rewards and lengths of a prompt's responses correlate, by how long they are.

The paper: the SFT model's responses to 2,000 prompts (8 in the text, 16 in the caption), Pearson's r of reward and
length for each prompt; means 0.19 (UltraRM-13B) and 0.06 (its own model). Here 512 prompts and 16 responses of each of
three builds' SFT policies, lengths in characters; our reward model and the one that learned from length-biased
preferences. Rows are five equal parts of the prompts by mean length; a column is a tenth of the range of r, and a cell
the share of its row. Prompts whose responses are all equally long have no r and are counted. Descriptive.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np

from experiments.compute.results import ROOT
from experiments.figures.figure import Data, Evidence, Figure, caption, interval, preview, shown
from experiments.rlhf_workflow.probes import REWARD_MODELS
from optune.utils.files import read_json

MODELS = {"longer": "length-biased reward model", "bradley_terry": "reward model"}
ROWS, COLUMNS = 5, 10


def collect(evidence: Evidence) -> Data:
    """By reward model the mean r with its interval over builds, and the heat map: (rows, columns) shares."""
    raw = evidence.raw
    results = [result["length"] for result in raw[REWARD_MODELS.name]]
    lengths = np.concatenate([result["mean_length"] for result in results])
    order = np.argsort(lengths, kind="stable")
    parts = np.array_split(order, ROWS)
    models = {}
    for model in MODELS:
        # Of each prompt Pearson's r, NaN where there is none; (prompts of all builds,).
        r = np.array(list(chain.from_iterable(result[model] for result in results)), dtype=float)
        means = []
        for result in results:
            means.append(float(np.mean([value for value in result[model] if value is not None])))
        shares = [np.histogram(r[part], bins=COLUMNS, range=(-1, 1))[0] for part in parts]
        models[model] = {
            "mean_r": interval([round(mean, 6) for mean in means]),
            "by_length": [round(float(np.nanmean(r[part])), 6) for part in parts],
            "shares": [(row / max(1, row.sum())).round(4).tolist() for row in shares],
            "without_r": [int(np.isnan(r[part]).sum()) for part in parts],
        }
    return {
        "prompts": len(lengths),
        "length_parts": [[float(lengths[part].min()), float(lengths[part].max())] for part in parts],
        "models": models,
        "paper": read_json(ROOT / "results" / "published" / "rlhf_workflow.json")["fig3"],
    }


def lines(data: Data) -> list[str]:
    """The mean correlations."""
    rows = [
        f"  {MODELS[name]:30s} mean r {shown(model['mean_r'], 3)}; by length "
        + ", ".join(f"{value:.2f}" for value in model["by_length"])
        + f"; {sum(model['without_r'])} of {data['prompts']} prompts without r"
        for name, model in data["models"].items()
    ]
    paper = data["paper"]
    return [*rows, f"  paper: UltraRM-13B {paper['UltraRM-13B']}, its own model {paper['BT mix2']}"]


def draw(data: Data, path: Path) -> list[str]:
    """Two heat maps side by side, the length-biased model left as in the paper."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, panels = plt.subplots(1, len(MODELS), figsize=(7.2, 2.9), sharey=True)
    top = max(max(map(max, model["shares"])) for model in data["models"].values())
    for axes, (name, label) in zip(panels, MODELS.items(), strict=True):
        model = data["models"][name]
        image = axes.imshow(
            model["shares"], aspect="auto", origin="lower", cmap="viridis", vmin=0, vmax=top, extent=(-1, 1, 0, ROWS)
        )
        axes.axvline(0, color="white", linewidth=0.7, linestyle=":")
        axes.plot(model["by_length"], np.arange(ROWS) + 0.5, "o", color="white", mec="black", markersize=4)
        axes.set_title(f"{label}\nmean r {shown(model['mean_r'], 2)}", fontsize=8.5)
        axes.set_xticks([-1, -0.5, 0, 0.5, 1])
        axes.set_xlabel("Pearson's r of reward and length")
    panels[0].set_yticks(np.arange(ROWS) + 0.5, [f"{low:.0f}-{high:.0f}" for low, high in data["length_parts"]])
    panels[0].set_ylabel("Mean length of responses\n(characters)")
    figure.subplots_adjust(top=0.85, bottom=0.26, left=0.12, right=0.9, wspace=0.13)
    bar = figure.colorbar(image, cax=figure.add_axes((0.915, 0.26, 0.012, 0.59)))
    bar.set_label("Share of the row", fontsize=8)
    what = f"{data['prompts']} prompts, 16 responses each; dots: means"
    style.stamp(figure, caption(data, what), preview(data))
    return style.save(figure, path)


FIGURE = Figure("RLHF Workflow, Figure 3: reward and length", (REWARD_MODELS,), collect, draw, lines)
