"""The Always-On-Policy paper's Table 1: how often reward models agree with people's preferences, by category.

The paper: six models, 50 comparisons in each of SHP's 18 categories; the one with the most agreements is taken. Here:
the reward models of the five sandbox builds, 50 comparisons in each of the 16 families, made by the sandbox's annotator
(gold with the noise of its preferences) between answers of other writers. Beside them the longer answer, a control, and
gold, which is as far as anything can agree with an annotator this noisy. Descriptive: no claim rests on it.
"""

from __future__ import annotations

from typing import Any

from experiments.always_on_policy.probes import AGREEMENT, PREFERENCES
from experiments.compute.results import ROOT
from experiments.figures.figure import Data, Evidence, Figure
from optune.utils.files import read_json


def collect(evidence: Evidence) -> Data:
    """Agreements of every build's reward model and of the two references, by family; which model would be taken."""
    raw = evidence.raw
    models = {f"build {result['build']}": result["agreement"]["reward_model"] for result in raw[AGREEMENT.name]}
    references = {name: raw[AGREEMENT.name][0]["agreement"][name] for name in ("length", "gold")}
    return {
        "per_category": PREFERENCES,
        "models": models,
        "references": references,
        "taken": max(models, key=lambda name: models[name]["agreed"]),
        "paper": {**_paper(), "taken_by_its_columns": _taken_by_columns()},
    }


def _paper() -> Data:
    return read_json(ROOT / "results" / "published" / "always_on_policy.json")["table1"]


def _taken_by_columns() -> dict[str, Any]:
    """The model with the largest sum over the paper's own rows, and its sum: not the one that its totals name."""
    paper = _paper()
    sums = dict(zip(paper["models"], map(sum, zip(*paper["categories"].values(), strict=True)), strict=True))
    best = max(sums, key=sums.__getitem__)
    return {"model": best, "sum": sums[best], "sums": sums}


def lines(data: Data) -> list[str]:
    """A row per family, a column per model, as the paper's table; then its totals."""
    columns = {**data["models"], **data["references"]}
    rows = ["  agreements of " + str(data["per_category"]) + " comparisons (fewer where counted)"]
    rows.append(f"  {'':12s}" + "".join(f"{name:>10s}" for name in columns))
    for family in next(iter(columns.values()))["categories"]:
        rows.append(f"  {family:12s}" + "".join(f"{c['categories'][family]['agreed']:10d}" for c in columns.values()))
    rows.append(f"  {'in all':12s}" + "".join(f"{c['agreed']:6d}/{c['n']:<3d}" for c in columns.values()))
    shares = (c["share"] for c in columns.values())
    rows.append(f"  {'percent':12s}" + "".join(f"{100 * s['estimate']:10.1f}" for s in shares))
    shares = (c["share"] for c in columns.values())
    rows.append(f"  {'95% limits':12s}" + "".join(f"{100 * s['low']:5.0f}-{100 * s['high']:<4.0f}" for s in shares))
    paper, own = data["paper"], data["paper"]["taken_by_its_columns"]
    totals = ", ".join(f"{name} {count}" for name, count in paper["matches"].items())
    return [
        *rows,
        f"  taken: {data['taken']}",
        f"  paper, of 900: {totals}; taken: {paper['chosen']}",
        f"  its columns add up to other totals: {paper['chosen']} {own['sums'][paper['chosen']]}, most: "
        f"{own['model']} {own['sum']}",
    ]


FIGURE = Figure("Always-On-Policy, Table 1: choosing a reward model", (AGREEMENT,), collect, None, lines)
