"""What the prompts ask of an answer's form: kinds of constraints that plain rules can decide.

Each kind has a sentence that states it, with slots in braces; the slots are read back from the sentence, so a prompt's
text alone says what is to be checked. `credit` is 1 where an answer meets the constraint and at most `NEAR` where it
only comes close. Where IFEval (Zhou et al. 2023) has the constraint, what is met here is met there as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from optune.instructions.topics import TOPICS, words

NEAR = 0.6
"""The most that an answer gets which does not meet a constraint."""
HINT = 0.3
"""Credit for a required part that is there, but not where or not as it should be."""

Slots = Mapping[str, str]
Draw = Callable[[Random, str], dict[str, object]]

_SENTENCE_END = re.compile(r"[.!?]+(?=[\"'”’)*]*(?:\s|$))")
_QUOTES = "\"'”’“‘)*"
_COMMON = ("a", "and", "are", "for", "in", "is", "it", "of", "that", "the", "they", "to", "with", "you")
_OTHER_WORDS = (
    *("afternoon", "always", "beautiful", "believe", "between", "careful", "center", "change", "clearly", "difference"),
    *("discover", "easy", "example", "favorite", "finally", "forever", "garden", "gentle", "important", "journey"),
    *("language", "letter", "memory", "moment", "neighbor", "never", "perfect", "question", "quickly", "remember"),
    *("secret", "sometimes", "special", "surprise", "today", "together", "tomorrow", "wonder", "world", "yesterday"),
)
_BEGINNINGS = ("Believe me", "Did you know", "First of all", "Good news", "Here we go", "Honestly", "Imagine this")
_ENDINGS = ("day", "forever", "friend", "fun", "heart", "home", "life", "today", "together", "world")


@dataclass(frozen=True)
class Kind:
    """A kind of constraint.

    group: kinds of one group never meet in a prompt. sentence: as the prompt states it. draw: slots for a topic.
    credit: for slots and an answer (stripped, not empty), from 0 to 1.
    """

    group: str
    sentence: str
    draw: Draw
    credit: Callable[[Slots, str], float]

    @property
    def pattern(self) -> str:
        """A regular expression that finds the sentence in a prompt, one group for each slot."""
        return re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^']+?)", re.escape(self.sentence))


@dataclass(frozen=True)
class Constraint:
    """A kind with its slots filled in."""

    kind: str
    slots: tuple[tuple[str, str], ...] = ()

    @property
    def sentence(self) -> str:
        return KINDS[self.kind].sentence.format(**dict(self.slots))

    def credit(self, answer: str) -> float:
        """How far an answer meets the constraint: 1 if it does, at most `NEAR` if not, 0 without an answer."""
        answer = answer.strip()
        return KINDS[self.kind].credit(dict(self.slots), answer) if answer else 0.0

    def met(self, answer: str) -> bool:
        return self.credit(answer) == 1.0


def drawn(kind: str, rng: Random, topic: str) -> Constraint:
    """A constraint of a kind, its slots drawn for a topic."""
    slots = KINDS[kind].draw(rng, topic)
    return Constraint(kind, tuple((name, str(value)) for name, value in slots.items()))


def constraints_in(text: str) -> list[Constraint]:
    """The constraints that a prompt states, in the order of their sentences."""
    found = []
    for name, kind in KINDS.items():
        for match in re.finditer(kind.pattern, text):
            found.append((match.start(), Constraint(name, tuple(match.groupdict().items()))))
    return [constraint for _, constraint in sorted(found, key=lambda pair: pair[0])]


def sentences(answer: str) -> int:
    """How many sentences an answer has: ends of a sentence, and one more for text after the last."""
    ends = list(_SENTENCE_END.finditer(answer))
    rest = answer[ends[-1].end() :] if ends else answer
    return len(ends) + any(c.isalnum() for c in rest)


def _length(answer: str) -> int:
    """Words of an answer, as IFEval counts them."""
    return len(re.findall(r"\w+", answer))


def _count(word: str, answer: str) -> int:
    """Uses of a word, its plural included, in any case."""
    return len(re.findall(rf"\b{re.escape(word)}(?:s|es)?\b", answer, flags=re.IGNORECASE))


def _faults(number: int, most: int = 4) -> float:
    """1 without faults; falls from `NEAR` to 0 as they reach `most`."""
    return 1.0 if number == 0 else NEAR * max(0.0, 1 - number / most)


def _enough(number: int, wanted: int) -> float:
    return 1.0 if number >= wanted else NEAR * number / wanted


def _exactly(number: int, wanted: int) -> float:
    return 1.0 if number == wanted else NEAR * max(0.0, 1 - abs(number - wanted) / wanted) if number else 0.0


def _met_or_hint(met: bool, hint: bool) -> float:
    return 1.0 if met else HINT * hint


def _upper(_: Slots, answer: str) -> float:
    letters = [c for c in answer if c.isalpha()]
    return 1.0 if answer.isupper() else NEAR * sum(c.isupper() for c in letters) / max(1, len(letters))


def _lower(_: Slots, answer: str) -> float:
    return 1.0 if answer.islower() else _faults(max(1, sum(c.isupper() for c in answer)))


def _capitals(slots: Slots, answer: str) -> float:
    return (
        _enough(len(re.findall(r"\b[A-Z]{3,}\b", answer)), int(slots["shouts"])) if answer.upper() != answer else HINT
    )


def _at_most(slots: Slots, answer: str) -> float:
    most = int(slots["most"])
    return _faults(max(0, _length(answer) - most), most)


def _at_least(slots: Slots, answer: str) -> float:
    return _enough(_length(answer), int(slots["least"]))


def _sentences(slots: Slots, answer: str) -> float:
    return _exactly(sentences(answer), int(slots["count"]))


def _include(slots: Slots, answer: str) -> float:
    return _enough(sum(_count(word, answer) > 0 for word in slots.values()), len(slots))


def _frequency(slots: Slots, answer: str) -> float:
    return _enough(_count(slots["word"], answer), int(slots["times"]))


def _avoid(slots: Slots, answer: str) -> float:
    return _faults(sum(len(re.findall(rf"\b{word}\b", answer, flags=re.IGNORECASE)) for word in slots.values()))


def _begin(slots: Slots, answer: str) -> float:
    phrase, text = slots["start"].lower(), answer.lstrip(_QUOTES).lower()
    return _met_or_hint(bool(re.match(rf"{re.escape(phrase)}\b", text)), phrase in text)


def _end(slots: Slots, answer: str) -> float:
    found = words(answer)
    return _met_or_hint(found[-1:] == [slots["end"]], slots["end"] in found)


def _quoted(_: Slots, answer: str) -> float:
    met = re.search(r'(["“])\w[^"“”\n]*["”]', answer) and not re.fullmatch(r'["“][^"“”]*["”]', answer)
    return _met_or_hint(bool(met), '"' in answer or "“" in answer)


def _title(_: Slots, answer: str) -> float:
    titles = re.findall(r"<<[^\n<>]*\w[^\n<>]*>>", answer)
    outside = re.sub(r"<<[^\n]*?>>", "", answer)
    return _met_or_hint(bool(titles) and any(c.isalpha() for c in outside), "<<" in answer)


def _postscript(_: Slots, answer: str) -> float:
    met = re.search(r"\w\W+p\.\s?s\.\W*\w+\W+\w+", answer, flags=re.IGNORECASE)
    return _met_or_hint(bool(met), bool(re.search(r"\bp\.?\s?s\b", answer, flags=re.IGNORECASE)))


def _highlights(slots: Slots, answer: str) -> float:
    found = re.findall(r"(?<![*\w])(\*{1,2})(?=[^\s*])([^\n*]*[^\s*])\1(?![*\w])", answer)
    return _enough(len(found), int(slots["marks"]))


def _bullets(slots: Slots, answer: str) -> float:
    lines = re.findall(r"^\s*(?:\*[^*]|-).*$", answer, flags=re.MULTILINE)
    return _exactly(len(lines), int(slots["bullets"]))


def _numbered(slots: Slots, answer: str) -> float:
    numbers = [int(n) for n in re.findall(r"^\s*(\d{1,3})[.)]\s+\S", answer, flags=re.MULTILINE)]
    in_order = numbers == list(range(1, len(numbers) + 1))
    return _exactly(len(numbers), int(slots["items"])) if in_order else HINT


def _exclaim(_: Slots, answer: str) -> float:
    ends = _SENTENCE_END.findall(answer)
    loud = sum(end == "!" for end in ends)
    return 1.0 if loud and loud == sentences(answer) else NEAR * loud / max(1, len(ends))


def _question(_: Slots, answer: str) -> float:
    return _met_or_hint(answer.rstrip(_QUOTES).endswith("?"), "?" in answer)


def _none(rng: Random, topic: str) -> dict[str, object]:
    return {}


def _one_of(slot: str, *choices: object) -> Draw:
    return lambda rng, topic: {slot: rng.choice(choices)}


def _two_of(choices: tuple[str, ...]) -> Draw:
    return lambda rng, topic: dict(zip(("first", "second"), rng.sample(choices, 2), strict=True))


def _topic_word(rng: Random, topic: str) -> dict[str, object]:
    return {"word": rng.choice(sorted(TOPICS[topic])), "times": rng.choice((2, 3))}


KINDS: dict[str, Kind] = {
    "upper": Kind("case", "Use capital letters only.", _none, _upper),
    "lower": Kind("case", "Your answer must be in all lowercase letters.", _none, _lower),
    "capitals": Kind("case", "Write {shouts} or more words in CAPITALS.", _one_of("shouts", 1, 2), _capitals),
    "at_most": Kind("length", "Answer in {most} words or fewer.", _one_of("most", 12, 15, 18, 20), _at_most),
    "at_least": Kind("length", "Use at least {least} words.", _one_of("least", 25, 30, 35), _at_least),
    "sentences": Kind(
        "length", "The number of sentences must be exactly {count}.", _one_of("count", 1, 2, 3), _sentences
    ),
    "bullets": Kind(
        "form", "Use exactly {bullets} bullet points, each starting with a dash.", _one_of("bullets", 2, 3), _bullets
    ),
    "numbered": Kind(
        "form", "List exactly {items} things, numbered 1., 2. and so on.", _one_of("items", 2, 3), _numbered
    ),
    "include": Kind("words", "The words '{first}' and '{second}' must appear.", _two_of(_OTHER_WORDS), _include),
    "avoid": Kind("words", "Do not use the words '{first}' and '{second}'.", _two_of(_COMMON), _avoid),
    "frequency": Kind("words", "Use the word '{word}' at least {times} times.", _topic_word, _frequency),
    "no_commas": Kind("words", "Do not use any commas.", _none, lambda _, answer: _faults(answer.count(","))),
    "begin": Kind("edge", "Start with '{start}'.", _one_of("start", *_BEGINNINGS), _begin),
    "end": Kind("edge", "The last word must be '{end}'.", _one_of("end", *_ENDINGS), _end),
    "question": Kind("edge", "Ask a question at the end.", _none, _question),
    "title": Kind("frame", "Add a title between double angle brackets, such as <<title>>.", _none, _title),
    "postscript": Kind("frame", "Add a postscript at the end that starts with P.S.", _none, _postscript),
    "quoted": Kind("frame", "Put at least one word between double quotation marks.", _none, _quoted),
    "highlight": Kind(
        "frame", "Put asterisks around {marks} or more words, like *this*.", _one_of("marks", 1, 2), _highlights
    ),
    "exclaim": Kind("frame", "Be excited! Every sentence must end with an exclamation mark!", _none, _exclaim),
}

MEET: frozenset[frozenset[str]] = frozenset(
    map(
        frozenset,
        (
            ("case", "length"),
            ("case", "words"),
            ("case", "edge"),
            ("case", "form"),
            ("length", "words"),
            ("words", "edge"),
            ("words", "form"),
            ("words", "frame"),
        ),
    )
)
"""Groups of which two kinds may stand in one prompt."""


def go_together(first: Constraint, second: Constraint) -> bool:
    """Whether one answer can meet both: their groups may meet, and neither forbids a word that the other requires."""
    groups = frozenset((KINDS[first.kind].group, KINDS[second.kind].group))
    if groups not in MEET:
        return False
    sides = [{w for _, value in c.slots for w in re.findall(r"\w+", value.lower())} for c in (first, second)]
    return "avoid" not in (first.kind, second.kind) or not sides[0] & sides[1]
