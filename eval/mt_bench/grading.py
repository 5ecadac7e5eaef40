"""MT-Bench's calls to the judge, the parser of its grades, and the score computed from them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.judges import Judge
from eval.judges.form import fill, hash_of
from eval.judges.parser import is_of_criterion
from eval.questions import Question
from eval.stats import bootstrap_ratio
from optune.chat.client import ChatRequest
from optune.chat.reasoning import final_answer

TURNS = ("1", "2")
LOWEST, HIGHEST = 1.0, 10.0
# In these categories judges err often, so the judge is shown a reference answer if there is one.
WITH_REFERENCE = ("math", "reasoning", "coding")
_GRADE = r"\[\[\s*(\d{1,2}(?:\.\d+)?)\s*(?:/\s*10\s*)?\]\]"
_LAST_LINE = re.compile(_GRADE)
_ANYWHERE = re.compile(rf"\b(?:grade|rating|score)(?:\s+is)?\W{{0,5}}{_GRADE}", flags=re.IGNORECASE)

Grades = Mapping[tuple[str, str], float | None]  # by question key and turn; None where the reply could not be read


def guided(question: Question) -> bool:
    """Whether the judge sees a reference answer."""
    return question.category in WITH_REFERENCE and len(question.reference) == len(TURNS)


def request(question: Question, answers: Sequence[str], turn: str, judge: Judge) -> ChatRequest:
    """The call that grades the answer of one turn. For the second turn the judge sees the first one, too."""
    path = Path(__file__).with_name(f"turn_{turn}{'_reference' if guided(question) else ''}.txt")
    texts = {f"question_{i}": text for i, text in enumerate(question.turns, start=1)}
    texts |= {f"answer_{i}": text for i, text in enumerate(answers, start=1)}
    texts |= {f"reference_{i}": text for i, text in enumerate(question.reference, start=1)}
    return ChatRequest(
        messages=fill(path, **texts),
        parameters=judge.parameters,
        template_hash=hash_of(path),
        order=turn,
        label=f"question {question.key!r}, turn {turn}",
    )


def parse_grade(reply: str | None) -> float | None:
    """The grade on the reply's last line, else the only one labelled as a grade. None if absent or off the scale.

    Double brackets elsewhere may belong to the answer, as an array of a coding question does. What a reasoning model
    drafts is not read, and a grade for one criterion is none.
    """
    answer = final_answer(reply) or ""
    lines = [line for line in answer.splitlines() if line.strip()]
    if lines and is_of_criterion(lines[-1]):
        return None
    for pattern, text in ((_LAST_LINE, lines[-1] if lines else ""), (_ANYWHERE, answer)):
        said = {float(number) for number in pattern.findall(text)}
        if len(said) == 1:
            grade = said.pop()
            return grade if LOWEST <= grade <= HIGHEST else None
    return None


def summarize(questions: Sequence[Question], grades: Grades, *, seed: int = 0) -> dict[str, Any]:
    """The mean grade over both turns of all questions, of each turn and of each category, with 95% intervals.

    The bootstrap resamples questions, because both grades of a question are one unit. Unreadable grades are counted in
    `unparsed` and enter no mean.
    """
    by_category: dict[str, list[Question]] = {}
    for question in questions:
        by_category.setdefault(question.category, []).append(question)
    return {
        **_mean(questions, TURNS, grades, seed),
        "turns": {turn: _mean(questions, (turn,), grades, seed) for turn in TURNS},
        "categories": {name: _mean(members, TURNS, grades, seed) for name, members in by_category.items()},
        "questions": len(questions),
        "unparsed": sum(grade is None for grade in grades.values()),
        "without_reference": sum(q.category in WITH_REFERENCE and not guided(q) for q in questions),
        "seed": seed,
    }


def _mean(questions: Sequence[Question], turns: Sequence[str], grades: Grades, seed: int) -> dict[str, Any]:
    """Mean of the grades that could be read, its bootstrap interval over questions, and their number."""
    read = []
    for question in questions:
        given = [grades[question.key, turn] for turn in turns]
        own = [grade for grade in given if grade is not None]
        if own:
            read.append(own)
    n = sum(map(len, read))
    if not n:
        return {"score": None, "interval": None, "grades": 0}
    score = sum(map(sum, read)) / n
    if len(read) < 2:
        return {"score": score, "interval": None, "grades": n}
    limits = bootstrap_ratio([sum(own) for own in read], [len(own) for own in read], seed=seed)
    return {"score": score, "interval": {"low": limits.low, "high": limits.high, "level": limits.level}, "grades": n}
