"""The task families: how each asks, what answers it rightly, how answers are graded and which mistake is habitual.

The first word of a prompt names its family, and the rest of its text holds everything needed to grade a response, so
no metadata travels with a prompt. An *answer* is the list of content words, without courtesies, fillers, connectives
and punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

from optune.sandbox.words import (
    ADJECTIVES,
    CATEGORIES,
    CATEGORY_OF,
    NAMES,
    NOUNS,
    NUMBERS,
    OPPOSITE_OF,
    ORDINALS,
    TRANSLATION_OF,
    VALUE_OF,
)
from optune.types import UserError

Slots = tuple[list[str], ...]
"""The variable parts of a prompt in order of appearance, each as its list of words."""

_SLOT_WORDS = {
    "NUMBER": NUMBERS,
    "DIGIT": NUMBERS[1:10],
    "CATEGORY": tuple(CATEGORIES),
    "NOUN": NOUNS,
    "ADJECTIVE": ADJECTIVES,
    "FOREIGN": tuple(TRANSLATION_OF),
    "NAME": NAMES,
    "ORDINAL": ORDINALS,
}


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of task.

    shape: the prompt with its slots in capitals; `NOUNS` is one or more of `NOUN`.
    fill(rng): words for the slots, one string per slot.
    answer(slots, rng): a right answer; where several are right, a random one.
    slip(slots, rng): the family's habitual mistake.
    grade(slots, answer): correctness from 0 to 1, with partial credit.
    """

    shape: str
    fill: Callable[[Random], tuple[str, ...]]
    answer: Callable[[Slots, Random], list[str]]
    slip: Callable[[Slots, Random], list[str]]
    grade: Callable[[Slots, list[str]], float]

    @property
    def name(self) -> str:
        """The first word of each of its prompts."""
        return self.shape.split()[0]

    def ask(self, rng: Random) -> str:
        """A random prompt text."""
        fillers = iter(self.fill(rng))
        return " ".join(next(fillers) if word.isupper() else word for word in self.shape.split())

    def slots(self, prompt_text: str) -> Slots:
        """The words in the slots of a prompt; UserError where the text is not a prompt of this family."""
        match = _pattern(self.shape).fullmatch(prompt_text)
        if match is None:
            raise UserError(f"Not a sandbox prompt: {prompt_text!r}; family {self.name!r} asks {self.shape!r}.")
        return tuple(group.split() for group in match.groups())


def family_of(prompt_text: str) -> Family:
    """The family of a prompt, by its first word; UserError where there is none."""
    first_word = prompt_text.split(" ", 1)[0]
    if first_word not in FAMILIES:
        raise UserError(f"Not a sandbox prompt: {prompt_text!r}; the first word must be one of {', '.join(FAMILIES)}.")
    return FAMILIES[first_word]


@cache
def _pattern(shape: str) -> re.Pattern[str]:
    words = (_slot_pattern(word) if word.isupper() else re.escape(word) for word in shape.split())
    return re.compile(" ".join(words))


def _slot_pattern(slot: str) -> str:
    word = "(?:" + "|".join(map(re.escape, _SLOT_WORDS[slot.removesuffix("S")])) + ")"
    return f"({word}(?: {word})*)" if slot.endswith("S") else f"({word})"


# Grading


def _similarity(target: list[str], answer: list[str]) -> float:
    """1 minus the edit distance over the longer length."""
    row = list(range(len(answer) + 1))
    for i, wanted in enumerate(target, start=1):
        diagonal, row[0] = row[0], i
        for j, given in enumerate(answer, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (wanted != given))
    return 1 - row[-1] / max(len(target), len(answer))


def _share_valid(valid: set[str], wanted: int, answer: list[str]) -> float:
    """The share of different valid words, counting both missing and superfluous words against it."""
    return min(wanted, len(valid.intersection(answer))) / max(wanted, len(answer))


def _closeness(target: int, answer: list[str]) -> float:
    """1 for the number, 0.4 for a neighbour; superfluous words dilute it."""
    distance = abs(VALUE_OF.get(answer[0], 99) - target)
    return {0: 1.0, 1: 0.4}.get(distance, 0.0) / len(answer)


# Random parts


def _sample(rng: Random, words: tuple[str, ...], low: int, high: int) -> list[str]:
    return rng.sample(words, rng.randint(low, high))


def _number(rng: Random, low: int, high: int) -> str:
    return NUMBERS[rng.randint(low, high)]


def _join(words: list[str]) -> str:
    return " ".join(words)


def _exact(
    shape: str,
    fill: Callable[[Random], tuple[str, ...]],
    target: Callable[[Slots], list[str]],
    slip: Callable[[Slots, Random], list[str]],
) -> Family:
    """A family with one right answer, graded by similarity to it."""
    return Family(shape, fill, lambda s, _: target(s), slip, lambda s, answer: _similarity(target(s), answer))


