"""Table 1: the share of online DPO's time that generation, rewarding and training take.

The paper: 71.8%, 0.1% and 28.1% of an iteration at ratio 1, a 7B model on eight GPUs with at most 512 tokens per
response; reference log-probabilities are not named and count as training here. Differences: the shares are those of
this preset's model, machine and engine, from runs made for the clock alone, with intervals over seeds; reduced ratios
and wDPO are shown too, and iteration 0, which every arm makes at ratio 1, is counted separately. Of the real model no
run was repeated for the clock: its shares are those of the runs themselves, two at a time on two cores, some of them
beside other work.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.claims.contrasts import PHASES, on_the_clock, timed
from experiments.compute.arms import arm, loss_arms
from experiments.compute.results import ROOT
from experiments.figures.figure import Data, Evidence, Figure, caption, interval, preview, shown
from optune.utils.files import read_json

TIMED = (arm("dpo", "all"), *loss_arms("wdpo"))
ARMS = timed(*TIMED)
COUNTED = {"from_iteration_1": 1, "from_iteration_0": 0}  # the first iteration that counts


def collect(evidence: Evidence) -> Data:
    """Per arm the shares in percent, with 95% t intervals over seeds, and the paper's."""
    raw = evidence.raw
    clocked = {member.name: on_the_clock(raw, member) for member in TIMED}
    results = next(iter(raw.values()))
    data: Data = {}
    data["engine"] = results[0]["config"]["generation"]["engine"]
    data["machines"] = sorted({_machine(result) for results in clocked.values() for result in results})
    data["paper"] = read_json(ROOT / "results" / "published" / "table1.json")["shares"]
    data["arms"] = {}
    for name, results in clocked.items():
        data["arms"][name] = {counted: shares_over_seeds(results, first) for counted, first in COUNTED.items()}
    return data


def time_share(result: dict[str, Any], phase: str, first: int = 1) -> float:
    """Share of a phase (one of PHASES) in the time of all phases, from iteration `first` on."""
    entries = [entry for entry in result["timing"]["ledger"] if entry["iteration"] >= first]
    return sum(entry[phase] for entry in entries) / sum(entry[name] for entry in entries for name in PHASES)


def shares_over_seeds(results: Sequence[dict[str, Any]], first: int) -> Data:
    """`interval` over seeds of each phase's share in percent."""
    shares = {}
    for phase in PHASES:
        shares[_said(phase)] = interval([100 * time_share(result, phase, first) for result in results])
    return shares


def _said(phase: str) -> str:
    return phase.removesuffix("_s")


def _machine(result: dict[str, Any]) -> str:
    machine = result["timing"]["machine"]
    return f"{machine['cpu']}, {machine['cores']} cores"


def lines(data: Data) -> list[str]:
    """One row per arm, from iteration 1 on, below the paper's."""
    phases = list(data["paper"])
    rows = {"paper, ratio 1": [f"{data['paper'][phase]:.1f}" for phase in phases]}
    for name, counted in data["arms"].items():
        rows[name] = [shown(counted["from_iteration_1"][phase]) for phase in phases]
    heading = f"  percent of time, engine {data['engine']}"
    table = [f"{heading:37s}" + "".join(f"{phase:20s}" for phase in phases)]
    table += [f"  {name:35s}" + "".join(f"{cell:20s}" for cell in cells) for name, cells in rows.items()]
    return [line.rstrip() for line in table]


def draw(data: Data, path: Path) -> list[str]:
    """One stacked bar per arm, the paper's first."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    rows = {"paper: DPO, ratio 1": data["paper"]}
    for member in TIMED:
        shares = data["arms"][member.name]["from_iteration_1"]
        rows[_label(dict(member.overrides))] = {phase: share["mean"] for phase, share in shares.items()}
    figure, axes = plt.subplots(figsize=(7.2, 3.1))
    left = [0.0] * len(rows)
    places = [0, *(k + 0.5 for k in range(1, len(rows)))]  # a gap below the paper's
    for phase, colour in zip(data["paper"], style.COLOURS["phase"], strict=True):
        widths = [shares[phase] for shares in rows.values()]
        axes.barh(places, widths, 0.78, left, color=colour, label=phase)
        for place, width, start in zip(places, widths, left, strict=True):
            if width >= 4:  # a number needs room
                ink = "white" if phase == "generation" else "black"
                axes.text(start + width / 2, place, f"{width:.1f}", color=ink, fontsize=7, ha="center", va="center")
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(places, rows)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(0, 100)
    axes.set_xlabel("Share of time, iterations 1 to the last (%)")
    figure.legend(*axes.get_legend_handles_labels(), ncols=3, loc="upper center", frameon=False, fontsize=8)
    figure.subplots_adjust(top=0.9, bottom=0.2, left=0.2, right=0.98)
    what = f"engine {data['engine']} on {' and '.join(data['machines'])}; means over seeds"
    style.stamp(figure, caption(data, what), preview(data))
    return style.save(figure, path)


def _label(overrides: dict[str, Any]) -> str:
    loss = {"dpo": "DPO", "wdpo": "wDPO"}[overrides["loss.name"]]
    return f"{loss}, ratio {overrides['selection.ratio']:g}"


FIGURE = Figure("Share of time in generation, rewarding and training", ARMS, collect, draw, lines)
