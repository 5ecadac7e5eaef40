"""MT-Bench: answers two-turn questions with a checkpoint; a judge grades the answers.

    python -m eval.mt_bench answer --checkpoint MODEL --questions question.jsonl --out answers.jsonl
    python -m eval.mt_bench judge --questions question.jsonl --answers answers.jsonl --judge MODEL --run-dir DIR

Question files are in the public form (`question_id`, `category`, `turns`, `reference`); `--references FILE`, an answer
file, adds reference answers. `judge` keeps in the run directory `judge.json` (what was graded and how), `replies.jsonl`
(the log; nothing in it is asked again), `grades.jsonl` (a row per question and turn) and `mt_bench.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from eval.judges import Judge
from eval.judging import (
    add_judge_options,
    ask_judge,
    asking,
    claim,
    jsonl,
    judge_named,
    said,
    tell_failures,
    whole_text,
)
from eval.mt_bench.grading import TURNS, parse_grade, request, summarize
from eval.outputs import add_sampling_options, replies_beside, sampling_of
from eval.questions import Answers, Question, answer_questions, read_answers, read_questions, write_answers
from optune.chat.client import Estimate
from optune.store import run_lock
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.files import read_jsonl, write_json, write_text
from optune.utils.hashing import stable_hash

# Temperatures of the benchmark's published answers: ideas are sampled, facts are not. Others: as `writing`.
TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}


def mt_bench(
    questions: Sequence[Question],
    answers: Answers,
    judge: Judge,
    run_dir: str | Path,
    *,
    retry_unparsed: bool = False,
    batch: bool = False,
    announce: Callable[[Estimate], None] = lambda estimate: None,
    seed: int = 0,
) -> dict[str, Any]:
    """Grade both turns of every answer, and score them. Logged replies are not asked for again.

    Returns `grading.summarize`'s numbers, the models' names and `usage`. Raises UserError if the run directory belongs
    to other answers, and the client's errors.
    """
    run_dir = Path(run_dir)
    requests = {}
    for question, turn in product(questions, TURNS):
        requests[question.key, turn] = request(question, answers.turns[question.key], turn, judge)
    identity = {
        "benchmark": "MT-Bench",
        "model": judge.chat.model,
        "parameters": dict(judge.parameters),
        "test_model": answers.model,
        "calls": stable_hash(sorted(call.key(judge.chat.model) for call in requests.values())),
    }
    with run_lock(run_dir):
        claim(run_dir, identity, judge)
        replies, usage = ask_judge(
            judge,
            requests,
            run_dir,
            readable=lambda reply: parse_grade(whole_text(reply)) is not None,
            retry_unparsed=retry_unparsed,
            batch=batch,
            announce=announce,
        )
        grades = {place: parse_grade(whole_text(reply)) for place, reply in replies.items()}
        rows = [
            {"question_id": q.row_id, "category": q.category, "turn": int(turn), "grade": grades[q.key, turn]}
            | said(replies[q.key, turn])
            for q, turn in product(questions, TURNS)
        ]
        write_text(run_dir / "grades.jsonl", jsonl(rows))
        scores = summarize(questions, grades, seed=seed)
        result = {**scores, "model": judge.chat.model, "test_model": answers.model, "usage": usage}
        write_json(run_dir / "mt_bench.json", result)
        return result


def with_references(questions: Sequence[Question], path: str | Path) -> list[Question]:
    """The questions, with answers of an answer file as references. Questions without an answer stay as they are."""
    answered = {str(row.get("question_id")) for _, row in read_jsonl(path) if isinstance(row, dict)}
    given = [q for q in questions if q.key in answered]
    if not given:
        raise UserError(f"{path}: answers none of the questions; give their reference answers.")
    references = read_answers(path, given).turns
    return [replace(q, reference=references[q.key]) if q.key in references else q for q in questions]


# --- command line ---


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m eval.mt_bench", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    answer = commands.add_parser("answer", help="answer both turns of every question with a checkpoint")
    answer.add_argument("--checkpoint", required=True, help="checkpoint folder or hub name")
    answer.add_argument("--questions", required=True, help="JSONL of question_id, category and two turns")
    answer.add_argument("--out", required=True, help="JSONL file to write")
    answer.add_argument("--generator", help="the model's name in the file; default: the checkpoint's")
    add_sampling_options(answer, temperature=None, max_new_tokens=1024, max_prompt_tokens=4096)
    answer.set_defaults(run=_answer)

    judge = commands.add_parser("judge", help="have answers graded, and score them")
    judge.add_argument("--questions", required=True, help="JSONL of question_id, category, two turns and reference")
    judge.add_argument("--answers", required=True, help="JSONL of question_id, model_id and choices")
    judge.add_argument("--references", help="an answer file whose answers are correct")
    judge.add_argument("--run-dir", required=True)
    add_judge_options(judge, max_tokens=2048)
    judge.add_argument("--allow-empty", action="store_true", help="have empty answers graded as they are")
    judge.set_defaults(run=_judge)
    return parser.parse_args(argv)


def _answer(args: argparse.Namespace) -> str:
    out = Path(args.out)
    if out.exists():
        raise UserError(f"{out}: is there already; give another --out.")
    questions = read_questions(args.questions, turns=len(TURNS))
    fixed, args.temperature = args.temperature, args.temperature or 0.0
    settings = sampling_of(args)
    own = (lambda q: TEMPERATURES.get(q.category, TEMPERATURES["writing"])) if fixed is None else None
    with replies_beside(out, settings) as kept:
        rows = answer_questions(
            args.checkpoint, questions, kept, temperature_of=own, seed=args.seed, generator=args.generator
        )
        return str(write_answers(out, rows))


def _judge(args: argparse.Namespace) -> str:
    questions = read_questions(args.questions, turns=len(TURNS))
    if args.references:
        questions = with_references(questions, args.references)
    answers = read_answers(args.answers, questions, allow_empty=args.allow_empty)
    judge = judge_named(args)
    result = mt_bench(questions, answers, judge, args.run_dir, **asking(args, judge), seed=args.seed)
    tell_failures(result["usage"])
    return json.dumps(result, indent=2)


def main(argv: Sequence[str] | None = None) -> int:
    def command() -> None:
        args = parse_arguments(argv)
        print(args.run(args))

    return exit_status(command)
