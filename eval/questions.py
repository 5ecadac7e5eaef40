"""Question and answer files of MT-Bench and Arena-Hard (JSONL), and the answering of questions over several turns.

Questions: rows with `question_id`, `turns` (texts, or objects with `content`) and optionally `category` and
`reference` (texts). Answers: rows with `question_id`, `model_id` and `choices`, one of them, which has `turns` again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.judging import jsonl
from eval.outputs import answer_prompts, describe
from optune.config import SamplingSettings
from optune.prompts.conversation import present
from optune.types import Message, Prompt, UserError
from optune.utils.files import read_jsonl, write_text
from optune.utils.hashing import stable_hash


@dataclass(frozen=True, slots=True)
class Question:
    """One conversation's user turns. `row_id` is the id as the file has it; `key` is the same as a text."""

    row_id: int | str
    category: str
    turns: tuple[str, ...]
    reference: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return str(self.row_id)


@dataclass(frozen=True, slots=True)
class Answers:
    """A model's answers: by question key one text per turn."""

    model: str
    turns: dict[str, tuple[str, ...]]


def read_questions(path: str | Path, turns: int) -> list[Question]:
    """The questions of a file, each with `turns` user turns. Raises UserError naming a row that has not."""
    questions: dict[str, Question] = {}
    for number, row in read_jsonl(path):
        where = f"{path}, row {number}"
        identity = _identity(row, where)
        texts = _texts(row.get("turns"), f"{where}: `turns`")
        if len(texts) != turns:
            raise UserError(f"{where}: the question has {len(texts)} turns; this benchmark's have {turns}.")
        reference = _texts(row["reference"], f"{where}: `reference`") if row.get("reference") else ()
        category = str(row["category"]) if present(row.get("category")) else ""
        question = Question(identity, category, texts, reference)
        if question.key in questions:
            raise UserError(f"{where}: the question {question.key!r} stands there a second time.")
        questions[question.key] = question
    if not questions:
        raise UserError(f"{path}: there are no questions in it.")
    return list(questions.values())


def read_answers(path: str | Path, questions: Sequence[Question], *, allow_empty: bool = False) -> Answers:
    """A model's answers to exactly these questions. Raises UserError naming the row or the unanswered question."""
    answered: dict[str, tuple[str, ...]] = {}
    models: dict[str, None] = {}
    for number, row in read_jsonl(path):
        where = f"{path}, row {number}"
        key, choices = str(_identity(row, where)), row.get("choices")
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            raise UserError(f"{where}: needs `choices`, a list with one object; give one answer per question.")
        if key in answered:
            raise UserError(f"{where}: the question {key!r} is answered a second time.")
        answered[key] = _texts(choices[0].get("turns"), f"{where}: the `turns` of its choice", empty=True)
        models[str(row["model_id"]) if present(row.get("model_id")) else Path(path).stem] = None
    if len(models) > 1:
        raise UserError(f"{path}: holds answers of {len(models)} models ({', '.join(models)}); give a file for each.")
    for question in questions:
        given = answered.get(question.key)
        if given is None or len(given) != len(question.turns):
            has = "no answer" if given is None else f"{len(given)} answers for {len(question.turns)} turns"
            raise UserError(f"{path}: question {question.key!r} has {has}; answer the same questions.")
        if not allow_empty and not all(text.strip() for text in given):
            raise UserError(f"{path}: an answer to question {question.key!r} is empty; give --allow-empty to judge it.")
    return Answers(next(iter(models)), {question.key: answered[question.key] for question in questions})


def answer_questions(
    model: str | Path,
    questions: Sequence[Question],
    settings: SamplingSettings,
    *,
    temperature_of: Callable[[Question], float] | None = None,
    seed: int = 0,
    generator: str | None = None,
) -> list[dict[str, Any]]:
    """The checkpoint's answers, one row per question for an answer file. A later turn sees the turns before it.

    temperature_of: gives each question's temperature, instead of `settings.temperature`.
    """
    temperature = {q.key: temperature_of(q) if temperature_of else settings.temperature for q in questions}
    answers: dict[str, list[str]] = {q.key: [] for q in questions}
    for turn in range(max(len(q.turns) for q in questions)):
        for value in sorted(set(temperature.values())):
            asked = [q for q in questions if temperature[q.key] == value and turn < len(q.turns)]
            prompts = [_prompt(q, answers[q.key]) for q in asked]
            own = settings.model_copy(update={"temperature": value})
            rows = answer_prompts(model, prompts, own, seed=seed) if prompts else []
            if len(rows) < len(prompts):
                raise UserError(f"{len(prompts) - len(rows)} questions have no answer to turn {turn + 1}; see above.")
            for question, row in zip(asked, rows, strict=True):
                answers[question.key].append(row["output"])
    name = generator or Path(model).name
    return [_row(q, name, answers[q.key], settings, temperature[q.key], seed) for q in questions]


def write_answers(path: str | Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write answers as `read_answers` reads them."""
    return write_text(path, jsonl(rows))


def _prompt(question: Question, before: Sequence[str]) -> Prompt:
    """The conversation with its next user turn; `before` are the answers to the earlier turns."""
    chat: list[Message] = []
    for text, answer in zip(question.turns, before, strict=False):
        chat += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    text = question.turns[len(before)]
    messages = (*chat, {"role": "user", "content": text}) if chat else ()
    return Prompt(f"{question.key}/{len(before) + 1}", text, messages, category=question.category)


def _row(
    question: Question, name: str, turns: list[str], settings: SamplingSettings, temperature: float, seed: int
) -> dict[str, Any]:
    return {
        "question_id": question.row_id,
        "answer_id": stable_hash(name, question.key, turns)[:22],
        "model_id": name,
        "choices": [{"index": 0, "turns": turns}],
        "decoding": describe(settings.model_copy(update={"temperature": temperature}), seed),
    }


def _identity(row: Any, where: str) -> int | str:
    identity = row.get("question_id") if isinstance(row, dict) else None
    if isinstance(identity, bool) or not isinstance(identity, int | str) or identity == "":
        raise UserError(f"{where}: needs an object with `question_id`, a text or a whole number.")
    return identity


def _texts(value: Any, what: str, *, empty: bool = False) -> tuple[str, ...]:
    """The texts of turns that are texts or objects with `content`."""
    turns = value if isinstance(value, list) else []
    texts = [turn.get("content") if isinstance(turn, dict) else turn for turn in turns]
    if not texts or not all(isinstance(text, str) and (empty or text.strip()) for text in texts):
        raise UserError(f"{what} must be a list of texts, or of objects with a text `content`.")
    return tuple(texts)
