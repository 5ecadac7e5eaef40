"""The sandbox's prompt writer: an endpoint that reads what it is shown and writes prompts of the sandbox's grammar.

It knows the language's families of tasks, as a large model knows English, and nothing of gold, reward model or policy:
only the records in the call. In process (`writer`), or on loopback with
`python -m optune.sandbox.parts.writer --port 8001`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from random import Random
from statistics import fmean

from optune import sandbox
from optune.chat.client import ChatSettings
from optune.chat.endpoint import completions, in_process, listen
from optune.config import WriterConfig
from optune.prompts.writer import Shown, Writer, read_back
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.hashing import stable_hash, stable_seed

VERSION = 1  # raised when the same call gets other lines
WEAK_SHARE = 0.8  # of the prompts, for the half of the categories with the lowest mean reward
TRIES = 4  # prompts made up for each one written; the one most like high-reward questions is kept
SHRINKAGE = 5.0  # records without any effect that every word and length is taken to have been seen in beside


def writer(settings: WriterConfig) -> Writer:
    """The sandbox's writer in this process: free, and under a name that changes with the sandbox and this file."""
    name = model_name()
    chat = ChatSettings(model=name, price_in=0.0, price_out=0.0)
    return Writer(chat, transport=in_process(completions(name, reply)), identity=name)


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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m optune.sandbox.parts.writer", description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=8001)
    options = parser.parse_args(arguments)
    return exit_status(lambda: listen(model_name(), completions(model_name(), reply), options.port))


if __name__ == "__main__":
    sys.exit(main())
