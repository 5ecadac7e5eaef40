"""Which tasks make a suite, with which shots and metrics, and the lm-eval files that define them for one run.

A run's task files only `include` the definition they measure by (lm-eval's own, or the sandbox's beside this file) and
add the number of shots and, for local data, where it lies. lm-eval then reads a few files instead of its whole
catalogue, which takes it 14 s.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from optune.types import UserError


@dataclass(frozen=True)
class Benchmark:
    """One column of a table: an lm-eval task (or group of tasks) and the result it is read from.

    `metric` and `also` are lm-eval's result keys, `metric,filter`; `also` is reported beside and enters no average.
    `parts` are the names of a group's tasks after the group's own (`("anatomy", ...)`), or the function that lists
    them. `runs_code`: the model's answers are executed on this machine.
    """

    column: str
    task: str
    metric: str
    shots: int
    parts: tuple[str, ...] | Callable[[], tuple[str, ...]] = ()
    also: tuple[str, ...] = ()
    runs_code: bool = False

    @property
    def is_group(self) -> bool:
        return bool(self.parts)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The lm-eval tasks that the benchmark consists of: these and no others, whatever their names begin with."""
        if not self.is_group:
            return (self.task,)
        parts = self.parts() if callable(self.parts) else self.parts
        return tuple(f"{self.task}_{part}" for part in parts)


@functools.cache
def mmlu_subjects() -> tuple[str, ...]:
    """The 57 subjects of MMLU, as lm-eval names them."""
    return tuple(path.stem.removeprefix("mmlu_") for path in sorted((_packaged() / "mmlu/default").glob("mmlu_*.yaml")))


# Table 5. Its "acc" of GSM8K is the exact match of the number after "####"; the flexible filter takes the last number.
PAPER = (
    Benchmark("HellaSwag", "hellaswag", "acc_norm,none", shots=0),
    Benchmark("MMLU", "mmlu", "acc,none", shots=0, parts=mmlu_subjects),
    Benchmark("TruthfulQA", "truthfulqa_mc2", "acc,none", shots=0),
    Benchmark("GSM8K", "gsm8k", "exact_match,strict-match", shots=5, also=("exact_match,flexible-extract",)),
)
SANDBOX_GROUP = ("opposite", "translate", "find", "pick")  # families
SANDBOX = (
    Benchmark("Sandbox acc_norm", "sandbox_acc_norm", "acc_norm,none", shots=0),
    Benchmark("Sandbox group", "sandbox_group", "acc,none", shots=0, parts=SANDBOX_GROUP),
    Benchmark("Sandbox mc2", "sandbox_mc2", "acc,none", shots=0),
    Benchmark("Sandbox generation", "sandbox_gen", "exact_match,none", shots=0),
)
# RLHF Workflow's Table 3, with the shots of its Table 6, which says "acc" of all. Beside GSM8K's strict match and ARC's
# plain accuracy what others report.
RLHF_WORKFLOW = (
    Benchmark("GSM8K", "gsm8k", "exact_match,strict-match", shots=8, also=("exact_match,flexible-extract",)),
    Benchmark("MMLU", "mmlu", "acc,none", shots=5, parts=mmlu_subjects),
    Benchmark("HumanEval", "humaneval", "pass@1,create_test", shots=0, runs_code=True),
    Benchmark("TruthfulQA", "truthfulqa_mc2", "acc,none", shots=0),
    Benchmark("ARC-Challenge", "arc_challenge", "acc,none", shots=25, also=("acc_norm,none",)),
    Benchmark("MBPP", "mbpp", "pass_at_1,none", shots=0, runs_code=True),
)
SUITES = {"paper": PAPER, "sandbox": SANDBOX, "rlhf_workflow": RLHF_WORKFLOW}
# Groups within MMLU; not benchmarks of their own.
MMLU_GROUPS = ("mmlu_humanities", "mmlu_other", "mmlu_social_sciences", "mmlu_stem")
# What a results file is read as where nobody says: the suites that share no task.
USUAL = ("paper", "sandbox")

# Where a task's splits lie below --data-dir.
_LAYOUT = {
    "hellaswag": ("hellaswag", {"validation": "validation*.jsonl"}),
    "truthfulqa_mc2": ("truthfulqa", {"validation": "validation*.jsonl"}),
    "gsm8k": ("gsm8k", {"train": "train*.jsonl", "test": "test*.jsonl"}),
    "arc_challenge": ("arc_challenge", {s: f"{s}*.jsonl" for s in ("train", "validation", "test")}),
    "humaneval": ("humaneval", {"test": "test*.jsonl"}),
    "mbpp": ("mbpp", {"test": "test*.jsonl"}),
}
_FOLDERS = {
    "truthfulqa_mc2": "truthfulqa",
    "arc_challenge": "arc",
}  # of lm-eval's definitions, where not the task's name
_MMLU_SPLITS = {"dev": "dev*.jsonl", "test": "test*.jsonl"}


def write_paper_tasks(benchmark: Benchmark, folder: Path, data_dir: Path | None, cache: Path) -> list[Path]:
    """Write the task files of one of the papers' benchmarks into `folder`; returns the local data files it reads.

    Without `data_dir` the task keeps its data set on the Hugging Face hub. `cache` takes what `datasets` builds from
    local files. Raises UserError naming the first missing file.
    """
    used = []
    for name, definition in _definitions(benchmark):
        overlay: dict[str, Any] = {"include": str(definition)}
        if not definition.name.startswith("_"):  # a leaf; groups only name their members
            overlay["num_fewshot"] = benchmark.shots
            if data_dir is not None:
                files = _local_files(name, data_dir)
                overlay |= local_data(files, cache)
                used += files.values()
        write_task(folder / f"{name}.yaml", overlay)
    return used


def local_data(files: dict[str, Path], cache: Path) -> dict[str, Any]:
    """The fields of a task file that read `files` (split -> JSONL) in place of a data set from the hub."""
    return {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {s: str(p) for s, p in files.items()}, "cache_dir": str(cache)},
        "training_split": "train" if "train" in files else None,  # lm-eval loads it even for 0 shots
    }


def write_task(path: Path, fields: dict[str, Any]) -> None:
    """Write one lm-eval task file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True), "utf-8")


def _packaged() -> Path:
    """lm-eval's task folder, found without importing lm-eval (seconds)."""
    return Path(importlib.util.find_spec("lm_eval").submodule_search_locations[0]) / "tasks"


def _definitions(benchmark: Benchmark) -> Iterator[tuple[str, Path]]:
    """(name, packaged definition) of a benchmark's tasks and groups."""
    if benchmark.task == "mmlu":
        yield from ((path.stem, path) for path in sorted((_packaged() / "mmlu/default").glob("*mmlu*.yaml")))
    else:
        folder = _FOLDERS.get(benchmark.task, benchmark.task)
        yield benchmark.task, _packaged() / folder / f"{benchmark.task}.yaml"


def _local_files(task: str, data_dir: Path) -> dict[str, Path]:
    folder, splits = _LAYOUT.get(task) or (f"mmlu/{task.removeprefix('mmlu_')}", _MMLU_SPLITS)
    found = {}
    for split, pattern in splits.items():
        matches = sorted((data_dir / folder).glob(pattern))
        if len(matches) != 1:
            problem = f"{len(matches)} files match" if matches else "there is no"
            raise UserError(f"{data_dir}: {problem} {folder}/{pattern}, of which {task} needs exactly one.")
        found[split] = matches[0].resolve()
    return found
