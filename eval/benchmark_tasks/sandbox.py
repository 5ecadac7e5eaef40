"""The sandbox's four benchmarks: held-out prompts, right and wrong answers told apart by the gold rubric.

Each of the sixteen families stands in exactly one of the four, so their results are independent of each other.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eval.benchmark_tasks.suites import Benchmark, local_data, write_task
from optune.artefacts import write_text
from optune.sandbox import FAMILIES, Writer, prompts
from optune.sandbox.gold import answer_of, correctness
from optune.sandbox.prompts import stable_rng
from optune.types import Prompt

FAMILIES_OF = {
    "sandbox_mc2": ("list", "name", "choose", "describe"),  # many right answers
    "sandbox_gen": ("add", "count", "sort", "step"),  # one right answer, to be worked out
    "sandbox_acc_norm": ("repeat", "reverse", "say", "replace"),  # mistakes differ in length
    "sandbox_group": ("opposite", "translate", "find", "pick"),
}
PROMPTS_PER_FAMILY = 128
_DEFINITIONS = Path(__file__).parent / "sandbox_tasks"
_ERRING = Writer("distractor", skill_shift=-1.0)


def write_sandbox_tasks(benchmark: Benchmark, folder: Path, data: Path, cache: Path) -> list[Path]:
    """Write one sandbox benchmark's task files into `folder` and its items into `data`; returns the data files."""
    families = FAMILIES_OF[benchmark.task]
    if not benchmark.is_group:
        return [_write(benchmark.task, benchmark.task, families, folder, data, cache)]
    parts = {f"{benchmark.task}_{family}": family for family in families}
    group = {
        "group": benchmark.task,
        "task": list(parts),
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
        "metadata": {"version": 1.0},
    }
    write_task(folder / f"{benchmark.task}.yaml", group)
    definition = f"{benchmark.task}_part"
    return [_write(name, definition, [family], folder, data, cache) for name, family in parts.items()]


def exact_match(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's hook for `sandbox_gen`: 1 if the content words of the response are the answer, else 0."""
    return {"exact_match": float(answer_of(results[0].split()) == doc["answer"].split())}


def items(task: str, families: Sequence[str]) -> list[dict[str, Any]]:
    """The items of a task over `families`: prompts of the test split, which no model has seen, with their answers."""
    make = {"sandbox_mc2": _several_right, "sandbox_gen": _generated}.get(task, _one_right)
    held_out = prompts("test", PROMPTS_PER_FAMILY * len(families), dict.fromkeys(families, 1.0))
    return [{"prompt": prompt.text, **make(prompt)} for prompt in held_out]


def _write(name: str, definition: str, families: Sequence[str], folder: Path, data: Path, cache: Path) -> Path:
    rows = items(name, families)
    path = write_text(data / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    overlay = {"include": str(_DEFINITIONS / f"{definition}.yaml"), "task": name, "num_fewshot": 0}
    write_task(folder / f"{name}.yaml", overlay | local_data({"test": path.resolve()}, cache))
    return path


def _several_right(prompt: Prompt) -> dict[str, Any]:
    right, wrong = _right(prompt, 3), _wrong(prompt, 3)
    return {"mc2_targets": {"choices": right + wrong, "labels": [1] * len(right) + [0] * len(wrong)}}


def _one_right(prompt: Prompt) -> dict[str, Any]:
    choices = _right(prompt, 1) + _wrong(prompt, 3)
    place = stable_rng("benchmark place", prompt.text).randrange(len(choices))
    choices[0], choices[place] = choices[place], choices[0]
    return {"choices": choices, "gold": place}


def _generated(prompt: Prompt) -> dict[str, Any]:
    return {"answer": _right(prompt, 1)[0].removesuffix(" .")}


def _right(prompt: Prompt, n: int) -> list[str]:
    """`n` different right answers."""
    family = FAMILIES[prompt.category]
    slots = family.slots(prompt.text)
    return _different(n, lambda i: family.answer(slots, stable_rng("benchmark answer", prompt.text, i)))


def _wrong(prompt: Prompt, n: int) -> list[str]:
    """`n` different answers that gold finds faulty: habitual slips and corrupted right answers."""

    def draw(index: int) -> list[str] | None:
        answer = answer_of(_ERRING.write(prompt, index).split())
        return answer if correctness(prompt.text, answer) < 1 else None

    return _different(n, draw)


def _different(n: int, draw: Callable[[int], list[str] | None]) -> list[str]:
    """The first `n` different answers of `draw(0), draw(1), ...`, each closed by a full stop: none begins another."""
    found: dict[str, None] = {}
    for index in itertools.count():
        answer = draw(index)
        if answer is not None:
            found[" ".join([*answer, "."])] = None
        if len(found) == n:
            return list(found)
