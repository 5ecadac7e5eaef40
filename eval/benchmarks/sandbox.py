"""The sandbox's four benchmarks: held-out prompts, right and wrong answers told apart by the gold rubric.

Each of the sixteen families stands in exactly one of the four, so their results are independent of each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from eval.benchmarks.suites import SANDBOX_GROUP, Benchmark, local_data, write_task
from optune.sandbox import FAMILIES, Writer, prompts
from optune.sandbox.gold import answer_of, correctness
from optune.sandbox.prompts import stable_rng
from optune.types import Prompt
from optune.utils.files import write_text

FAMILIES_OF = {
    "sandbox_mc2": ("list", "name", "choose", "describe"),  # many right answers
    "sandbox_gen": ("add", "count", "sort", "step"),  # one right answer, to be worked out
    "sandbox_acc_norm": ("repeat", "reverse", "say", "replace"),  # mistakes differ in length
    "sandbox_group": SANDBOX_GROUP,
}
PROMPTS_PER_FAMILY = 128
_DEFINITIONS = Path(__file__).parent / "sandbox_tasks"
_ERRING = Writer("distractor", skill_shift=-1.0)


def write_sandbox_tasks(benchmark: Benchmark, folder: Path, data: Path, cache: Path) -> list[Path]:
    """Write one sandbox benchmark's task files into `folder` and its items into `data`; returns the data files."""
    families = FAMILIES_OF[benchmark.task]
    parts = {f"{benchmark.task}_{f}": (f,) for f in families} if benchmark.is_group else {benchmark.task: families}
    if benchmark.is_group:
        group = {
            "group": benchmark.task,
            "task": list(parts),
            "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
            "metadata": {"version": 1.0},
        }
        write_task(folder / f"{benchmark.task}.yaml", group)
    files = []
    for name, members in parts.items():
        rows = items(benchmark.task, members)
        path = write_text(data / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        definition = _DEFINITIONS / f"{benchmark.task}{'_part' * benchmark.is_group}.yaml"
        overlay = {"include": str(definition), "task": name, "num_fewshot": 0}
        write_task(folder / f"{name}.yaml", overlay | local_data({"test": path.resolve()}, cache))
        files.append(path)
    return files


def exact_match(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's hook for `sandbox_gen`: 1 if the content words of the response are the answer, else 0."""
    return {"exact_match": float(answer_of(results[0].split()) == doc["answer"].split())}


def items(task: str, families: Sequence[str]) -> list[dict[str, Any]]:
    """A benchmark's items over `families`: prompts of the test split, which no model has seen, and their answers."""
    make = {
        "sandbox_mc2": _several_right,
        "sandbox_gen": _generated,
        "sandbox_acc_norm": partial(_one_right, same_length=False),
        "sandbox_group": partial(_one_right, same_length=True),
    }[task]
    held_out = prompts("test", PROMPTS_PER_FAMILY * len(families), dict.fromkeys(families, 1.0))
    return [{"prompt": prompt.text, **make(prompt)} for prompt in held_out]


def _several_right(prompt: Prompt) -> dict[str, Any]:
    """As many words in wrong answers as in right ones: likelihoods are not corrected for length here."""
    right = _right(prompt, 3)
    wrong = _wrong(prompt, 3, length=len(right[0]))
    return {"mc2_targets": {"choices": _texts(right + wrong), "labels": [1, 1, 1, 0, 0, 0]}}


def _one_right(prompt: Prompt, same_length: bool) -> dict[str, Any]:
    right = _right(prompt, 1)
    choices = _texts(right + _wrong(prompt, 3, length=len(right[0]) if same_length else None))
    place = stable_rng("benchmark place", prompt.text).randrange(len(choices))
    choices[0], choices[place] = choices[place], choices[0]
    return {"choices": choices, "gold": place}


def _generated(prompt: Prompt) -> dict[str, Any]:
    return {"answer": " ".join(_right(prompt, 1)[0])}


def _right(prompt: Prompt, n: int) -> list[list[str]]:
    """`n` different right answers."""
    family = FAMILIES[prompt.category]
    slots = family.slots(prompt.text)
    return _different(n, (family.answer(slots, stable_rng("benchmark answer", prompt.text, i)) for i in count()))


def _wrong(prompt: Prompt, n: int, length: int | None) -> list[list[str]]:
    """`n` different answers of `length` words (None: any) that gold finds faulty: slips and corrupted right answers."""
    answers = (answer_of(_ERRING.write(prompt, i).split()) for i in count())
    fitting = (a for a in answers if length is None or len(a) == length)
    return _different(n, (a for a in fitting if correctness(prompt.text, a) < 1))


def _different(n: int, answers: Iterator[list[str]]) -> list[list[str]]:
    """The first `n` different ones."""
    found: dict[tuple[str, ...], None] = {}
    while len(found) < n:
        found[tuple(next(answers))] = None
    return [list(answer) for answer in found]


def _texts(answers: Sequence[Sequence[str]]) -> list[str]:
    """Answers as choices; each ends in a full stop, so that none is the beginning of another."""
    return [" ".join([*answer, "."]) for answer in answers]
