"""Fills the numbers into the report's prose. Each is read from the results; none is typed by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from experiments.compute.results import RESULTS, raw_path
from optune.types import UserError
from optune.utils.files import read_json

RATIO_1 = "wdpo-all-1.0"


def filled(text: str, verdicts: Sequence[dict[str, Any]], preset: str = "tiny") -> str:
    """`{claim:outcome}` as that contrast's estimate and interval, `{claim}` as its verdict, `{measure}` as its number.

    Raises UserError for a name that is none of these. The texts are in `words/`.
    """
    rows = {row["claim"]: row for row in verdicts}

    def value(match: re.Match[str]) -> str:
        claim, outcome = match[1], match[2]
        if claim in MEASURED and not outcome:
            return f"{MEASURED[claim](preset):.1f}"
        if claim not in rows or (outcome and outcome not in rows[claim]["outcomes"]):
            raise UserError(
                f"There is no {match[0]} among the verdicts, which our words name; name a claim and its outcome."
            )
        if not outcome:
            return rows[claim]["verdict"]
        test = rows[claim]["outcomes"][outcome]
        digits = 1 if outcome == "win_score" else 2
        return f"{test['estimate']:+.{digits}f} [{test['low']:+.{digits}f}, {test['high']:+.{digits}f}]"

    return re.sub(r"\{([a-z0-9.-]+)(?::(\w+))?\}", value, text)


def tokens_per_response(preset: str) -> float:
    """Of all responses of ratio 1 (wDPO), over its iterations and seeds."""
    raw = map(read_json, raw_path(RESULTS, preset, RATIO_1, 0).parent.glob("seed*.json"))
    return fmean(row["stages"]["generate"]["response_length_mean"] for one in raw for row in one["iterations"])


def writing_over_answering(preset: str) -> float:
    """Tokens that an Always-On-Policy prompt takes to be written, reading included, per token of its two answers."""
    spent = read_json(RESULTS / preset / "compare-recipes.json")["members"]["aop"]["per_iteration"]
    return (spent["tokens_writer_in"] + spent["tokens_writer_out"]) / spent["tokens"]


MEASURED: dict[str, Callable[[str], float]] = {
    "tokens-per-response": tokens_per_response,
    "writing-over-answering": writing_over_answering,
}
