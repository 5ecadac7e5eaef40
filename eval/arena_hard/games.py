"""Arena-Hard's calls to the judge, the parser of its verdicts, and the win rate computed from them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from eval.judges import Judge
from eval.judges.form import fill, hash_of
from eval.judges.parser import is_of_criterion
from eval.questions import Question
from eval.stats import bootstrap_ratio
from optune.chat.client import ChatRequest
from optune.chat.reasoning import final_answer

ORDERS = ("AB", "BA")  # AB: the test model's answer stands first
LEVELS = {"A>>B": 2, "A>B": 1, "A=B": 0, "B>A": -1, "B>>A": -2}
NAMES = {2: "much_better", 1: "better", 0: "tie", -1: "worse", -2: "much_worse"}
STRONG = 3  # games that a verdict "much better" counts for
PROMPT = Path(__file__).with_name("prompt.txt")
_VERDICT = re.compile(r"\[\[\s*([AB])\s*(>>|>|=|<<|<)\s*([AB])\s*\]\]")
_TURNED = {"<": ">", "<<": ">>"}

Games = Mapping[tuple[str, str], int | None]  # by question key and order: -2 to 2 for the test model; None: unreadable


def request(question: Question, answer: str, baseline: str, order: str, judge: Judge) -> ChatRequest:
    """The call that shows both answers in this order."""
    first, second = (answer, baseline) if order == "AB" else (baseline, answer)
    return ChatRequest(
        messages=fill(PROMPT, question=question.turns[0], answer_1=first, answer_2=second),
        parameters=judge.parameters,
        template_hash=hash_of(PROMPT),
        order=order,
        label=f"question {question.key!r}, order {order}",
    )


def parse_verdict(reply: str | None) -> int | None:
    """2 to -2 for the answer shown first: the verdict on the last line, or the only one there is; None otherwise.

    What a reasoning model drafts is not read, and a verdict on one criterion is none.
    """
    answer = final_answer(reply) or ""
    lines = [line for line in answer.splitlines() if line.strip()]
    if lines and is_of_criterion(lines[-1]):
        return None
    for text in (lines[-1] if lines else "", answer):
        said = {_level(*match) for match in _VERDICT.findall(text)}
        if len(said) == 1:
            return said.pop()
    return None


def _level(left: str, sign: str, right: str) -> int | None:
    if left == right:
        return None
    if sign in _TURNED:
        left, sign, right = right, _TURNED[sign], left
    return 0 if sign == "=" else LEVELS[f"{left}{sign}{right}"]


def game(reply: str | None, order: str) -> int | None:
    """The verdict for the test model."""
    level = parse_verdict(reply)
    return level if level is None or order == "AB" else -level


def summarize(questions: Sequence[Question], games: Games, *, seed: int = 0) -> dict[str, Any]:
    """The Bradley-Terry win rate in percent with its bootstrap interval, and how the order swayed the judge.

    All games are against one baseline. So the Bradley-Terry likelihood (Eq. 1 with models instead of responses) has its
    maximum in closed form: the model wins with probability W / N. N is the number of games; W is those won plus half of
    those tied; a game "much better" counts STRONG times in both. `log_odds` is the model's strength above the
    baseline's. The bootstrap resamples questions, because both orders of a question are one unit. A question with an
    unreadable game is `unparsed`: it is left out, and never counted as a tie.
    """
    both = [(games[q.key, "AB"], games[q.key, "BA"]) for q in questions]
    scored = [pair for pair in both if None not in pair]
    won = [sum(map(_won, pair)) for pair in scored]
    played = [sum(map(_weight, pair)) for pair in scored]
    rate = sum(won) / sum(played) if scored else None
    limits = bootstrap_ratio(won, played, seed=seed) if len(scored) > 1 else None
    # Whether the answer shown first won: the test model's in "AB", the baseline's in "BA"; ties decide nothing.
    decided = [ab > 0 for ab, _ in scored if ab] + [ba < 0 for _, ba in scored if ba]
    levels = Counter(chain.from_iterable(scored))
    return {
        "win_rate": None if rate is None else 100 * rate,
        "interval": limits and {"low": 100 * limits.low, "high": 100 * limits.high, "level": limits.level},
        "log_odds": math.log(rate / (1 - rate)) if rate not in (None, 0.0, 1.0) else None,
        "n": len(scored),
        "unparsed": len(questions) - len(scored),
        "unparsed_games": sum(g is None for g in games.values()),
        "games": {name: levels[level] for level, name in NAMES.items()},
        "flip_share": sum(ab * ba < 0 for ab, ba in scored) / len(scored) if scored else None,
        "first_position_share": sum(decided) / len(decided) if decided else None,
        "seed": seed,
    }


def _won(level: int) -> float:
    return _weight(level) * _share(level)


def _weight(level: int) -> int:
    return STRONG if abs(level) == 2 else 1


def _share(level: int) -> float:
    """1 for a game won, 1/2 for a tie, 0 for a game lost."""
    return (1 + (level > 0) - (level < 0)) / 2
