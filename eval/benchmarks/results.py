"""lm-eval result files, of this version or an old one, into the columns of Table 3: a row for each model measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.benchmarks.identity import Measured, measured_model, titled
from eval.benchmarks.results_file import ResultsFile, Score, named
from eval.benchmarks.suites import SUITES, USUAL, Benchmark
from optune.types import UserError

_TABLE = {"paper": "Table 5", "sandbox": "the suite", "rlhf_workflow": "RLHF Workflow's Table 6"}  # that has the shots


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


@dataclass(frozen=True)
class _FileScores:
    """What one file says. `other_shots`: the numbers of shots in it that are not the suite's."""

    measured: Measured
    scores: dict[str, Score]
    beside: tuple[Score, ...]
    notes: tuple[str, ...]
    other_shots: tuple[int, ...]


def read_results(paths: Iterable[str | Path], suites: Sequence[str] = USUAL) -> list[ModelScores]:
    """The scores of these suites in result files, or in all result files below a folder, one entry per model.

    Files are of one model only where all that they say of it is the same (`identity.py`). Where they give a benchmark
    with different shots, each number of shots that is not the suite's has an entry of its own. Raises UserError naming
    the file that cannot be read, or both files where two hold the same score of one model.
    """
    different = {file.resolve(): file for given in paths for file in _files(Path(given))}
    return [_joined(title, files) for title, files in _rows([_read(path, suites) for path in different.values()])]


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


def _read(path: Path, suites: Sequence[str]) -> _FileScores:
    file = ResultsFile(path)
    scores, beside, notes, other_shots = {}, [], [], set()
    benchmarks = [(name, benchmark) for name in suites for benchmark in SUITES[name]]
    for name, benchmark in benchmarks:
        score, told = file.find(benchmark)
        notes += told
        if score is None:
            continue
        scores[benchmark.column] = score
        beside += [s for metric in benchmark.also if (s := file.score(benchmark, metric))]
        if score.shots not in (None, benchmark.shots):
            other_shots.add(score.shots)
            notes.append(
                f"{benchmark.column} was measured {score.shots}-shot, {_TABLE[name]} has {benchmark.shots}-shot."
            )
        if not math.isfinite(score.value):
            notes.append(f"{benchmark.column} is undefined: the model gave no choice of an item any probability.")
    unread = file.unread([benchmark for _, benchmark in benchmarks])
    if not scores and not notes:
        raise UserError(f"{path}: holds none of the benchmarks; it has {named(list(file.results)) or 'none'}.")
    if unread:
        notes.append(f"Not read, being none of the benchmarks ({len(unread)}): {named(unread)}.")
    if file.config.get("limit"):
        notes.append(f"A try, not a result: only the first {file.config['limit']} items of each task (--limit).")
    if file.config.get("gen_kwargs"):
        notes.append(f"Generated with settings of its own ({file.config['gen_kwargs']}): {', '.join(scores)}.")
    measured = measured_model(file.content, path)
    return _FileScores(measured, scores, tuple(beside), tuple(notes), tuple(sorted(other_shots)))


def _rows(files: Sequence[_FileScores]) -> Iterator[tuple[str, list[_FileScores]]]:
    """(title, files) of each model. What only some files know separates them where they contradict each other."""
    by_model: dict[Measured, list[_FileScores]] = {}
    for file in files:
        by_model.setdefault(file.measured, []).append(file)
    for model, group in by_model.items():
        differing = [name for name in model.known if len({f.measured.known[name] for f in group} - {""}) > 1]
        by_settings: dict[tuple[str, ...], list[_FileScores]] = {}
        for file in group:
            by_settings.setdefault(tuple(file.measured.known[name] for name in differing), []).append(file)
        for values, alike in by_settings.items():
            told = {name: value[:12] for name, value in zip(differing, values, strict=True) if value}
            for shots, same in _by_shots(alike):
                asked = {"shots": " and ".join(map(str, shots))} if shots else {}
                yield titled(model.name, dict(model.settings) | told | asked), same


def _by_shots(files: list[_FileScores]) -> Iterator[tuple[tuple[int, ...], list[_FileScores]]]:
    """All files together; where they measured a benchmark with different shots, apart by shots not the suite's."""
    seen: dict[str, set[int]] = {}
    for score in (score for file in files for score in file.scores.values() if score.shots is not None):
        seen.setdefault(score.column, set()).add(score.shots)
    if all(len(shots) == 1 for shots in seen.values()):
        yield (), files
        return
    for key in dict.fromkeys(file.other_shots for file in files):
        yield key, [file for file in files if file.other_shots == key]


def _joined(title: str, files: Sequence[_FileScores]) -> ModelScores:
    """One model's files as one entry. Raises UserError where two of them hold the same score."""
    scores: dict[str, Score] = {}
    for file in files:
        for column in (name for name in file.scores if name in scores):
            given = file.scores[column].file
            raise UserError(f"{given}: holds {column} of {title}, and so does {scores[column].file}; give one.")
        scores |= file.scores
    beside = tuple(score for file in files for score in file.beside)
    notes = dict.fromkeys(note for file in files for note in file.notes)
    return ModelScores(title, scores, beside, tuple(notes))


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
