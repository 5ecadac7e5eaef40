"""lm-eval result files, of this version or an old one, into the columns of Table 3."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from eval.benchmarks.suites import SUITES, USUAL, Benchmark, mmlu_subjects
from optune.types import UserError
from optune.utils.files import read_json
from optune.utils.hashing import stable_hash

# Where older versions put the same number: (task, key). The files of the first Open LLM Leaderboard use these as well.
_OLD_KEYS = {
    "hellaswag": (("hellaswag", "acc_norm"),),
    "mmlu": (("mmlu", "acc"),),
    "truthfulqa_mc2": (("truthfulqa_mc2", "acc"), ("truthfulqa_mc", "mc2"), ("truthfulqa:mc", "mc2")),
    "gsm8k": (("gsm8k", "exact_match,get-answer"), ("gsm8k", "acc")),
}
_LEADERBOARD_NAME = re.compile(r"harness\|(.+)\|(\d+)")


class _Shape(BaseModel):
    """What a results file must look like where it is read; the rest of it is free."""

    results: dict[str, dict[str, Any]]
    groups: dict[str, dict[str, Any]] | None = None
    group_subtasks: dict[str, list[str]] | None = None
    config: dict[str, Any] | None = None
    config_general: dict[str, Any] | None = None
    versions: dict[str, Any] = {}
    task_hashes: dict[str, str | None] = {}
    shots: dict[str, Any] | None = Field(None, alias="n-shot")
    samples: dict[str, dict[str, Any]] | None = Field(None, alias="n-samples")


_TABLE = {"paper": "Table 5", "sandbox": "the suite", "rlhf_workflow": "RLHF Workflow's Table 6"}  # that has the shots


@dataclass(frozen=True)
class Score:
    """One number of a results file, as a fraction (0 to 1), with all that says what it is; None where not recorded."""

    column: str
    task: str
    metric: str
    value: float
    stderr: float | None
    n: int | None
    shots: int | None
    version: str | None
    task_hash: str | None
    file: str


@dataclass(frozen=True)
class ModelScores:
    """A model's scores by column, the secondary ones in `beside`, and what a reader must know before comparing them."""

    model: str
    scores: dict[str, Score]
    beside: tuple[Score, ...] = ()
    notes: tuple[str, ...] = ()

    def average(self, suite: Sequence[Benchmark]) -> tuple[float, float | None] | None:
        """Mean over a suite's columns and its standard error (their items are independent); None if one lacks."""
        scores = [self.scores.get(benchmark.column) for benchmark in suite]
        if None in scores:
            return None
        errors = [score.stderr for score in scores]
        stderr = None if None in errors else math.sqrt(sum(e**2 for e in errors)) / len(errors)
        return sum(score.value for score in scores) / len(scores), stderr


def read_results(paths: Iterable[str | Path], suites: Sequence[str] = USUAL) -> list[ModelScores]:
    """The scores of these suites in result files, or in all result files below a folder, one entry per model.

    Raises UserError naming the file that cannot be read, or both files where two hold the same score of one model.
    """
    models: dict[str, ModelScores] = {}
    different = {file.resolve(): file for given in paths for file in _files(Path(given))}
    for path in different.values():
        new = _read(path, suites)
        old = models.get(new.model, ModelScores(new.model, {}))
        for column in old.scores.keys() & new.scores.keys():
            raise UserError(f"{path}: holds {column} of {new.model}, and so does {old.scores[column].file}; give one.")
        notes = tuple(dict.fromkeys(old.notes + new.notes))
        models[new.model] = ModelScores(new.model, old.scores | new.scores, old.beside + new.beside, notes)
    return list(models.values())


def markdown(models: Sequence[ModelScores], suites: Sequence[str] = USUAL) -> str:
    """Table 3 (percent, with standard errors) for each suite that has results, what was measured, and the notes."""
    parts = []
    for suite in (SUITES[name] for name in suites):
        rows = [m for m in models if any(b.column in m.scores for b in suite)]
        if rows:
            parts += [_main_table(rows, suite), _detail_table(rows, suite)]
    notes = [f"- {m.model}: {note}" for m in models for note in m.notes]
    return "\n\n".join(parts + (["\n".join(notes)] if notes else [])) + "\n"


def as_json(models: Sequence[ModelScores], suites: Sequence[str] = USUAL) -> list[dict[str, Any]]:
    """The same for programs: fractions, not percent."""
    rows = []
    for model in models:
        averages = {name: model.average(SUITES[name]) for name in suites}
        averages = {n: {"value": a[0], "stderr": a[1]} for n, a in averages.items() if a is not None}
        scores = {column: asdict(score) for column, score in model.scores.items()}
        beside = [asdict(score) for score in model.beside]
        rows.append(
            {"model": model.model, "scores": scores, "average": averages, "beside": beside, "notes": list(model.notes)}
        )
    return rows


