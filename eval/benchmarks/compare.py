"""Two checkpoints on the same benchmark items: paired tests from lm-eval's sample logs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from eval.benchmarks.results_file import named
from eval.benchmarks.suites import SUITES, USUAL, Benchmark
from eval.stats import Interval, holm, mcnemar, t_interval, t_test
from optune.types import UserError
from optune.utils.files import jsonl_rows

# lm-eval adds the time of the run to the name; renamed logs often lack it.
_SAMPLES = re.compile(r"samples_(.+?)(?:_\d{4}-\d\d-\d\dT[\d.-]+)?\.jsonl")

Items = dict[tuple[str, str, int], tuple[float, str]]
"""(task, hash of the item, its number among equal ones) -> (score, hash of the prompt)."""


@dataclass(frozen=True)
class Comparison:
    """One benchmark: the mean difference A - B over the same items, as a fraction (0 to 1).

    `p` is exact McNemar's where every score is 0 or 1, else a paired t test's. `better` and `worse` count the items
    where A scores higher or lower. `undefined` items have no score under one of the models and are left out.
    """

    column: str
    metric: str
    test: str
    n: int
    mean_a: float
    mean_b: float
    difference: Interval
    p: float
    better: int
    worse: int
    undefined: int
    other_prompts: int


@dataclass(frozen=True)
class AverageDifference:
    """The difference of the two averages over a suite: independent items, so the squared errors add up (normal p)."""

    suite: str
    difference: Interval
    p: float


def compare(
    run_a: Path, run_b: Path, suites: Sequence[str] = USUAL
) -> tuple[list[Comparison], list[AverageDifference], list[str]]:
    """Every benchmark of these suites that both runs logged, the averages of complete suites, and notes for the reader.

    Raises UserError where a run has no samples, or the two did not answer the same items.
    """
    logs = {run: _sample_files(run) for run in (run_a, run_b)}
    results, averages, notes = [], [], []
    for name in suites:
        suite = SUITES[name]
        compared = []
        for benchmark in suite:
            leaves = [_of(benchmark, logs[run]) for run in (run_a, run_b)]
            if all(leaves):
                compared.append(_compare(benchmark, *(_items(benchmark, metric_logs) for metric_logs in leaves)))
            elif any(leaves):
                notes.append(f"{benchmark.column}: only {run_a if leaves[0] else run_b} has samples of it.")
        results += compared
        if [c.column for c in compared] == [benchmark.column for benchmark in suite]:
            averages.append(_average(name, compared))
    left_out = [told for run in logs if (told := _left_out(run, logs[run], suites))]
    if not results:
        reason = "; ".join([f"{run_a} and {run_b} have no benchmark in common: nothing to compare", *left_out])
        raise UserError(f"{reason}.")
    notes += [
        f"{c.column}: {c.other_prompts} of {c.n} items were asked in other words (shots or chat template differ)."
        for c in results
        if c.other_prompts
    ]
    notes += [f"{c.column}: {c.undefined} items left out, undefined for a model." for c in results if c.undefined]
    return results, averages, notes + [f"{told}." for told in left_out]


def item_scores(run: Path, suite: str) -> dict[str, dict[str, float]]:
    """By column of the suite, each logged item's score (NaN where it is undefined), in an order that runs share.

    An item's name has its task, the hash of its text and its number among equal ones.
    """
    logs = _sample_files(run)
    scores = {}
    for benchmark in SUITES[suite]:
        leaves = _of(benchmark, logs)
        if leaves:
            items = _items(benchmark, leaves)
            scores[benchmark.column] = {"/".join(map(str, item)): items[item][0] for item in sorted(items)}
    return scores


def markdown(
    results: Sequence[Comparison], averages: Sequence[AverageDifference], notes: Sequence[str], names: tuple[str, str]
) -> str:
    """The comparison as a table in percent points; Holm adjusts over its benchmarks."""
    lines = [
        f"A = {names[0]}, B = {names[1]}; percent, 95% intervals",
        "",
        "| Benchmark | Metric | Items | A | B | A - B | A better / worse | p | Holm | Test |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for c, adjusted in zip(results, holm([c.p for c in results]), strict=True):
        cells = (c.column, c.metric, c.n, f"{100 * c.mean_a:.2f}", f"{100 * c.mean_b:.2f}", _points(c.difference))
        tests = (f"{c.better} / {c.worse}", f"{c.p:.3g}", f"{adjusted:.3g}", c.test)
        lines.append("| " + " | ".join(map(str, cells + tests)) + " |")
    lines += [f"\nAverage ({a.suite}): A - B = {_points(a.difference)}, p = {a.p:.3g}" for a in averages]
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


# --- reading ---------------------------------------------------------------------------------------------------------


def _sample_files(run: Path) -> dict[str, Path]:
    """lm-eval task -> its log of samples, below a run's folder."""
    found: dict[str, Path] = {}
    for path in sorted(p for p in run.rglob("samples_*.jsonl") if ".work" not in p.parts):
        task = _SAMPLES.fullmatch(path.name)[1]
        if task in found:
            raise UserError(f"{path}: a second log of {task} beside {found[task]}; give a folder with one.")
        found[task] = path
    if not found:
        others = [path.name for path in sorted(run.rglob("*.jsonl")) if ".work" not in path.parts]
        there = f" (it has {named(others)}: a log keeps the name lm-eval gave it)" if others else ""
        raise UserError(
            f"{run}: there is no sample log (samples_<task>_<time>.jsonl) in it{there}; run its benchmarks with "
            "--log-samples."
        )
    return found


