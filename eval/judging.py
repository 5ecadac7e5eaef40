"""What all evaluations by a judge share: the run directory, logged calls, their price, and command-line options.

A run directory holds `judge.json` (what was judged and how) and `replies.jsonl` (the log; nothing in it is asked
again). Everything else in it can be made again from these two.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.judges import Judge, make_judge
from optune.chat.batch import ask_in_batches
from optune.chat.client import ChatClient, ChatRequest, Estimate, without_system
from optune.chat.reply_log import Reply, Usage
from optune.types import UserError
from optune.utils.files import NOT_JSON, read_json, write_json

Place = tuple[str, str]  # what a call is about, such as a prompt's id and the order of its answers


def claim(run_dir: Path, identity: Mapping[str, Any], judge: Judge) -> None:
    """Write `judge.json`, or compare it with the existing one. Raises UserError naming what differs."""
    path = run_dir / "judge.json"
    identity = {**identity, **({} if judge.system else {"system": False})}
    if path.exists():
        before = {"system": True, **read_json(path)}
        unlike = [name for name, value in {"system": True, **identity}.items() if before.get(name) != value]
        if unlike:
            raise UserError(f"{run_dir}: made with other {' and '.join(unlike)}; give another --run-dir.")
    else:
        write_json(path, identity)


def ask_judge(
    judge: Judge,
    requests: Mapping[Place, ChatRequest],
    run_dir: Path,
    *,
    readable: Callable[[Reply], bool],
    retry_unparsed: bool = False,
    batch: bool = False,
    announce: Callable[[Estimate], None] = lambda estimate: None,
    replies_log: str | Path | None = None,
) -> tuple[dict[Place, Reply], dict[str, Any]]:
    """The judge's reply to every request, and the usage. Requests with a logged reply are not asked again.

    readable: whether a reply can be parsed. With `retry_unparsed`, unreadable replies and calls that failed for good
    are asked again. `announce` is called with the number of calls, tokens and price before anything is spent. Raises
    what `ChatClient.ask` raises.
    """
    if batch and judge.transport is not None:
        raise UserError(f"The judge {judge.chat.model!r} answers in this process and takes no batches.")
    if not judge.system:
        requests = {place: replace(call, messages=without_system(call.messages)) for place, call in requests.items()}
    client = ChatClient(judge.chat, replies_log or run_dir / "replies.jsonl", transport=judge.transport)
    again: frozenset[str] = frozenset()
    if retry_unparsed:
        logged = client.logged(requests.values())
        again = frozenset(key for key, reply in logged.items() if reply.settled and not readable(reply))
    if not judge.chat.offline:
        announce(client.estimate(requests.values(), again))
    if batch:
        by_key = ask_in_batches(client, requests.values(), run_dir / "batches.json", again)
    else:
        by_key = client.ask(requests.values(), again)
    replies = {place: by_key[request.key(judge.chat.model)] for place, request in requests.items()}
    usage = usage_of(replies.values(), client.usage(requests.values()), client)
    cut_off = sum(r.finish_reason == "length" and r.answered and not readable(r) for r in replies.values())
    return replies, usage | ({"cut_off": cut_off} if cut_off else {})


def usage_of(replies: Iterable[Reply], used: Usage, client: ChatClient) -> dict[str, Any]:
    """Tokens and price of all calls, which calls failed and why, and which models say they answered.

    Tokens of failed attempts count, too. If the endpoint did not report all tokens, their sum is "unknown", and so is
    the price unless tokens are free.
    """
    replies = list(replies)
    failed = [reply for reply in replies if not reply.answered]
    cost = client.cost(used.prompt_tokens, used.completion_tokens)
    if used.unreported:
        cost = 0.0 if client.settings.price_in == client.settings.price_out == 0 else "unknown"
    return {
        "prompt_tokens": "unknown" if used.unreported else used.prompt_tokens,
        "completion_tokens": "unknown" if used.unreported else used.completion_tokens,
        "cost": cost,
        **({"replies_without_usage": used.unreported} if used.unreported else {}),
        "failed_calls": len(failed),
        **({"failures": by_reason(failed)} if failed else {}),
        "response_models": sorted({r.model for r in replies if r.model}),
    }


def by_reason(failed: Iterable[Reply]) -> list[dict[str, Any]]:
    """How many calls failed for each reason. Reasons that differ only in numbers count as one."""
    groups: dict[tuple[str, bool], list[str]] = {}
    for reply in failed:
        reason = reply.error or "no reason given"
        groups.setdefault((re.sub(r"\d+", "0", reason), reply.final), []).append(reason)
    return [{"reason": told[0], "calls": len(told), "final": final} for (_, final), told in groups.items()]


def whole_text(reply: Reply) -> str | None:
    """The text of a reply whose verdict comes last; None of one that was cut off, which has none yet."""
    return None if reply.finish_reason == "length" else reply.text


def said(reply: Reply) -> dict[str, str | None]:
    """The fields of a reply in result files: its text, whether it was cut off, or why there is no text."""
    row = {"reply": reply.text, **({"error": reply.error} if reply.error else {})}
    return {**row, "finish_reason": "length"} if reply.answered and reply.finish_reason == "length" else row


def jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as the text of a JSONL file."""
    return "".join(json.dumps(row) + "\n" for row in rows)


