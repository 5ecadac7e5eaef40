"""The sandbox's prompt writer: an endpoint that reads what it is shown and writes prompts of the sandbox's grammar.

It knows the language's families of tasks, as a large model knows English, and nothing of gold, reward model or policy:
only the records in the call. In process (`writer`), or on loopback with `python -m optune.sandbox_writer --port 8001`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from statistics import fmean
from typing import Any

import httpx2

from optune import sandbox
from optune.artefacts import stable_hash, stable_seed
from optune.chat_client import ChatSettings
from optune.command import exit_status
from optune.config import WriterConfig
from optune.prompt_writer import Shown, Writer, read_back
from optune.types import UserError

VERSION = 1  # raised when the same call gets other lines
WEAK_SHARE = 0.8  # of the prompts, for the half of the categories with the lowest mean reward
TRIES = 4  # prompts made up for each one written; the one most like high-reward questions is kept
SHRINKAGE = 5.0  # records without any effect that every word and length is taken to have been seen in beside


def writer(settings: WriterConfig) -> Writer:
    """The sandbox's writer in this process: free, and under a name that changes with the sandbox and this file."""
    name = model_name()
    return Writer(ChatSettings(model=name, price_in=0.0, price_out=0.0), transport=transport(), identity=name)


def model_name() -> str:
    """Changes with the sandbox and with how the writer writes, so that replies of two worlds never mix."""
    settings = (VERSION, WEAK_SHARE, TRIES, SHRINKAGE)
    return f"sandbox-writer-{stable_hash(sandbox.content_hash(), *settings)[:12]}"


def reply(text: str) -> str:
    """The writer's lines to a call. Raises UserError where it is no call for prompts, or of no family it knows."""
    call = read_back(text)
    if call is None:
        raise UserError("this is no call for prompts.")
    shown, count = call
    known = [record for record in shown if record.category in sandbox.FAMILIES]
    if not known:
        raise UserError("no category here is a family of the sandbox.")
    rng = Random(stable_seed("writer", text))
    traits = _traits(known)
    rows = []
    for category in _plan(known, count, rng):
        tries = [sandbox.FAMILIES[category].ask(rng) for _ in range(TRIES)]
        rows.append({"category": category, "prompt": max(tries, key=lambda t: _likeness(t, traits))})
    return "\n".join(map(json.dumps, rows))


def _plan(shown: Sequence[Shown], count: int, rng: Random) -> list[str]:
    """The categories of the prompts to write: mostly weak ones where rewards are shown, else all alike; mixed."""
    rewards: dict[str, list[float]] = {}
    for record in shown:
        rewards.setdefault(record.category, []).append(record.reward or 0.0)
    ranked = sorted(rewards, key=lambda category: (fmean(rewards[category]), category))
    if all(record.reward is None for record in shown):
        groups = [(ranked, count)]
    else:
        half = (len(ranked) + 1) // 2
        weak = round(WEAK_SHARE * count) if ranked[half:] else count
        groups = [(ranked[:half], weak), (ranked[half:], count - weak)]
    plan = []
    for categories, size in groups:
        order = rng.sample(categories, len(categories))
        plan += [order[i % len(order)] for i in range(size)]
    rng.shuffle(plan)
    return plan


def _traits(shown: Sequence[Shown]) -> dict[str | int, float]:
    """How far questions with a word, or of a length in words, lie above their category's mean reward; shrunken."""
    if any(record.reward is None for record in shown):
        return {}
    rewards: dict[str, list[float]] = {}
    for record in shown:
        rewards.setdefault(record.category, []).append(record.reward)
    above: dict[str | int, list[float]] = {}
    for record in shown:
        words = record.question.split()
        for trait in {*words, len(words)}:
            above.setdefault(trait, []).append(record.reward - fmean(rewards[record.category]))
    return {trait: sum(values) / (len(values) + SHRINKAGE) for trait, values in above.items()}


def _likeness(text: str, traits: dict[str | int, float]) -> float:
    """Mean over the prompt's words, and its length, of what such questions earn above their category's mean."""
    words = text.split()
    return fmean(traits.get(trait, 0.0) for trait in (*words, len(words)))


# --- the endpoint -----------------------------------------------------------------------------------------------------


def respond(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the chat completion (or error) for one request body."""
    try:
        prompt = body["messages"][-1]["content"]
        text = reply(prompt)
    except UserError as error:
        return 400, {"error": {"message": str(error), "code": "invalid_prompt"}}
    used = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return 200, {"object": "chat.completion", "model": model_name(), "choices": [choice], "usage": used}


def transport() -> httpx2.AsyncBaseTransport:
    """The writer as an endpoint inside this process, to be handed to the `openai` client."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        status, body = respond(json.loads(request.content))
        return httpx2.Response(status, json=body)

    return httpx2.MockTransport(handle)


def serve(port: int = 0) -> ThreadingHTTPServer:
    """The writer as an endpoint on loopback; the caller runs `serve_forever` and `shutdown`. Port 0: a free one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status, answer = respond(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m optune.sandbox_writer", description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=8001)
    options = parser.parse_args(arguments)
    return exit_status(lambda: _serve(options.port))


def _serve(port: int) -> None:
    try:
        server = serve(port)
    except OSError as error:
        raise UserError(f"Port {port} cannot be used ({error.strerror}).") from None
    print(f"{model_name()} listens on http://127.0.0.1:{server.server_port}/v1; Ctrl-C stops it.", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
