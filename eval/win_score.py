"""Win score against a baseline (Eq. 7) with its interval. The price is shown before anything is spent.

    python -m eval.win_score judge --outputs A.json --baseline B.json --judge sandbox --run-dir DIR
    python -m eval.win_score score REVIEWS.jsonl
    python -m eval.win_score compare RUN_A RUN_B

`judge` asks a judge for both orders of every prompt and keeps in the run directory: `judge.json` (what was compared and
how), `replies.jsonl` (the log; nothing in it is asked again), `reviews.jsonl` (the replies, as `score` reads them),
`verdicts.jsonl` (a row per prompt) and `win_score.json`. Everything but the first two can be made again from them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from eval.answers import Rows, read_outputs
from eval.judges import FORMS, Judge
from eval.judges.rating import RATING
from eval.judging import add_judge_options, ask_judge, asking, claim, jsonl, judge_named, said, tell_failures
from eval.verdicts import ORDERS, Verdict, compare, summarize, verdict_of_shown
from optune.chat.client import ChatRequest, Estimate
from optune.chat.reply_log import Reply
from optune.config import differences
from optune.prompts.conversation import present
from optune.store import run_lock
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.files import read_json, read_jsonl, write_json, write_text
from optune.utils.hashing import stable_hash


@dataclass(frozen=True, slots=True)
class Contest:
    """One prompt, answered by the test model and by the baseline."""

    prompt_id: str
    instruction: str
    answer: str
    baseline: str

    def request(self, order: str, judge: Judge) -> ChatRequest:
        """The judge call that shows the answers in this order."""
        answers = (self.answer, self.baseline) if order == "AB" else (self.baseline, self.answer)
        return ChatRequest(
            messages=judge.form.render(self.instruction, *answers),
            parameters=judge.parameters,
            template_hash=judge.form.template_hash,
            order=order,
            label=f"prompt {self.prompt_id!r}, order {order}",
        )


def win_score(
    outputs: Rows,
    baseline: Rows,
    judge: Judge,
    run_dir: str | Path,
    *,
    allow_empty: bool = False,
    retry_unparsed: bool = False,
    batch: bool = False,
    seed: int = 0,
    announce: Callable[[Estimate], None] = lambda estimate: None,
    replies_log: str | Path | None = None,
) -> dict[str, Any]:
    """Judge `outputs` against `baseline` in both orders and score them. Logged replies are not asked for again.

    outputs, baseline: rows with `instruction`, `output` and optionally `prompt_id`, on the same instructions.
    replies_log: the log of replies, by default `run_dir/replies.jsonl`. Runs that share a log never ask for the same
    comparison twice, which saves calls since neighbouring iterations give many prompts the same answer. `announce` is
    called with the number of calls, tokens and price before anything is spent.
    Returns `eval.verdicts.summarize`'s numbers and `usage`; the run directory has the verdicts by prompt
    (`read_verdicts`). Raises UserError if the inputs do not match or the run directory is of other inputs, and the
    client's errors.
    """
    run_dir = Path(run_dir)
    contests = match(outputs, baseline, allow_empty=allow_empty)
    with run_lock(run_dir):
        claim(run_dir, _identity(contests, judge), judge)
        replies, usage = ask_judge(
            judge,
            {(c.prompt_id, order): c.request(order, judge) for c, order in product(contests, ORDERS)},
            run_dir,
            readable=lambda reply: judge.form.read(reply.text, reply.finish_reason) is not None,
            retry_unparsed=retry_unparsed,
            batch=batch,
            announce=announce,
            replies_log=replies_log,
        )
        return _write_results(run_dir, contests, replies, judge, usage, seed)


def match(outputs: Rows, baseline: Rows, *, allow_empty: bool = False) -> list[Contest]:
    """Pair the answers, in the order of `outputs`: by `prompt_id` where every row has one, else by instruction.

    Where instructions repeat and rows have an `id` instead, they are paired by that. Raises UserError naming what does
    not match.
    """
    column = _id_column(outputs, baseline)
    test = _by_id(outputs, "the outputs", allow_empty, column)
    base = _by_id(baseline, "the baseline", allow_empty, column)
    for missing, where in ((base.keys() - test.keys(), "outputs"), (test.keys() - base.keys(), "baseline")):
        if missing:
            first = next(row for i, row in (*test.items(), *base.items()) if i in missing)
            raise UserError(
                f"The instruction sets differ: {len(missing)} of {len(test | base)} instructions are not in the "
                f"{where} (first: {_short(first['instruction'])!r}); answer the same prompts with both."
            )
    for i, row in test.items():
        if row["instruction"] != base[i]["instruction"]:
            raise UserError(f"Prompt {i!r} has another instruction in the baseline; answer the same prompts with both.")
    return [Contest(i, row["instruction"], row["output"], base[i]["output"]) for i, row in test.items()]


def read_reviews(path: str | Path) -> tuple[list[Verdict], int]:
    """Verdicts from rows `{"prompt_id", "order", "reply"}`, and how many prompts lack a row for one of the orders."""
    shown: dict[str, dict[str, tuple[float, float] | None]] = {}
    for number, row in read_jsonl(path):
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise UserError(f"{where}: expected an object with prompt_id, order and reply.")
        for name in ("prompt_id", "order", "reply"):
            if name not in row:
                raise UserError(f"{where}: `{name}` is missing.")
        if not isinstance(row["prompt_id"], str | int):
            raise UserError(f"{where}: `prompt_id` must be a text or a whole number, not {row['prompt_id']!r}.")
        if row["order"] not in ORDERS:
            raise UserError(f"{where}: `order` must be AB or BA, not {row['order']!r}.")
        if row["reply"] is not None and not isinstance(row["reply"], str):
            raise UserError(f"{where}: `reply` must be a text, or null where none came, not {row['reply']!r}.")
        orders = shown.setdefault(str(row["prompt_id"]), {})
        if row["order"] in orders:
            raise UserError(f"{where}: prompt {row['prompt_id']!r} has a second reply for order {row['order']}.")
        orders[row["order"]] = RATING.read(row["reply"], row.get("finish_reason"))
    if not shown:
        raise UserError(f"{path}: there are no reviews in it.")
    verdicts = [verdict_of_shown(i, orders.get("AB"), orders.get("BA")) for i, orders in shown.items()]
    return verdicts, sum(len(orders) < 2 for orders in shown.values())


def read_verdicts(run_dir: str | Path) -> dict[str, Verdict]:
    """The verdicts of a finished `judge` run, by prompt."""
    path = Path(run_dir) / "verdicts.jsonl"
    if not path.is_file():
        raise UserError(f"{run_dir}: holds no verdicts.jsonl; give the run directory of a finished `judge`.")
    return {row["prompt_id"]: Verdict.from_row(row) for _, row in read_jsonl(path)}


def compare_runs(run_a: str | Path, run_b: str | Path, *, seed: int = 0) -> dict[str, Any]:
    """`eval.verdicts.compare` of two runs. Raises UserError if judge or baseline differ, or no prompt is shared."""
    a, b = read_verdicts(run_a), read_verdicts(run_b)
    made_a, made_b = (read_json(Path(run) / "judge.json") for run in (run_a, run_b))
    fields = {"model": None, "parameters": None, "template_hash": None, "system": True}
    unlike = differences(*({f: made.get(f, default) for f, default in fields.items()} for made in (made_a, made_b)))
    if unlike:
        raise UserError(f"{run_a} and {run_b} were judged differently ({'; '.join(unlike)}); judge both in one way.")
    baseline_a, baseline_b = made_a["baseline"], made_b["baseline"]
    shared = baseline_a.keys() & baseline_b.keys()
    if not shared:
        raise UserError(f"{run_a} and {run_b} share no prompt.")
    if any(baseline_a[i] != baseline_b[i] for i in shared):
        raise UserError(f"{run_a} and {run_b} were judged against different baselines; judge both against one.")
    return compare(a, b, seed=seed)


def _id_column(outputs: Rows, baseline: Rows) -> str | None:
    """The column that tells prompts apart; None where the instructions do. UserError where neither does in every row.

    Many files number their answers under `id`, so that it counts only where the instructions are not enough.
    """
    rows = [*outputs, *baseline]
    if all(present(row.get("prompt_id")) for row in rows):
        return "prompt_id"
    repeated = [text for file in (outputs, baseline) if (text := _repeated(file)) is not None]
    if repeated and all(present(row.get("id")) for row in rows):
        return "id"
    if repeated and any(present(row.get("prompt_id")) for row in rows):
        raise UserError(
            f"The instruction {_short(repeated[0])!r} stands on several rows, and only some rows have a prompt_id to "
            "tell them apart; give every row of both files a prompt_id."
        )
    return None


def _repeated(rows: Rows) -> str | None:
    """An instruction that stands on more than one row."""
    times = Counter(row["instruction"] for row in rows)
    return next((text for text, count in times.items() if count > 1), None)


def _by_id(rows: Rows, whose: str, allow_empty: bool, column: str | None) -> dict[str, dict[str, Any]]:
    if not rows:
        raise UserError(f"There are no answers in {whose}.")
    seen: Counter[str] = Counter()
    answers: dict[str, dict[str, Any]] = {}
    for row in rows:
        text = stable_hash(row["instruction"])[:16]
        seen[text] += 1
        identity = str(row[column]) if column else text if seen[text] == 1 else f"{text}#{seen[text]}"
        if identity in answers:
            raise UserError(f"Prompt {identity!r} is answered twice in {whose}.")
        answers[identity] = row
    empty = [i for i, row in answers.items() if not row["output"].strip()]
    if empty and not allow_empty:
        raise UserError(
            f"{len(empty)} of the {len(rows)} outputs in {whose} are empty (first: "
            f"{_short(answers[empty[0]]['instruction'])!r}); give --allow-empty to have them judged as they are."
        )
    return answers


def _identity(contests: Sequence[Contest], judge: Judge) -> dict[str, Any]:
    """What identifies a run directory: judge, baseline's answers (a hash per prompt) and the test model's answers."""
    return {
        "model": judge.chat.model,
        "parameters": dict(judge.parameters),
        "template_hash": judge.form.template_hash,
        "prompts": len(contests),
        "outputs": stable_hash([(c.prompt_id, c.instruction, c.answer) for c in contests]),
        "baseline": {c.prompt_id: stable_hash(c.instruction, c.baseline)[:16] for c in contests},
    }


def _write_results(
    run_dir: Path,
    contests: Sequence[Contest],
    replies: dict[tuple[str, str], Reply],
    judge: Judge,
    usage: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    reviews = [{"prompt_id": i, "order": order, **said(reply)} for (i, order), reply in replies.items()]
    shown = {place: judge.form.read(reply.text, reply.finish_reason) for place, reply in replies.items()}
    verdicts = []
    for contest in contests:
        in_both = [shown[contest.prompt_id, order] for order in ORDERS]
        verdicts.append(verdict_of_shown(contest.prompt_id, *in_both))
    write_text(run_dir / "reviews.jsonl", jsonl(reviews))
    write_text(run_dir / "verdicts.jsonl", jsonl(v.as_row() for v in verdicts))
    result = {**summarize(verdicts, seed=seed), "model": judge.chat.model, "usage": usage}
    write_json(run_dir / "win_score.json", result)
    return result


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


# --- command line ---


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m eval.win_score", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    judge = commands.add_parser("judge", help="ask a judge for both orders of every prompt, and score")
    judge.add_argument("--outputs", required=True, help="the test model's answers (AlpacaEval's JSON form)")
    judge.add_argument("--baseline", required=True, help="the baseline's answers to the same instructions")
    judge.add_argument("--run-dir", required=True)
    add_judge_options(judge)
    judge.add_argument("--form", choices=sorted(FORMS), default="rating", help="two scores, or A, B or C")
    judge.add_argument("--allow-empty", action="store_true", help="have empty answers judged as they are")
    judge.set_defaults(run=_judge)

    score = commands.add_parser("score", help="score replies that exist")
    score.add_argument("reviews", help='JSONL of {"prompt_id", "order": "AB" or "BA", "reply"}')
    score.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    score.set_defaults(run=_score)

    paired = commands.add_parser("compare", help="two judged models, paired on the same prompts")
    paired.add_argument("run_a")
    paired.add_argument("run_b")
    paired.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    paired.set_defaults(run=lambda args: compare_runs(args.run_a, args.run_b, seed=args.seed))
    return parser.parse_args(argv)


def _judge(args: argparse.Namespace) -> dict[str, Any]:
    judge = replace(judge_named(args), form=FORMS[args.form])
    options = {"allow_empty": args.allow_empty, **asking(args, judge), "seed": args.seed}
    result = win_score(read_outputs(args.outputs), read_outputs(args.baseline), judge, args.run_dir, **options)
    tell_failures(result["usage"])
    return result


def _score(args: argparse.Namespace) -> dict[str, Any]:
    verdicts, missing_order = read_reviews(args.reviews)
    return {**summarize(verdicts, seed=args.seed), "missing_order": missing_order}


def main(argv: Sequence[str] | None = None) -> int:
    def command() -> None:
        args = parse_arguments(argv)
        print(json.dumps(args.run(args), indent=2))

    return exit_status(command)


if __name__ == "__main__":
    sys.exit(main())