# --- reading ---------------------------------------------------------------------------------------------------------


def _files(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    found = sorted(p for p in given.rglob("results*.json") if ".work" not in p.parts)
    if not found:
        raise UserError(f"{given}: there is no lm-eval results file (results*.json) in this folder.")
    return found


def _read(path: Path, suites: Sequence[str]) -> ModelScores:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise UserError(f"{path}: not an lm-eval results file: it has no 'results'.")
    try:
        _Shape.model_validate(content, strict=True)
    except ValidationError as error:
        wrong = error.errors()[0]
        place = ".".join(map(str, wrong["loc"]))
        raise UserError(f"{path}: not an lm-eval results file: {place}: {wrong['msg']}.") from None
    file = _ResultsFile(path, content)
    scores, beside, notes = {}, [], []
    for name in suites:
        for benchmark in SUITES[name]:
            score = file.score(benchmark, benchmark.metric) or file.old_score(benchmark)
            if score is None and benchmark.task == "mmlu":
                score, more = file.mmlu_from_subjects(benchmark)
                notes += more
            if score is None:
                continue
            scores[benchmark.column] = score
            beside += [s for metric in benchmark.also if (s := file.score(benchmark, metric))]
            if score.shots not in (None, benchmark.shots):
                notes.append(
                    f"{benchmark.column} was measured {score.shots}-shot, {_TABLE[name]} has {benchmark.shots}-shot."
                )
            if not math.isfinite(score.value):
                notes.append(f"{benchmark.column} is undefined: the model gave no choice of an item any probability.")
    if not scores and not notes:
        raise UserError(f"{path}: holds none of the benchmarks; it has {', '.join(list(file.results)[:5]) or 'none'}.")
    if file.config.get("limit"):
        notes.append(f"A try, not a result: only the first {file.config['limit']} items of each task (--limit).")
    return ModelScores(file.model, scores, tuple(beside), tuple(notes))


class _ResultsFile:
    """The fields of a results file, wherever its version put them."""

    def __init__(self, path: Path, content: dict[str, Any]):
        self.path = path
        self.content = content
        self.config = content.get("config") or content.get("config_general") or {}
        named = {**(content.get("groups") or {}), **content["results"]}
        self.shots_in_name = {m[1]: int(m[2]) for name in named if (m := _LEADERBOARD_NAME.fullmatch(name))}
        self.results = {m[1] if (m := _LEADERBOARD_NAME.fullmatch(k)) else k: v for k, v in named.items()}

    @property
    def model(self) -> str:
        given = self.config.get("model_args") or ""
        pairs = given if isinstance(given, dict) else dict(p.split("=", 1) for p in str(given).split(",") if "=" in p)
        name = self.content.get("model_name") or pairs.get("pretrained") or self.config.get("model_name")
        return str(name or self.path.stem)

    def score(self, benchmark: Benchmark, metric: str, task: str = "") -> Score | None:
        task = task or benchmark.task
        value = self._share(task, metric)
        if value is None:
            return None
        leaves = self._leaves(task)
        hashes = {leaf: self.content.get("task_hashes", {}).get(leaf) for leaf in leaves}
        versions = self.content.get("versions", {})
        known = [h for h in hashes.values() if h]
        return Score(
            benchmark.column,
            task,
            metric,
            value,
            self._stderr(task, metric),
            sum(sizes) if None not in (sizes := [self._size(leaf) for leaf in leaves]) else None,
            self._shots(leaves[0]),
            str(versions[task]) if task in versions else None,
            None if len(known) < len(leaves) else known[0] if len(leaves) == 1 else stable_hash(hashes),
            str(self.path),
        )

    def old_score(self, benchmark: Benchmark) -> Score | None:
        found = (self.score(benchmark, metric, task) for task, metric in _OLD_KEYS.get(benchmark.task, ()))
        return next((score for score in found if score), None)

    def mmlu_from_subjects(self, benchmark: Benchmark) -> tuple[Score | None, list[str]]:
        """MMLU as the mean over subjects weighted by size, as lm-eval's group has it; old versions knew no groups."""
        names = {s: n for s in mmlu_subjects() for n in (f"mmlu_{s}", f"hendrycksTest-{s}") if n in self.results}
        parts = [s for n in names.values() for m in ("acc,none", "acc") if (s := self.score(benchmark, m, n))]
        if len(parts) < len(mmlu_subjects()):
            return None, [f"MMLU is left out: {len(parts)} of its {len(mmlu_subjects())} subjects."] if parts else []
        plain = sum(p.value for p in parts) / len(parts)
        sizes = [p.n or _size_from_stderr(p) for p in parts]
        if None in sizes:
            note = "MMLU is the plain mean over subjects: the file tells their sizes neither directly nor by errors."
            return _merged(benchmark, parts, plain, None, None), [note]
        total = sum(sizes)
        value = sum(n * p.value for n, p in zip(sizes, parts, strict=True)) / total
        note = f"MMLU weighs its subjects by size, as lm-eval's group does; their plain mean is {100 * plain:.2f}."
        return _merged(benchmark, parts, value, _pooled_stderr(parts, sizes), total), [note]

    def _stderr(self, task: str, metric: str) -> float | None:
        name, comma, filtered = metric.partition(",")
        return self._share(task, f"{name}_stderr{comma}{filtered}")

    def _share(self, task: str, name: str) -> float | None:
        """A fraction of the file, NaN included; None where it has none ("N/A"). UserError for any other number."""
        value = self.results.get(task, {}).get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if value < 0 or value > 1:
            raise UserError(f"{self.path}: {task} has {name} = {value}; scores and their errors lie between 0 and 1.")
        return float(value)

    def _leaves(self, task: str, above: tuple[str, ...] = ()) -> list[str]:
        members = (self.content.get("group_subtasks") or {}).get(task) or []
        if task in above:
            raise UserError(f"{self.path}: the group {task!r} is a part of itself.")
        return [leaf for member in members for leaf in self._leaves(member, (*above, task))] or [task]

    def _size(self, leaf: str) -> int | None:
        size = (self.content.get("n-samples") or {}).get(leaf, {}).get("effective")
        return size if type(size) is int and size > 0 else None

    def _shots(self, leaf: str) -> int | None:
        per_task = self.content.get("n-shot") or self.shots_in_name
        shots = per_task.get(leaf, self.config.get("num_fewshot"))
        return shots if isinstance(shots, int) else None


def _size_from_stderr(part: Score) -> int | None:
    """The items behind a mean of zeros and ones: its standard error is sqrt(p(1 - p) / (n - 1))."""
    return round(part.value * (1 - part.value) / part.stderr**2) + 1 if part.stderr else None


def _pooled_stderr(parts: Sequence[Score], sizes: Sequence[int]) -> float | None:
    """The standard error of the pooled items from the parts' (pooled variance, as in lm-eval's groups)."""
    if any(p.stderr is None for p in parts):
        return None
    total = sum(sizes)
    variance = sum(n * (n - 1) * p.stderr**2 for n, p in zip(sizes, parts, strict=True)) / (total - len(parts))
    return math.sqrt(variance / total)


def _merged(benchmark: Benchmark, parts: Sequence[Score], value: float, stderr: float | None, n: int | None) -> Score:
    first = parts[0]
    task = f"{first.task} and {len(parts) - 1} more"
    return Score(benchmark.column, task, first.metric, value, stderr, n, first.shots, first.version, None, first.file)


# --- tables ----------------------------------------------------------------------------------------------------------


def _percent(value: float, stderr: float | None) -> str:
    return f"{100 * value:.2f}" + ("" if stderr is None else f" ± {100 * stderr:.2f}")


def _main_table(rows: Sequence[ModelScores], suite: Sequence[Benchmark]) -> str:
    lines = []
    for row in rows:
        scores = [row.scores.get(b.column) for b in suite]
        cells = ["–" if s is None else _percent(s.value, s.stderr) for s in scores]
        average = row.average(suite)
        lines.append([row.model, *cells, "–" if average is None else _percent(*average)])
    return _table(["Model", *(b.column for b in suite), "Average"], lines)


def _detail_table(rows: Sequence[ModelScores], suite: Sequence[Benchmark]) -> str:
    columns = [b.column for b in suite]
    lines = []
    for row in rows:
        scores = [s for s in (*row.scores.values(), *row.beside) if s.column in columns]
        for s in sorted(scores, key=lambda s: columns.index(s.column)):
            known = [s.shots, s.n, s.version, s.task_hash and s.task_hash[:12]]
            cells = ["–" if v is None else str(v) for v in known]
            lines.append([row.model, s.task, s.metric, _percent(s.value, s.stderr), *cells])
    return _table(["Model", "Task", "Metric", "Value", "Shots", "Items", "Version", "Task hash"], lines)


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [[cell.replace("|", "\\|") for cell in line] for line in (header, ["---"] * len(header), *lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
