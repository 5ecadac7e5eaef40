"""Writers of mixed quality: the teacher whose demonstrations train the SFT policy, and others, better and worse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from optune.sandbox.families import FAMILIES, Slots, family_of
from optune.sandbox.prompts import stable_rng
from optune.sandbox.words import COURTESIES, FILLERS, NOUNS
from optune.types import Prompt

SKILL: dict[str, float] = {
    "repeat": 0.95,
    "reverse": 0.45,
    "sort": 0.60,
    "count": 0.60,
    "list": 0.50,
    "name": 0.50,
    "opposite": 0.45,
    "translate": 0.85,
    "add": 0.70,
    "describe": 0.40,
    "find": 0.60,
    "say": 0.45,
    "choose": 0.60,
    "step": 0.85,
    "replace": 0.40,
    "pick": 0.35,
}
"""The teacher's probability of a right answer by family."""

COURTESY: dict[str, float] = {
    "repeat": 0.9,
    "reverse": 0.3,
    "sort": 0.2,
    "count": 0.3,
    "list": 0.4,
    "name": 0.4,
    "opposite": 0.5,
    "translate": 0.8,
    "add": 0.1,
    "describe": 0.5,
    "find": 0.4,
    "say": 0.3,
    "choose": 0.6,
    "step": 0.8,
    "replace": 0.4,
    "pick": 0.2,
}
"""The teacher's probability of a courteous first word by family."""

FULL_STOP, NO_FILLERS, HABITUAL_SLIP = 0.7, 0.75, 0.7


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
        if _chance(rng, COURTESY[family] + self.style_shift):
            words = [rng.choice(COURTESIES), ",", *words]
        if _chance(rng, FULL_STOP + self.style_shift):
            words.append(".")
        return " ".join(words)

    def _answer(self, family: str, slots: Slots, rng: Random) -> list[str]:
        if _chance(rng, SKILL[family] + self.skill_shift):
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
