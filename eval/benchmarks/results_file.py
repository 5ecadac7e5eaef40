"""One results file of lm-eval, of this version or an old one: the scores in it, wherever its version put them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from eval.benchmarks.suites import MMLU_GROUPS, Benchmark, mmlu_subjects
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
_UNDEFINED = ("N/A", "")  # texts that lm-eval writes where it has no number

_Rows = dict[str, dict[str, Any] | None]


class _Shape(BaseModel):
    """What a results file must look like where it is read; the rest of it is free. Null is as good as absent."""

    results: _Rows
    groups: _Rows | None = None
    group_subtasks: dict[str, list[str] | None] | None = None
    config: dict[str, Any] | None = None
    config_general: dict[str, Any] | None = None
    versions: dict[str, Any] | None = None
    task_hashes: dict[str, str | None] | None = None
    shots: dict[str, Any] | None = Field(None, alias="n-shot")
    samples: _Rows | None = Field(None, alias="n-samples")


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


class ResultsFile:
    """The fields of a results file. Raises UserError, naming the file, for what is none."""

    def __init__(self, path: Path):
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
            raise UserError(f"{path}: not an lm-eval results file: it has no 'results'.")
        try:
            shape = _Shape.model_validate(content, strict=True)
        except ValidationError as error:
            wrong = error.errors()[0]
            place = ".".join(map(str, wrong["loc"]))
            raise UserError(f"{path}: not an lm-eval results file: {place}: {wrong['msg']}.") from None
        self.path, self.content = path, content
        self.config = shape.config or shape.config_general or {}
        self.versions, self.hashes = shape.versions or {}, shape.task_hashes or {}
        self.members, self.sizes = shape.group_subtasks or {}, shape.samples or {}
        self.results, self.shots = {}, dict(shape.shots or {})
        for name, row in [*(shape.groups or {}).items(), *shape.results.items()]:
            self._add(name, row or {})

    def _add(self, name: str, row: dict[str, Any]) -> None:
        """A task's row: a group may have its numbers under `groups`, `results` or both."""
        match = _LEADERBOARD_NAME.fullmatch(name)
        task = match[1] if match else name
        if match and task in self.results:
            raise UserError(f"{self.path}: holds {task} twice, with different shots; keep one of them.")
        if match:
            self.shots.setdefault(task, int(match[2]))
        known = {key: value for key, value in row.items() if value is not None}
        self.results[task] = self.results.get(task, {}) | known

    def find(self, benchmark: Benchmark) -> tuple[Score | None, list[str]]:
        """The benchmark's score, None where it has none, and what a reader must know of it."""
        if others := self._other_tasks(benchmark):
            return None, [f"{benchmark.column} is left out: its group {benchmark.task!r} {others}."]
        score, notes = self.score(benchmark, benchmark.metric) or self._old_score(benchmark), []
        if score is None and benchmark.task == "mmlu":
            score, notes = self._mmlu_from_subjects(benchmark)
        if score is None and not notes and benchmark.task in self.results:
            given = [key for key in self.results[benchmark.task] if key != "alias" and "_stderr" not in key]
            lacks = f"{benchmark.task} has no {benchmark.metric} (it has {', '.join(given) or 'nothing'})"
            notes = [f"{benchmark.column} is left out: {lacks}."]
        if score is not None:
            notes += self._part_of_the_items(benchmark.column, score)
        return score, notes

    def score(self, benchmark: Benchmark, metric: str, task: str = "") -> Score | None:
        task = task or benchmark.task
        value = self._share(task, metric)
        if value is None:
            return None
        leaves = self._leaves(task)
        known = [h for leaf in leaves if (h := self.hashes.get(leaf))]
        sizes = [self._size(leaf, "effective") for leaf in leaves]
        return Score(
            benchmark.column,
            task,
            metric,
            value,
            self._stderr(task, metric),
            None if None in sizes else sum(sizes),
            self._shots(task, leaves[0]),
            None if self.versions.get(task) is None else str(self.versions[task]),
            None if len(known) < len(leaves) else known[0] if len(leaves) == 1 else self._hash_of_all(leaves),
            str(self.path),
        )

    def unread(self, benchmarks: Sequence[Benchmark]) -> list[str]:
        """Tasks of the file that no benchmark of these is measured by."""
        old = {task for keys in _OLD_KEYS.values() for task, _ in keys}
        known = {*old, *MMLU_GROUPS, *(f"hendrycksTest-{s}" for s in mmlu_subjects()), "all"}
        for benchmark in benchmarks:
            known |= {benchmark.task, *benchmark.tasks}
        return [task for task in self.results if task not in known]

    def _old_score(self, benchmark: Benchmark) -> Score | None:
        found = (self.score(benchmark, metric, task) for task, metric in _OLD_KEYS.get(benchmark.task, ()))
        return next((score for score in found if score), None)

    def _mmlu_from_subjects(self, benchmark: Benchmark) -> tuple[Score | None, list[str]]:
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

    def _other_tasks(self, benchmark: Benchmark) -> str | None:
        """In what the group's tasks, where the file lists them, are not the benchmark's; None where they are."""
        listed = set(self._leaves(benchmark.task)) - {benchmark.task}
        if not benchmark.is_group or not listed or listed == set(benchmark.tasks):
            return None
        foreign = sorted(listed - set(benchmark.tasks))
        has = f"has {len(listed) - len(foreign)} of the {len(benchmark.tasks)} tasks of the suite"
        return f"{has}, and {named(foreign)} beside them" if foreign else has

    def _part_of_the_items(self, column: str, score: Score) -> list[str]:
        whole = [self._size(leaf, "original") for leaf in self._leaves(score.task)]
        if score.n is None or None in whole or score.n == sum(whole):
            return []
        return [f"{column} was measured on {score.n} of its {sum(whole)} items."]

    def _stderr(self, task: str, metric: str) -> float | None:
        name, comma, filtered = metric.partition(",")
        return self._share(task, f"{name}_stderr{comma}{filtered}")

    def _share(self, task: str, name: str) -> float | None:
        """A fraction of the file, NaN included; None where it has none ("N/A"). UserError for anything else."""
        value = self.results.get(task, {}).get(name)
        if value is None or value in _UNDEFINED:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{self.path}: {task} has {name} = {value!r}, which is not a number.")
        if value < 0 or value > 1:
            raise UserError(f"{self.path}: {task} has {name} = {value}; scores and their errors lie between 0 and 1.")
        return float(value)

    def _leaves(self, task: str, above: tuple[str, ...] = ()) -> list[str]:
        members = self.members.get(task) or []
        if task in above:
            raise UserError(f"{self.path}: the group {task!r} is a part of itself.")
        return [leaf for member in members for leaf in self._leaves(member, (*above, task))] or [task]

    def _hash_of_all(self, leaves: Sequence[str]) -> str:
        return stable_hash({leaf: self.hashes[leaf] for leaf in leaves})

    def _size(self, leaf: str, kind: str) -> int | None:
        size = (self.sizes.get(leaf) or {}).get(kind)
        return size if type(size) is int and size > 0 else None

    def _shots(self, task: str, leaf: str) -> int | None:
        """lm-eval 0.4.1 writes 0 for every group; what was asked for, or a subject's shots, are then the true ones."""
        asked = _whole(self.config.get("num_fewshot"))
        if task == "mmlu" and leaf == task:
            subjects = (_whole(self.shots.get(f"mmlu_{subject}")) for subject in mmlu_subjects())
            asked = next((shots for shots in subjects if shots is not None), asked)
            if asked is not None:
                return asked
        shots = _whole(self.shots.get(leaf))
        return asked if shots is None else shots


def named(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many there are where these are not all."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _whole(value: Any) -> int | None:
    """A whole number of shots; some files have it as text."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and value % 1 == 0
    return int(value) if whole else None


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
