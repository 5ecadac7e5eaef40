"""Arena-Hard: answers questions with a checkpoint; a judge compares the answers with a baseline's.

    python -m eval.arena_hard answer --checkpoint MODEL --questions question.jsonl --out answers.jsonl
    python -m eval.arena_hard judge --questions question.jsonl --answers A.jsonl --baseline B.jsonl --judge MODEL \\
        --run-dir DIR

Question files are in the public form (`question_id`, `turns` with one `content`). `judge` keeps in the run directory
`judge.json` (what was compared and how), `replies.jsonl` (the log; nothing in it is asked again), `games.jsonl` (a row
per question and order) and `arena_hard.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from eval.arena_hard.games import ORDERS, game, parse_verdict, request, summarize
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
from eval.outputs import add_sampling_options, replies_beside, sampling_of
from eval.questions import Answers, Question, answer_questions, read_answers, read_questions, write_answers
from optune.chat.client import Estimate
from optune.store import run_lock
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.files import write_json, write_text
from optune.utils.hashing import stable_hash


def arena_hard(
    questions: Sequence[Question],
    answers: Answers,
    baseline: Answers,
    judge: Judge,
    run_dir: str | Path,
    *,
    retry_unparsed: bool = False,
    batch: bool = False,
    announce: Callable[[Estimate], None] = lambda estimate: None,
    seed: int = 0,
) -> dict[str, Any]:
    """Judge every answer against the baseline's in both orders, and score. Logged replies are not asked for again.

    Returns `games.summarize`'s numbers, mean lengths of the answers, the models' names and `usage`. Raises UserError if
    the run directory belongs to other answers, and the client's errors.
    """
    run_dir = Path(run_dir)
    requests = {}
    for question, order in product(questions, ORDERS):
        ours, theirs = (given.turns[question.key][0] for given in (answers, baseline))
        requests[question.key, order] = request(question, ours, theirs, order, judge)
    identity = {
        "benchmark": "Arena-Hard",
        "model": judge.chat.model,
        "parameters": dict(judge.parameters),
        "test_model": answers.model,
        "baseline": baseline.model,
        "calls": stable_hash(sorted(call.key(judge.chat.model) for call in requests.values())),
    }
    with run_lock(run_dir):
        claim(run_dir, identity, judge)
        replies, usage = ask_judge(
            judge,
            requests,
            run_dir,
            readable=lambda reply: parse_verdict(whole_text(reply)) is not None,
            retry_unparsed=retry_unparsed,
            batch=batch,
            announce=announce,
        )
        games = {(key, order): game(whole_text(reply), order) for (key, order), reply in replies.items()}
        rows = [
            {"question_id": q.row_id, "category": q.category, "order": order, "level": games[q.key, order]}
            | said(replies[q.key, order])
            for q, order in product(questions, ORDERS)
        ]
        write_text(run_dir / "games.jsonl", jsonl(rows))
        scores = summarize(questions, games, seed=seed)
        length = {"test_model": _length(answers), "baseline": _length(baseline)}
        models = {"model": judge.chat.model, "test_model": answers.model, "baseline": baseline.model}
        result = {**scores, "length": length, **models, "usage": usage}
        write_json(run_dir / "arena_hard.json", result)
        return result


def _length(answers: Answers) -> dict[str, float]:
    """Mean length of the answers, in characters and in words."""
    texts = [turns[0] for turns in answers.turns.values()]
    return {"characters": fmean(map(len, texts)), "words": fmean(len(text.split()) for text in texts)}


# --- command line ---


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m eval.arena_hard", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    answer = commands.add_parser("answer", help="answer every question with a checkpoint")
    answer.add_argument("--checkpoint", required=True, help="checkpoint folder or hub name")
    answer.add_argument("--questions", required=True, help="JSONL of question_id and turns")
    answer.add_argument("--out", required=True, help="JSONL file to write")
    answer.add_argument("--generator", help="the model's name in the file; default: the checkpoint's")
    add_sampling_options(answer, max_new_tokens=4096, max_prompt_tokens=8192)
    answer.set_defaults(run=_answer)

    judge = commands.add_parser("judge", help="have answers compared with a baseline's, and score them")
    judge.add_argument("--questions", required=True, help="JSONL of question_id and turns")
    judge.add_argument("--answers", required=True, help="JSONL of question_id, model_id and choices")
    judge.add_argument("--baseline", required=True, help="the baseline's answers, in the same form")
    judge.add_argument("--run-dir", required=True)
    add_judge_options(judge, max_tokens=4096)
    judge.add_argument("--allow-empty", action="store_true", help="have empty answers compared as they are")
    judge.set_defaults(run=_judge)
    return parser.parse_args(argv)


def _answer(args: argparse.Namespace) -> str:
    out = Path(args.out)
    if out.exists():
        raise UserError(f"{out}: is there already; give another --out.")
    questions = read_questions(args.questions, turns=1)
    with replies_beside(out, sampling_of(args)) as settings:
        rows = answer_questions(args.checkpoint, questions, settings, seed=args.seed, generator=args.generator)
        return str(write_answers(out, rows))


def _judge(args: argparse.Namespace) -> str:
    questions = read_questions(args.questions, turns=1)
    answers, baseline = (
        read_answers(p, questions, allow_empty=args.allow_empty) for p in (args.answers, args.baseline)
    )
    judge = judge_named(args)
    result = arena_hard(questions, answers, baseline, judge, args.run_dir, **asking(args, judge), seed=args.seed)
    tell_failures(result["usage"])
    return json.dumps(result, indent=2)


def main(argv: Sequence[str] | None = None) -> int:
    def command() -> None:
        args = parse_arguments(argv)
        print(args.run(args))

    return exit_status(command)
