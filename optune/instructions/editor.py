"""A writer that edits: it takes any answer and makes it meet the constraints by rule, as well as rules can.

It stands for other writers' answers, which the start policy would hardly give: the offline baseline learns from them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from optune.instructions.constraints import Constraint, Slots, sentences
from optune.instructions.prompts import Instruction

MORE = (
    "Many people know it well.",
    "There is always more to learn about it.",
    "It is a part of our days.",
    "Children and adults talk about it often.",
    "I hope that you will see it soon.",
)
"""Sentences that an answer may go on with."""
_FIRST = ("include", "frequency", "at_least", "at_most", "sentences")  # they add or cut whole sentences
_LAST = ("avoid", "no_commas", "exclaim", "upper", "lower")  # they reach all that was added
_SPLIT = re.compile(r"(?<=[.!?])\s+|\n+")

Edit = Callable[[Slots, str, str], str]  # (slots, answer, topic) -> answer


def edited(instruction: Instruction, answer: str) -> str:
    """The answer, changed so that it meets the instruction's constraints where rules can do that."""
    text = _finished(answer)
    for constraint in sorted(instruction.constraints, key=lambda c: (c.kind in _LAST) - (c.kind in _FIRST)):
        text = meet(constraint, text, instruction.topic)
    return text


def meet(constraint: Constraint, answer: str, topic: str) -> str:
    """The answer, changed to meet one constraint; as it is where it does already."""
    return answer if constraint.met(answer) else EDITS[constraint.kind](dict(constraint.slots), answer, topic)


def _finished(answer: str) -> str:
    """Whole sentences only; where there are none, all of it and a full stop."""
    whole = re.match(r"(?s).*[.!?](?=[\"'”’)*]*(?:\s|$))", answer.strip())
    return whole[0] if whole else f"{answer.strip().rstrip(',;:-')}."


def _parts(answer: str, count: int) -> list[str]:
    """`count` sentences: the answer's first ones, and others where it has fewer."""
    own = [part for part in _SPLIT.split(answer) if sentences(part)]
    return [*own, *MORE][:count]


def _at_most(slots: Slots, answer: str, _: str) -> str:
    words = answer.split()
    while len(re.findall(r"\w+", " ".join(words))) > int(slots["most"]):
        words.pop()
    return _finished(" ".join(words).rstrip(".,;:!?"))


def _at_least(slots: Slots, answer: str, _: str) -> str:
    for more in MORE:
        if len(re.findall(r"\w+", answer)) < int(slots["least"]):
            answer = f"{answer} {more}"
    return answer


def _bullets(slots: Slots, answer: str, _: str) -> str:
    plain = [re.sub(r"^[\s*-]+", "", part) for part in _SPLIT.split(answer)]
    return "\n".join(f"- {part}" for part in _parts(" ".join(plain), int(slots["bullets"])))


def _numbered(slots: Slots, answer: str, _: str) -> str:
    plain = re.sub(r"(?m)^\s*\d{1,3}[.)]\s+", "", answer)
    return "\n".join(f"{i}. {part}" for i, part in enumerate(_parts(plain, int(slots["items"])), start=1))


def _avoid(slots: Slots, answer: str, _: str) -> str:
    without = re.sub(rf"\b(?:{'|'.join(slots.values())})\b\s*", "", answer, flags=re.IGNORECASE)
    return without[:1].upper() + without[1:]


def _frequency(slots: Slots, answer: str, _: str) -> str:
    word = slots["word"]
    return f"{answer} {' and '.join([word.capitalize(), *[word] * (int(slots['times']) - 1)])} belong to it."


def _marked(answer: str, count: int, mark: Callable[[str], str]) -> str:
    """The answer with its `count` longest words marked."""
    longest = sorted(set(re.findall(r"\b[a-z]{3,}\b", answer)), key=lambda word: (-len(word), word))[:count]
    for word in longest:
        answer = re.sub(rf"\b{word}\b", lambda match: mark(match[0]), answer, count=1)
    return answer


EDITS: dict[str, Edit] = {
    "upper": lambda _, answer, __: answer.upper(),
    "lower": lambda _, answer, __: answer.lower(),
    "capitals": lambda slots, answer, _: _marked(answer, int(slots["shouts"]), str.upper),
    "at_most": _at_most,
    "at_least": _at_least,
    "sentences": lambda slots, answer, _: " ".join(_parts(answer, int(slots["count"]))),
    "bullets": _bullets,
    "numbered": _numbered,
    "include": lambda slots, answer, _: f"{answer} It makes me think of {slots['first']} and {slots['second']}.",
    "avoid": _avoid,
    "frequency": _frequency,
    "no_commas": lambda _, answer, __: answer.replace(",", ""),
    "begin": lambda slots, answer, _: f"{slots['start']}, {answer[:1].lower()}{answer[1:]}",
    "end": lambda slots, answer, _: f"{answer} It means a lot to me, {slots['end']}.",
    "question": lambda _, answer, topic: f"{answer} What do you think of {topic}?",
    "title": lambda _, answer, topic: f"<<{topic.title()}>>\n{answer}",
    "postscript": lambda _, answer, __: f"{answer}\nP.S. Write to me soon.",
    "quoted": lambda _, answer, __: _marked(answer.replace('"', ""), 1, lambda word: f'"{word}"'),
    "highlight": lambda slots, answer, _: _marked(answer.replace("*", ""), int(slots["marks"]), lambda w: f"*{w}*"),
    "exclaim": lambda _, answer, __: re.sub(r"[.?]+(?=[\"'”’)*]*(?:\s|$))", "!", _finished(answer)),
}
