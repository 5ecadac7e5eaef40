"""Chooses a reward model by how often it agrees with people's preferences, by category.

    python -m eval.reward_agreement PREFERENCES.jsonl --model NAME [--model NAME ...]

PREFERENCES has a row per comparison: what is asked, as prompt files have it, and the texts `chosen`, `rejected` and
`category`. The model with the
most agreements is named; a model that gives both answers the same reward does not agree. Source of the scheme: Table 1
of "Always-On-Policy Prompts for Efficient RLHF", 50 comparisons in each of 18 categories.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eval.stats import wilson
from optune.config import RewardConfig
from optune.prompts.files import check_characters, parse_prompt
from optune.reward import REWARDS
from optune.types import Prompt, Response, UserError
from optune.utils.command import exit_status
from optune.utils.files import read_jsonl
from optune.utils.registry import resolve

COLUMNS = ("chosen", "rejected", "category")
Row = dict[str, Any]  # COLUMNS, `prompt`, and `messages` where several turns are asked
Score = Callable[[Sequence[Row], str], list[float]]  # (comparisons, "chosen" or "rejected") -> rewards


def agreement(rows: Sequence[Row], score: Score) -> dict[str, Any]:
    """Numbers of comparisons and agreements, in total and by category; their share with its 95% Wilson interval."""
    gaps = [c - r for c, r in zip(score(rows, "chosen"), score(rows, "rejected"), strict=True)]
    categories: dict[str, list[bool]] = {}
    for row, gap in zip(rows, gaps, strict=True):
        categories.setdefault(row["category"], []).append(gap > 0)
    agreed = sum(gap > 0 for gap in gaps)
    return {
        "n": len(rows),
        "agreed": agreed,
        "share": wilson(agreed, len(rows)).as_dict(),
        "categories": {name: {"n": len(verdicts), "agreed": sum(verdicts)} for name, verdicts in categories.items()},
    }


def reward_of(settings: RewardConfig, seed: int = 0) -> Score:
    """The reward that the settings name, loaded once."""
    reward = resolve(REWARDS, settings.kind, "reward")(settings)

    def score(rows: Sequence[Row], side: str) -> list[float]:
        prompts = [Prompt(str(place), row["prompt"], row.get("messages", ())) for place, row in enumerate(rows)]
        answers = [Response(str(place), 0, 0, (), row[side], "stop") for place, row in enumerate(rows)]
        return reward.score(prompts, answers, seed)

    return score


def length(rows: Sequence[Row], side: str) -> list[float]:
    """A control that prefers the longer answer: its length in characters."""
    return [float(len(row[side])) for row in rows]


def read_preferences(path: str | Path) -> list[Row]:
    """The comparisons of a JSONL file. Raises UserError naming the row and the column that is no text."""
    rows = []
    for number, row in read_jsonl(path):
        where = f"{path}, row {number}"
        for name in COLUMNS:
            if not isinstance(row, dict) or not isinstance(row.get(name), str):
                raise UserError(f"{where}: needs a text `{name}`.")
            check_characters(row[name], f"{where}: `{name}`")
        asked, _ = parse_prompt(row, where)
        rows.append({**{name: row[name] for name in COLUMNS}, "prompt": asked.text, "messages": asked.messages})
    if not rows:
        raise UserError(f"{path}: there are no comparisons in it.")
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m eval.reward_agreement", description=__doc__.split("\n")[0])
    parser.add_argument("preferences")
    parser.add_argument("--model", action="append", required=True, help="folder or hub name; give several to choose")
    parser.add_argument("--max-length", type=int, default=2048, help="tokens of prompt and answer together")
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args(arguments)
    return exit_status(lambda: _tell(options))


def _tell(options: argparse.Namespace) -> None:
    rows, agreements = read_preferences(options.preferences), {}
    for model in options.model:
        settings = RewardConfig(model=model, max_length=options.max_length, batch_size=options.batch_size)
        agreements[model] = agreement(rows, reward_of(settings))
    best = max(agreements, key=lambda model: agreements[model]["agreed"])
    print(json.dumps({"models": agreements, "best": best}, indent=2))


if __name__ == "__main__":
    sys.exit(main())
