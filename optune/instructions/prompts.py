"""Prompt sets: a task about a topic and one or two constraints, the same on every machine."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from optune.instructions.constraints import KINDS, MEET, Constraint, constraints_in, drawn, go_together
from optune.instructions.topics import SPLITS, TOPICS
from optune.types import Prompt, UserError

TASKS = (
    "Write a short text about {topic}.",
    "Tell me something interesting about {topic}.",
    "Write a few words for a child about {topic}.",
    "Explain briefly what people like about {topic}.",
    "Write a short note to a friend about {topic}.",
)
SIZES: dict[str, int] = {
    "train": 2048,
    "preference": 4096,
    "offline": 2048,
    "validation": 256,
    "test": 600,
    "test300": 300,
}
"""Prompts per split. `test300` is the first half of `test`; all others share no text."""
TWO = "two"
"""Category of the prompts with two constraints; the others' is the kind of their constraint."""

_SHARE_OF_TWO = 1 / 3
_SHARES = {"train": 0.3, "preference": 0.5, "offline": 0.2}  # of the texts on training topics
_TASK = re.compile("|".join(re.escape(task).replace(r"\{topic\}", r"(.+?)") for task in TASKS))


@dataclass(frozen=True)
class Instruction:
    """What a prompt asks for."""

    task: str
    topic: str
    constraints: tuple[Constraint, ...]

    @property
    def sentence(self) -> str:
        """The task alone, without its constraints."""
        return self.task.format(topic=self.topic)

    @property
    def text(self) -> str:
        return " ".join((self.sentence, *(c.sentence for c in self.constraints)))

    @property
    def category(self) -> str:
        return TWO if len(self.constraints) > 1 else self.constraints[0].kind

    @property
    def prompt(self) -> Prompt:
        return Prompt(f"{self.category}-{stable_int(self.text):016x}", self.text, category=self.category)


def prompts(split: str, n: int | None = None) -> list[Prompt]:
    """The first `n` prompts of a split, all of them without `n`. UserError for an unknown split, or too many."""
    if split not in SIZES:
        raise UserError(f"Unknown split {split!r} of the instructions; known: {', '.join(SIZES)}.")
    n = SIZES[split] if n is None else n
    if n > SIZES[split]:
        raise UserError(f"The split {split!r} of the instructions holds {SIZES[split]} prompts, not {n}.")
    return list(_all("test" if split == "test300" else split)[:n])


def read(prompt_text: str) -> Instruction:
    """What a prompt of this world asks for. UserError where the text is none of its prompts."""
    task = _TASK.match(prompt_text)
    topic = next(filter(None, task.groups()), "") if task else ""
    if topic in TOPICS:
        pattern = next(t for t in TASKS if prompt_text.startswith(t.format(topic=topic)))
        instruction = Instruction(pattern, topic, tuple(constraints_in(prompt_text[task.end() :])))
        if instruction.constraints and instruction.text == prompt_text:
            return instruction
    raise UserError(f"Not a prompt of the instructions: {prompt_text[:80]!r}.")


def stable_int(*parts: object) -> int:
    """A 64-bit hash of `parts` that is the same in every process."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:8], "big")


@functools.cache
def _all(split: str) -> tuple[Prompt, ...]:
    found: dict[str, Instruction] = {}
    for instruction in _stream(split):
        found.setdefault(instruction.text, instruction)
        if len(found) == SIZES[split]:
            break
    return tuple(instruction.prompt for instruction in found.values())


def _stream(split: str) -> Iterator[Instruction]:
    """Instructions of a split for ever: kinds and topics in turn, the rest drawn."""
    rng = Random(stable_int("instructions", split))
    topics = list(SPLITS.get(split, SPLITS["train"]))
    while True:
        rng.shuffle(topics)
        for i, kind in enumerate(rng.sample(list(KINDS), len(KINDS)) * (1 + len(topics) // len(KINDS))):
            instruction = _drawn(kind, topics[i % len(topics)], rng)
            if (split in SPLITS and split != "train") or _training_split(instruction.text) == split:
                yield instruction


def _drawn(kind: str, topic: str, rng: Random) -> Instruction:
    task, first = rng.choice(TASKS), drawn(kind, rng, topic)
    if rng.random() >= _SHARE_OF_TWO or KINDS[kind].group not in frozenset().union(*MEET):
        return Instruction(task, topic, (first,))
    while True:
        second = drawn(rng.choice(list(KINDS)), rng, topic)
        if go_together(first, second):
            return Instruction(task, topic, (first, second))


def _training_split(text: str) -> str:
    position = stable_int("split", text) / 2**64
    for split, share in _SHARES.items():
        position -= share
        if position < 0:
            return split
    return "offline"