# --- options of the command lines ---


JUDGES_TOLD = "sandbox, local (--model FOLDER), openai, a model's name, or file.py:function for one of your own"


def add_judge_options(parser: argparse.ArgumentParser, *, max_tokens: int | None = None) -> None:
    """Options for the judge, its endpoint, retries and spending. `judge_named` and `asking` read them.

    max_tokens: the limit of a reply, if the judge's default (1,024) is too low.
    """
    parameters = {"temperature": 0.0, "max_tokens": max_tokens} if max_tokens else None
    told = f'as JSON; default {{"temperature": 0, "max_tokens": {max_tokens or 1024}}}'
    parser.add_argument("--judge", default="openai", help=JUDGES_TOLD)
    parser.add_argument("--model", help="the judge's model name at the endpoint")
    parser.add_argument("--base-url", help="of an OpenAI-compatible endpoint, such as http://localhost:8000/v1")
    parser.add_argument("--api-key-env", default="OPENAI_API_KEY", help="environment variable that holds the key")
    parser.add_argument("--parameters", type=_object, default=parameters, help=told)
    parser.add_argument("--concurrency", type=int, default=16, help="calls under way at once")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds per call")
    parser.add_argument("--max-attempts", type=int, default=8, help="per call, before it counts as failed")
    parser.add_argument("--price-in", type=float, help="per million prompt tokens")
    parser.add_argument("--price-out", type=float, help="per million completion tokens")
    parser.add_argument("--max-cost", type=float, help="refuse to spend more than this on the missing calls")
    parser.add_argument("--offline", action="store_true", help="only replay the replies that are there")
    parser.add_argument("--batch", action="store_true", help="use the provider's Batch API")
    parser.add_argument("--retry-unparsed", action="store_true", help="ask again where a reply could not be read")
    parser.add_argument(
        "--no-system", action="store_true", help="for endpoints without a system turn: put its text before the user's"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")


def judge_named(args: argparse.Namespace) -> Judge:
    """The judge that the options name."""
    names = "base_url api_key_env concurrency timeout max_attempts price_in price_out max_cost offline"
    judge = make_judge(args.judge, args.model, **{name: getattr(args, name) for name in names.split()})
    judge = replace(judge, system=not args.no_system)
    return judge if args.parameters is None else replace(judge, parameters=args.parameters)


def asking(args: argparse.Namespace, judge: Judge) -> dict[str, Any]:
    """The options of `ask_judge`; the price is told on stderr."""
    return {
        "retry_unparsed": args.retry_unparsed,
        "batch": args.batch,
        "announce": lambda estimate: print(f"{judge.chat.model}: {estimate}", file=sys.stderr),
    }


def tell_failures(usage: Mapping[str, Any]) -> None:
    """Print on stderr a line for each reason of failed calls, and one if the price is unknown."""
    for failure in usage.get("failures", ()):
        print(told_failure(failure), file=sys.stderr)
    if cut_off := usage.get("cut_off"):
        print(
            f"{cut_off} replies were cut off before a verdict (finish_reason length): raise max_tokens.",
            file=sys.stderr,
        )
    if missing := usage.get("replies_without_usage"):
        print(f"The endpoint did not say what {missing} replies used: tokens and cost are unknown.", file=sys.stderr)


def told_failure(failure: Mapping[str, Any]) -> str:
    """One of `by_reason`'s rows as a sentence."""
    again = "--retry-unparsed asks them again" if failure["final"] else "the same command asks them again"
    return f"{failure['calls']} calls failed: {failure['reason']} ({again})."


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except NOT_JSON:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object")
    return value
