"""Table 3: academic benchmarks of the SFT model, the offline baseline and the final policies.

The paper: OPTune at ratio 0.7 has the highest average (57.65), and claims the highest TruthfulQA and GSM8K (the
baseline's TruthfulQA is higher); one run each and no errors, though the average alone has a sampling error of about
0.57. Differences: intervals over seeds, and the standard error of the average from the items (independent between
benchmarks). In the tiny world the four benchmarks are its own, one for each of the paper's kinds (length-normalised
choice, grouped choice, several right answers, generation): they show that the machinery works and say nothing about the
real benchmarks, so they carry no verdict. The paper's loss is not stated; taken to be wDPO. The real model is measured
on the paper's own benchmarks, on as many items as take minutes, and compared with its start policy item by item, by the
rule in `claims/no_regression.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from eval.benchmarks.suites import SUITES
from experiments.claims.contrasts import ALPACA_ARMS
from experiments.claims.no_regression import MARGIN, STATEMENT, against_start, verdict
from experiments.compute.arms import arm
from experiments.compute.results import ROOT
from experiments.figures.figure import Data, Evidence, Figure, interval, shown
from optune.utils.files import read_json

MEMBERS = ALPACA_ARMS  # the paper's rows are those of Table 2
ARMS = tuple(member.probed("benchmarks") for member in MEMBERS)
MEASURES_ALL = arm("wdpo", "all").probed("benchmarks").name  # its probe measures the SFT model and the baseline too


def collect(evidence: Evidence) -> Data:
    """Per model each benchmark and the average in percent, over seeds, with the items' standard errors.

    The SFT model and the baseline belong to a build, not to a seed: theirs are means over builds.
    """
    raw = evidence.raw
    suite = next(iter(raw.values()))[0]["suite"]
    by_build = {result["build"]: result["models"] for result in raw[MEASURES_ALL]}
    of_builds = {name: [models[name] for models in by_build.values() if name in models] for name in ("sft", "baseline")}
    finals = {
        m.name: [r["models"]["final"] for r in raw[p.name]] for m, p in zip(MEMBERS, ARMS, strict=True) if p.name in raw
    }
    models = {name: runs for name, runs in (of_builds | finals).items() if runs}
    data = {
        "suite": suite,
        "columns": [benchmark.column for benchmark in SUITES[suite]],
        "models": {name: over_runs(runs) for name, runs in models.items()},
        "paper": read_json(ROOT / "results" / "published" / "table3.json")["arms"],
    }
    if "items" in next(iter(models["sft"][0]["columns"].values())):
        data |= _against_start(finals, models["sft"][0])
    return data


def _against_start(finals: dict[str, list[Data]], start: Data) -> Data:
    """Per arm the points that it is ahead of the start policy, by column; the number of items; the verdict."""
    ahead = {name: against_start(runs, start) for name, runs in finals.items()}
    seeds = min(map(len, finals.values()))
    items = {name: column["n"] for name, column in start["columns"].items()}
    return {"ahead": ahead, "items": items, "verdict": verdict([of["average"] for of in ahead.values()], seeds)}


def over_runs(runs: Sequence[dict[str, Any]]) -> Data:
    """`interval` over seeds (or builds) in percent, and the mean standard error from the items, per column."""
    columns = {}
    for name in runs[0]["columns"]:
        columns[name] = _over([run["columns"][name] for run in runs])
    return {**columns, "average": _over([run["average"] for run in runs])}


def _over(scores: Sequence[dict[str, Any]]) -> Data:
    errors = [score["stderr"] for score in scores]
    error = None if None in errors else fmean(100 * error for error in errors)
    return {**interval([100 * score["value"] for score in scores]), "standard_error": error}


def lines(data: Data) -> list[str]:
    """A table of ours, then the paper's."""
    columns = [*data["columns"], "average"]
    heading = f"  {'ours, percent':26s}" + "".join(f"{name:21s}" for name in columns) + "s.e. of the average (items)"
    ours = [heading]
    for name, scores in data["models"].items():
        error = scores["average"]["standard_error"]
        cells = "".join(f"{shown(scores[column]):21s}" for column in columns)
        ours.append(f"  {name:26s}{cells}{'-' if error is None else f'{error:.2f}'}")
    paper_columns = list(next(iter(data["paper"].values())))
    paper = [f"  {'the paper, percent':26s}" + "".join(f"{name:21s}" for name in paper_columns)]
    for name, scores in data["paper"].items():
        paper.append(f"  {name:26s}" + "".join(f"{scores[column]:<21.2f}" for column in paper_columns))
    if "ahead" in data:
        ours += _paired(data)
    other = data["suite"] != "paper"
    note = ["  The sandbox's benchmarks are not the paper's: the two tables are not to be compared in level."] * other
    return [line.rstrip() for line in [*ours, *paper, *note]]


def _paired(data: Data) -> list[str]:
    columns = [*data["columns"], "average"]
    items = ", ".join(f"{name} {data['items'][name]}" for name in data["columns"])
    rows = [f"  {'minus the start policy':26s}" + "".join(f"{name:21s}" for name in columns) + f"items: {items}"]
    for name, ahead in data["ahead"].items():
        rows.append(f"  {name:26s}" + "".join(f"{shown(ahead[column]):21s}" for column in columns))
    return [*rows, f"  {STATEMENT} {data['verdict']} (margin: {MARGIN:g} points)"]


FIGURE = Figure("Benchmarks, with averages and standard errors", ARMS, collect, None, lines)
