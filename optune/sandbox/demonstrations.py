"""Writers of mixed quality: the teacher whose demonstrations train the SFT policy, and others, better and worse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from optune.sandbox.families import FAMILIES, Slots, family_of
from optune.sandbox.prompts import stable_rng
from optune.sandbox.words import COURTESIES, FILLERS, NOUNS
from optune.types import Prompt


class Habits(NamedTuple):
    """The teacher's probabilities of a right answer, of a courteous first word and of a full stop."""

    skill: float
    courtesy: float
    full_stop: float


TEACHER_HABITS: dict[str, Habits] = {
    "repeat": Habits(0.95, 0.9, 0.7),
    "reverse": Habits(0.45, 0.3, 0.4),
    "sort": Habits(0.60, 0.2, 0.6),
    "count": Habits(0.60, 0.3, 0.3),
    "list": Habits(0.50, 0.4, 0.8),
    "name": Habits(0.50, 0.4, 0.3),
    "opposite": Habits(0.45, 0.5, 0.5),
    "translate": Habits(0.85, 0.8, 0.8),
    "add": Habits(0.70, 0.1, 0.4),
    "describe": Habits(0.40, 0.5, 0.7),
    "find": Habits(0.60, 0.4, 0.3),
    "say": Habits(0.45, 0.3, 0.6),
    "choose": Habits(0.60, 0.6, 0.4),
    "step": Habits(0.85, 0.8, 0.7),
    "replace": Habits(0.40, 0.4, 0.5),
    "pick": Habits(0.35, 0.2, 0.4),
}
"""By family. What the teacher mostly does is the mode of a policy trained on it; what it does at times, rewards can
bring out."""

NO_FILLERS, HABITUAL_SLIP = 0.75, 0.7


@dataclass(frozen=True, slots=True)
class Writer:
    """A source of responses. Shifts are added to the teacher's probabilities of a right answer and of good style."""

    name: str
    skill_shift: float = 0.0
    style_shift: float = 0.0

    def write(self, prompt: Prompt, index: int = 0, seed: int = 0) -> str:
        """The writer's response number `index` to a prompt; the same for the same arguments, on every machine."""
        rng = stable_rng("writer", self.name, seed, index, prompt.text)
        family = family_of(prompt.text).name
        answer = self._answer(family, FAMILIES[family].slots(prompt.text), rng)
        words = [*answer]
        if not _chance(rng, NO_FILLERS + self.style_shift):
            words.insert(rng.randint(0, len(words)), rng.choice(FILLERS))
        if _chance(rng, TEACHER_HABITS[family].courtesy + self.style_shift):
            words = [rng.choice(COURTESIES), ",", *words]
        if _chance(rng, TEACHER_HABITS[family].full_stop + self.style_shift):
            words.append(".")
        return " ".join(words)

    def _answer(self, family: str, slots: Slots, rng: Random) -> list[str]:
        if _chance(rng, TEACHER_HABITS[family].skill + self.skill_shift):
            return FAMILIES[family].answer(slots, rng)
        if _chance(rng, HABITUAL_SLIP):
            return FAMILIES[family].slip(slots, rng)
        return _corrupted(FAMILIES[family].answer(slots, rng), rng)


TEACHER = Writer("teacher")
OTHERS: tuple[Writer, ...] = (
    Writer("strong", skill_shift=0.3, style_shift=0.15),
    Writer("middling"),
    Writer("weak", skill_shift=-0.3, style_shift=-0.25),
)
"""Writers of other quality: their responses train the offline baseline and widen the reward model's data."""


def demonstrations(prompts: Iterable[Prompt], seed: int = 0) -> list[dict[str, str]]:
    """The teacher's demonstration for each prompt, in the columns `prompt` and `completion`."""
    return [{"prompt": prompt.text, "completion": TEACHER.write(prompt, seed=seed)} for prompt in prompts]


def _corrupted(answer: list[str], rng: Random) -> list[str]:
    """The answer with one word dropped, doubled or replaced; never empty."""
    i = rng.randrange(len(answer))
    edits = [[answer[i], answer[i]], [rng.choice(NOUNS)]] + ([[]] if len(answer) > 1 else [])
    return answer[:i] + rng.choice(edits) + answer[i + 1 :]


def _chance(rng: Random, probability: float) -> bool:
    return rng.random() < min(0.98, max(0.02, probability))
