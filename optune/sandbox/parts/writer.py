"""The sandbox's prompt writer: an endpoint that writes prompts in the sandbox's language.

It knows the language's families of tasks, as a large model knows English. Of gold, reward model and policy it knows
only what the records in a call say. It runs in this process (`writer`), or on loopback with
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
TRIES = 4  # candidates for each prompt; the one most like questions with high rewards is kept
SHRINKAGE = 5.0  # shrinkage: each word or length gets this many pseudo-records with effect 0


def writer(settings: WriterConfig) -> Writer:
    """The sandbox's writer in this process. It costs nothing; its name changes with the sandbox and this file."""
    name = model_name()
    chat = ChatSettings(model=name, price_in=0.0, price_out=0.0)
    return Writer(chat, transport=in_process(completions(name, reply)), identity=name)


def model_name() -> str:
    """Changes with the sandbox and with how the writer writes, so that replies of two worlds never mix."""
    settings = (VERSION, WEAK_SHARE, TRIES, SHRINKAGE)
    return f"sandbox-writer-{stable_hash(sandbox.content_hash(), *settings)[:12]}"


def reply(text: str) -> str:
    """The writer's reply, a line per prompt. Raises UserError if `text` does not ask for prompts of known families."""
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
    """The category of each prompt to write, shuffled: mostly weak ones if rewards are shown, else all equally often."""
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
    """The effect of each word, and of each length in words: mean reward above the category's mean, shrunk to 0."""
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
    """The mean effect (see `_traits`) of the prompt's words and of its length."""
    words = text.split()
    return fmean(traits.get(trait, 0.0) for trait in (*words, len(words)))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m optune.sandbox.parts.writer", description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=8001)
    options = parser.parse_args(arguments)
    return exit_status(lambda: listen(model_name(), completions(model_name(), reply), options.port))


if __name__ == "__main__":
    sys.exit(main())