def _numeric(
    shape: str, fill: Callable[[Random], tuple[str, ...]], target: Callable[[Slots], int], slips: tuple[int, ...]
) -> Family:
    """A family whose answer is one number; the habitual mistake is off by one of `slips`."""

    def slip(s: Slots, rng: Random) -> list[str]:
        return [NUMBERS[max(0, min(len(NUMBERS) - 1, target(s) + rng.choice(slips)))]]

    return Family(shape, fill, lambda s, _: [NUMBERS[target(s)]], slip, lambda s, answer: _closeness(target(s), answer))


# Families that need more than a line


def _fill_odd(rng: Random) -> tuple[str, ...]:
    common, other = rng.sample(tuple(CATEGORIES), 2)
    words = [*rng.sample(CATEGORIES[common], 3), rng.choice(CATEGORIES[other])]
    return (_join(rng.sample(words, 4)),)


def _odd(s: Slots) -> list[str]:
    categories = [CATEGORY_OF[word] for word in s[0]]
    return [word for word, category in zip(s[0], categories, strict=True) if categories.count(category) == 1][:1]


def _fill_count(rng: Random) -> tuple[str, ...]:
    category = rng.choice(tuple(CATEGORIES))
    members = _sample(rng, CATEGORIES[category], 1, 4)
    others = _sample(rng, tuple(word for word in NOUNS if CATEGORY_OF[word] != category), 1, 2)
    words = members + others
    return category, _join(rng.sample(words, len(words)))


def _fill_replace(rng: Random) -> tuple[str, ...]:
    words = _sample(rng, NOUNS, 3, 4)
    new = rng.choice([word for word in NOUNS if word not in words])
    return rng.choice(words), new, _join(words)


def _fill_pick(rng: Random) -> tuple[str, ...]:
    return rng.choice(ORDINALS), _join(_sample(rng, NOUNS, 3, 4))


def _picked(s: Slots) -> list[str]:
    position = -1 if s[0] == ["last"] else ORDINALS.index(s[0][0])
    return s[1][position:][:1]


def _fill_step(rng: Random) -> tuple[str, ...]:
    start, length = rng.randint(0, 20), rng.randint(2, 5)
    ends = [NUMBERS[start], NUMBERS[start + length]]
    return (*rng.sample(ends, 2), *rng.sample(NAMES, 2))


def _steps(s: Slots) -> list[str]:
    start, end = VALUE_OF[s[0][0]], VALUE_OF[s[1][0]]
    return [NUMBERS[n] for n in (range(start, end + 1) if start <= end else range(start, end - 1, -1))]


def _fill_name(rng: Random) -> tuple[str, ...]:
    category = rng.choice(tuple(CATEGORIES))
    return (_number(rng, 2, 4), category, *rng.sample(CATEGORIES[category], 2), rng.choice(NAMES))


def _fill_choose(rng: Random) -> tuple[str, ...]:
    first, second = rng.sample(tuple(CATEGORIES), 2)
    return _number(rng, 1, 3), first, _number(rng, 1, 3), second, rng.choice(NAMES)


def _choose(s: Slots, rng: Random) -> list[str]:
    return [word for k, c in ((s[0], s[1]), (s[2], s[3])) for word in _members(c, rng)[: VALUE_OF[k[0]]]]


def _grade_choose(s: Slots, answer: list[str]) -> float:
    found = sum(
        min(VALUE_OF[k[0]], len(set(answer).intersection(CATEGORIES[c[0]]))) for k, c in ((s[0], s[1]), (s[2], s[3]))
    )
    return found / max(VALUE_OF[s[0][0]] + VALUE_OF[s[2][0]], len(answer))


def _describe(s: Slots, rng: Random) -> list[str]:
    first = rng.choice(ADJECTIVES)
    return [s[0][0], first, rng.choice([a for a in ADJECTIVES if a not in (first, OPPOSITE_OF[first])])]


def _grade_describe(s: Slots, answer: list[str]) -> float:
    """A third each for the noun first and for two adjectives that do not contradict each other."""
    adjectives = [word for word in dict.fromkeys(answer) if word in OPPOSITE_OF]
    consistent = [word for i, word in enumerate(adjectives) if OPPOSITE_OF[word] not in adjectives[:i]]
    return ((answer[0] == s[0][0]) + min(2, len(consistent))) / max(3, len(answer))


def _contradict(s: Slots, rng: Random) -> list[str]:
    adjective = rng.choice(ADJECTIVES)
    return [s[0][0], adjective, OPPOSITE_OF[adjective]]


def _members(category: list[str], rng: Random, without: tuple[str, ...] = ()) -> list[str]:
    words = [word for word in CATEGORIES[category[0]] if word not in without]
    return rng.sample(words, len(words))