def _left_out(run: Path, logs: dict[str, Path], suites: Sequence[str]) -> str | None:
    """Which logs of a run belong to no benchmark; None where all do."""
    known = {task for name in suites for benchmark in SUITES[name] for task in benchmark.tasks}
    foreign = {task: sum(1 for _ in jsonl_rows(path)) for task, path in logs.items() if task not in known}
    if not foreign:
        return None
    return f"{run}: {sum(foreign.values())} samples of tasks in no benchmark are left out: {named(list(foreign))}"


def _of(benchmark: Benchmark, logs: dict[str, Path]) -> dict[str, Path]:
    """Those logs that are of the benchmark's tasks."""
    return {task: logs[task] for task in benchmark.tasks if task in logs}


def _items(benchmark: Benchmark, logs: dict[str, Path]) -> Items:
    metric, _, filtered = benchmark.metric.partition(",")
    items: Items = {}
    for leaf, path in sorted(logs.items()):
        seen: Counter[str] = Counter()
        filters = set()
        for number, sample in jsonl_rows(path):
            where = f"{path}, line {number}"
            if not isinstance(sample, dict):
                raise UserError(f"{where}: not an lm-eval sample.")
            filters.add(used := _filter_of(sample, filtered, where))
            if used != filtered:
                continue
            item = _field(sample, "doc_hash", where)
            score = _score(_field(sample, metric, where), f"{where}: its {metric}")
            items[leaf, item, seen[item]] = score, _field(sample, "prompt_hash", where)
            seen[item] += 1
        if filters and not seen:
            raise UserError(f"{path}: no sample was read by the filter {filtered} (only by {named(sorted(filters))}).")
    return items


def _filter_of(sample: dict[str, Any], wanted: str, where: str) -> str:
    """By which filter the answer was read. Old versions do not say so, which matters only where there are several."""
    given = sample.get("filter")
    if given is None and wanted != "none":
        raise UserError(
            f"{where}: the sample does not say by which filter its answer was read ({wanted} is needed); log the "
            "samples again with a newer lm-eval."
        )
    return "none" if given is None else str(given)


def _field(sample: dict[str, Any], name: str, where: str) -> Any:
    if name not in sample:
        raise UserError(
            f"{where}: the sample has no {name} (it has {named([str(key) for key in sample], 12)}); log the samples "
            "again with a newer lm-eval, and --log-samples."
        )
    return sample[name]


def _score(value: Any, what: str) -> float:
    """A score as lm-eval logs it; NaN, or null, where it is undefined."""
    if value is None:
        return math.nan
    if not isinstance(value, bool | int | float):
        raise UserError(f"{what} is {value!r}, which is not a number.")
    return float(value)


# --- testing ---------------------------------------------------------------------------------------------------------


def _compare(benchmark: Benchmark, a: Items, b: Items) -> Comparison:
    """The benchmark on the items of both; a group of which tasks are missing goes by the tasks that are there."""
    if a.keys() != b.keys():
        only_a, only_b = len(a.keys() - b.keys()), len(b.keys() - a.keys())
        raise UserError(
            f"{benchmark.column}: the runs did not answer the same items ({only_a} only in A, {only_b} only in B, "
            f"{len(a.keys() & b.keys())} in both); use the same data and --limit for both."
        )
    scores = np.array([(a[item][0], b[item][0]) for item in a]).reshape(-1, 2)
    defined = scores[np.isfinite(scores).all(axis=1)]
    if len(defined) < 2:
        raise UserError(f"{benchmark.column}: {len(defined)} items with a score under both models; a test needs two.")
    difference = defined[:, 0] - defined[:, 1]
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    present = len({task for task, _, _ in a})
    part = f" ({present} of {len(benchmark.tasks)} tasks)" if present < len(benchmark.tasks) else ""
    binary = bool(np.isin(defined, (0.0, 1.0)).all())
    return Comparison(
        column=benchmark.column + part,
        metric=benchmark.metric,
        test="exact McNemar" if binary else "paired t",
        n=len(defined),
        mean_a=float(defined[:, 0].mean()),
        mean_b=float(defined[:, 1].mean()),
        difference=_difference_of_proportions(better, worse, len(defined)) if binary else t_interval(difference),
        p=mcnemar(*defined.T) if binary else t_test(difference),
        better=better,
        worse=worse,
        undefined=len(scores) - len(defined),
        other_prompts=sum(a[item][1] != b[item][1] for item in a),
    )


def _difference_of_proportions(better: int, worse: int, n: int, level: float = 0.95) -> Interval:
    """Interval of a difference of paired proportions, after half an item is added to each of the four cells.

    Agresti and Min (2005), "Simple improved confidence intervals for comparing matched proportions". Unlike Wald's it
    keeps a width where no item, or every item, differs.
    """
    b, c, total = better + 0.5, worse + 0.5, n + 2
    centre = (b - c) / total
    half = norm.ppf((1 + level) / 2) * math.sqrt(b + c - (b - c) ** 2 / total) / total
    return Interval((better - worse) / n, max(-1.0, centre - half), min(1.0, centre + half), level)


def _average(suite: str, compared: Sequence[Comparison]) -> AverageDifference:
    estimate = sum(c.difference.estimate for c in compared) / len(compared)
    half = math.sqrt(sum(((c.difference.high - c.difference.low) / 2) ** 2 for c in compared)) / len(compared)
    stderr = half / norm.ppf(0.975)
    p = float(2 * norm.sf(abs(estimate) / stderr)) if stderr else 1.0 if estimate == 0 else 0.0
    return AverageDifference(suite, Interval(estimate, estimate - half, estimate + half), p)


def _points(interval: Interval) -> str:
    return f"{100 * interval.estimate:+.2f} [{100 * interval.low:+.2f}, {100 * interval.high:+.2f}]"
