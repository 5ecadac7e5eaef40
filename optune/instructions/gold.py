"""Gold quality: the rubric nobody trains on. Constraints met, and a text that is about the topic and reads as language.

A rubric of constraints alone is gamed within one iteration ("I can't use any commas in this sentence."), so a met
constraint counts in full only in a good text, and a good text in full only if it meets what was asked.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from statistics import fmean

from optune.instructions.constraints import Constraint
from optune.instructions.prompts import Instruction, read
from optune.instructions.topics import mentions, words

LOWEST, HIGHEST = 1.0, 10.0
MET, TEXT, BOTH = 0.15, 0.35, 0.5
"""Shares of gold: for constraints met in any text, for a good text whatever it meets, and for the two together."""

FLUENT, NOT_FLUENT = 4.5, 6.0
"""Nats per token under the frozen start policy: down to which a text is fluent, and from which it is not at all."""
REPEATS, NOTHING_BUT_REPEATS = 0.1, 0.5
"""Share of word pairs that occurred before: up to which a text has a right to them, and from which it is worthless."""
DISTINCT_WORDS = 7
"""Words a text needs to say anything."""
OFF_TOPIC, NAMED_ONLY, CUT_OFF = 0.1, 0.6, 0.8
"""What is left of a text that never touches its topic, that uses one word of it, that stops in mid-sentence."""

_LISTS = ("bullets", "numbered")
_COPIED_WORDS = 4
_ENDED = re.compile(r"[.!?…][\"'”’)*>\]]*$")
_ABOUT_ITSELF = re.compile(
    r"\b(?:ai|smollm|hugging face|language model|chatbot|assistant|"
    r"i(?:['’]m| am) (?:sorry|happy to|here to|unable)|i (?:can['’]?t|cannot|can not|apologi[sz]e)|"
    r"(?:here|below) (?:is|are) (?:a|an|the|your|my|some)|here['’]s (?:a|an|the|your|my)|"
    r"sentences?|commas?|bullet points?|capital letters?|capitals|(?:upper|lower)[ -]?case|"
    r"(?:exclamation|quotation|question) marks?|postscript|asterisks?|(?:angle )?brackets?|"
    r"(?:this|my|your|the) (?:answer|response|prompt|instructions?|request|message|text|title|question)|"
    r"(?:the|these|used?|following) words?|words? (?:or|limit|count)|(?:more|provide) information)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Quality:
    """The parts of gold, each from 0 to 1: constraints met, on the topic, fluent, not repeating, about no instruction,
    long enough, and ended."""

    met: float
    topic: float
    fluent: float
    varied: float
    own_words: float
    substance: float
    ended: float

    @property
    def text(self) -> float:
        """Quality of the text whatever the constraints."""
        return self.topic * self.fluent * self.varied * self.own_words * self.substance * self.ended

    @property
    def gold(self) -> float:
        """From `LOWEST` to `HIGHEST`."""
        share = MET * self.met + TEXT * self.text + BOTH * self.met * self.text
        return LOWEST + (HIGHEST - LOWEST) * share


def gold(prompt_text: str, answer: str, nats: float) -> float:
    """Quality of an answer to a prompt of this world, from 1 (worst, also an empty answer) to 10.

    nats: the answer's per token under the frozen start policy (`Fluency.nats`). UserError where the prompt is none of
    this world's; any answer is graded.
    """
    return quality(prompt_text, answer, nats).gold


def quality(prompt_text: str, answer: str, nats: float) -> Quality:
    """The parts of `gold`."""
    instruction, found = read(prompt_text), words(answer)
    if not found:
        return Quality(0, 0, 0, 0, 0, 0, 0)
    return Quality(
        met=satisfied(instruction.constraints, answer),
        topic=_on_topic(instruction.topic, answer),
        fluent=_falling(nats, FLUENT, NOT_FLUENT),
        varied=_falling(_repeated(found), REPEATS, NOTHING_BUT_REPEATS),
        own_words=_own_words(instruction, answer),
        substance=min(1.0, len(set(found)) / DISTINCT_WORDS),
        ended=_ended(instruction, answer),
    )


def satisfied(constraints: tuple[Constraint, ...], answer: str) -> float:
    """Mean credit of the constraints."""
    return fmean(constraint.credit(answer) for constraint in constraints)


def _on_topic(topic: str, answer: str) -> float:
    related, named = mentions(topic, answer)
    return (OFF_TOPIC, NAMED_ONLY, 1.0)[min(2, related + named)]


def _repeated(found: list[str]) -> float:
    """Share of an answer's word pairs that occurred before in it."""
    pairs = list(itertools.pairwise(found))
    return 1 - len(set(pairs)) / len(pairs) if pairs else 0.0


def _own_words(instruction: Instruction, answer: str) -> float:
    """Share of the words that stand in sentences which neither talk about the answer itself nor copy the prompt."""
    asked = _runs(words(instruction.text))
    parts = [part for part in re.split(r"(?<=[.!?])\s+|\n+", answer) if words(part)]
    own = [p for p in parts if not _ABOUT_ITSELF.search(p) and not asked & _runs(words(p))]
    return sum(len(words(p)) for p in own) / sum(len(words(p)) for p in parts)


def _runs(found: list[str]) -> set[tuple[str, ...]]:
    return {tuple(found[i : i + _COPIED_WORDS]) for i in range(len(found) - _COPIED_WORDS + 1)}


def _ended(instruction: Instruction, answer: str) -> float:
    is_list = any(c.kind in _LISTS for c in instruction.constraints)
    return 1.0 if is_list or _ENDED.search(answer.strip()) else CUT_OFF


def _falling(value: float, good: float, bad: float) -> float:
    """1 up to `good`, 0 from `bad` on."""
    return min(1.0, max(0.0, (bad - value) / (bad - good)))