def _swapped(words: list[str], rng: Random) -> list[str]:
    i = rng.randrange(len(words) - 1) if len(words) > 1 else 0
    return words[:i] + words[i : i + 2][::-1] + words[i + 2 :]


def _sorted_numbers(s: Slots) -> list[str]:
    return sorted(s[0], key=VALUE_OF.__getitem__)


_ALL: tuple[Family, ...] = (
    _exact(
        "repeat these words : NOUNS",
        lambda rng: (_join(_sample(rng, NOUNS, 3, 4)),),
        lambda s: s[0],
        lambda s, rng: s[0][:-1],
    ),
    _exact(
        "reverse these words : NOUNS",
        lambda rng: (_join(_sample(rng, NOUNS, 2, 3)),),
        lambda s: s[0][::-1],
        lambda s, rng: s[0],
    ),
    _exact(
        "sort these numbers : NUMBERS",
        lambda rng: (_join(_sample(rng, NUMBERS[:21], 3, 4)),),
        _sorted_numbers,
        lambda s, rng: _sorted_numbers(s)[::-1],
    ),
    _numeric(
        "count the CATEGORY : NOUNS", _fill_count, lambda s: sum(CATEGORY_OF[w] == s[0][0] for w in s[1]), (-1, 1)
    ),
    Family(
        "list NUMBER CATEGORY for NAME and NAME",
        lambda rng: (_number(rng, 2, 5), rng.choice(tuple(CATEGORIES)), *rng.sample(NAMES, 2)),
        lambda s, rng: _members(s[1], rng)[: VALUE_OF[s[0][0]]],
        lambda s, rng: _members(s[1], rng)[: max(1, VALUE_OF[s[0][0]] - 1)],
        lambda s, answer: _share_valid(set(CATEGORIES[s[1][0]]), VALUE_OF[s[0][0]], answer),
    ),
    Family(
        "name NUMBER CATEGORY but not NOUN or NOUN for NAME",
        _fill_name,
        lambda s, rng: _members(s[1], rng, without=(s[2][0], s[3][0]))[: VALUE_OF[s[0][0]]],
        lambda s, rng: [s[2][0], *_members(s[1], rng, without=(s[2][0], s[3][0]))][: VALUE_OF[s[0][0]]],
        lambda s, answer: _share_valid({*CATEGORIES[s[1][0]]} - {s[2][0], s[3][0]}, VALUE_OF[s[0][0]], answer),
    ),
    _exact(
        "opposite of ADJECTIVES",
        lambda rng: (_join(_sample(rng, ADJECTIVES, 2, 3)),),
        lambda s: [OPPOSITE_OF[word] for word in s[0]],
        lambda s, rng: s[0],
    ),
    _exact(
        "translate these words : FOREIGNS",
        lambda rng: (_join(_sample(rng, tuple(TRANSLATION_OF), 2, 4)),),
        lambda s: [TRANSLATION_OF[word] for word in s[0]],
        lambda s, rng: [s[0][0], *(TRANSLATION_OF[word] for word in s[0][1:])],
    ),
    _numeric(
        "add DIGIT and DIGIT and DIGIT for NAME",
        lambda rng: (_number(rng, 1, 9), _number(rng, 1, 9), _number(rng, 1, 9), rng.choice(NAMES)),
        lambda s: sum(VALUE_OF[part[0]] for part in s[:3]),
        (-2, -1, 1, 2),
    ),
    Family(
        "describe the NOUN of NAME and NAME",
        lambda rng: (rng.choice(NOUNS), *rng.sample(NAMES, 2)),
        _describe,
        _contradict,
        _grade_describe,
    ),
    _exact("find the odd word : NOUNS", _fill_odd, _odd, lambda s, rng: [rng.choice(s[0])]),
    _exact(
        "say NOUN NUMBER times for NAME",
        lambda rng: (rng.choice(NOUNS), _number(rng, 2, 6), rng.choice(NAMES)),
        lambda s: s[0] * VALUE_OF[s[1][0]],
        lambda s, rng: s[0] * max(1, VALUE_OF[s[1][0]] - 1),
    ),
    Family(
        "choose NUMBER CATEGORY and NUMBER CATEGORY for NAME",
        _fill_choose,
        _choose,
        lambda s, rng: _choose(s, rng)[: VALUE_OF[s[0][0]]],
        _grade_choose,
    ),
    _exact("step from NUMBER to NUMBER for NAME and NAME", _fill_step, _steps, lambda s, rng: _steps(s)[:-1]),
    _exact(
        "replace NOUN by NOUN : NOUNS",
        _fill_replace,
        lambda s: [s[1][0] if word == s[0][0] else word for word in s[2]],
        lambda s, rng: s[2],
    ),
    _exact("pick the ORDINAL word : NOUNS", _fill_pick, _picked, lambda s, rng: s[1][:1]),
)
FAMILIES: dict[str, Family] = {family.name: family for family in _ALL}
"""By name; the order is that of the reports."""
