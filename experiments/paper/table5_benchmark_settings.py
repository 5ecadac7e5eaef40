"""Table 5: shots and metric of each benchmark, in the paper, in our suite and by the harness's own default.

Ours are read from the task files that a run is measured by (eval/benchmarks/suites.py), the defaults from the
definitions in the installed lm-eval that these files include.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from pathlib import Path
from typing import Any

import yaml

from eval.benchmarks.suites import PAPER, SUITES, Benchmark, write_paper_tasks
from experiments.compute.results import ROOT
from experiments.figures.figure import Data, Evidence, Figure
from optune.utils.files import read_json


class _TaskLoader(yaml.SafeLoader):
    """Reads lm-eval's task files; what a `!function` stands for is not needed here."""


_TaskLoader.add_multi_constructor("!function", lambda loader, suffix, node: None)


def collect(evidence: Evidence) -> Data:
    """The three settings per benchmark, and the suite that this preset's policies are measured by."""
    paper = read_json(ROOT / "results" / "published" / "table5.json")["benchmarks"]
    rows = {}
    for benchmark in PAPER:
        ours, harness = settings(benchmark)
        rows[benchmark.column] = {"paper": paper[benchmark.column], "ours": ours, "harness": harness}
    suite = "sandbox" if evidence.setting.config.sandbox else "paper"
    return {
        "lm_eval": importlib.metadata.version("lm_eval"),
        "benchmarks": rows,
        "suite_of_this_preset": {
            "suite": suite,
            "benchmarks": {b.column: {"task": b.task, "shots": b.shots, "metric": b.metric} for b in SUITES[suite]},
        },
    }


def settings(benchmark: Benchmark) -> tuple[dict[str, Any], dict[str, Any]]:
    """Task, shots and metrics of one of the paper's benchmarks: as we run it, and as the harness defines it."""
    with tempfile.TemporaryDirectory() as folder:
        write_paper_tasks(benchmark, Path(folder), data_dir=None, cache=Path(folder))
        overlays = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(Path(folder).glob("*.yaml"))]
    leaves = [overlay for overlay in overlays if "num_fewshot" in overlay]
    (shots,) = {leaf["num_fewshot"] for leaf in leaves}
    definitions = [_definition(Path(leaf["include"])) for leaf in leaves]
    (default,) = {definition.get("num_fewshot") or 0 for definition in definitions}
    ours = {"task": benchmark.task, "parts": len(leaves), "shots": shots, "metric": benchmark.metric}
    metrics = [entry["metric"] for entry in definitions[0]["metric_list"]]
    return {**ours, "also": list(benchmark.also)}, {"shots": default, "metrics": metrics}


def lines(data: Data) -> list[str]:
    """One line per benchmark."""
    told = [f"  {'':11s} {'paper':11s} {'ours (task and metric)':67s} default of lm-eval {data['lm_eval']}"]
    for column, row in data["benchmarks"].items():
        paper, ours, harness = row["paper"], row["ours"], row["harness"]
        measured = " and ".join(metric.removesuffix(",none") for metric in (ours["metric"], *ours["also"]))
        left, middle = f"{paper['shots']} {paper['metric']}", f"{ours['shots']} {ours['task']} {measured}"
        told.append(f"  {column:11s} {left:11s} {middle:67s} {harness['shots']} {', '.join(harness['metrics'])}")
    suite = data["suite_of_this_preset"]
    return [*told, f"  preset {data['preset']}: suite {suite['suite']} ({', '.join(suite['benchmarks'])})"]


def _definition(path: Path) -> dict[str, Any]:
    """A task definition with what it includes."""
    own = yaml.load(path.read_text("utf-8"), _TaskLoader)
    included = own.pop("include", None)
    return {**_definition(path.parent / included), **own} if included else own


FIGURE = Figure("Settings of the benchmarks", (), collect, None, lines)
