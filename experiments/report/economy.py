"""Seconds and tokens until an arm of the real model is where ratio 1 ends, over ratio 1's own to its end.

By the rule of `development.time_to_quality`: an arm reaches ratio 1 at the first iteration at which its means over the
seeds are at least ratio 1's last ones, in win score and gold both. Seconds are the work done (tokens sampled, responses
scored, pairs trained, iteration 0 included) at what each costs in ratio 1's runs: runs share a machine, so that an
arm's own clock would say little. Tokens are those sampled. Nothing is claimed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments.claims.real_model import WDPO_ARMS
from experiments.compute.arms import REPORT_SEEDS
from experiments.compute.raw_result import Raw
from experiments.compute.results import RESULTS, raw_path, read_raw
from experiments.development import time_to_quality
from experiments.development.time_to_quality import by_measure, predicted, reached, unit_costs

FULL = time_to_quality.FULL.name
TOKENS = {"generation_s": 1.0, "rewarding_s": 0.0, "training_s": 0.0}  # a unit for each token, nothing for the rest


def economy(raw: Raw) -> list[dict[str, Any]]:
    """A row for each arm but ratio 1: `reached`, the iteration or None; `seconds` and `tokens`, each over ratio 1's, to
    that iteration or else to the arm's end; `ahead`, its last win score minus ratio 1's.
    """
    if not raw:
        return []
    full = raw[FULL]
    ends, last = by_measure(full), len(full[0]["iterations"]) - 1
    costs = unit_costs(full)
    rows = []
    for name, results in raw.items():
        if name == FULL:
            continue
        means = by_measure(results)
        there = reached(means, ends)
        end = last if there is None else there
        spent = {}
        for what, of in (("seconds", costs), ("tokens", TOKENS)):
            spent[what] = predicted(results, of, end) / predicted(full, of, last)
        ahead = means["win_score"][-1] - ends["win_score"][-1]
        rows.append({"arm": name, "seeds": len(results), "reached": there, **spent, "ahead": ahead})
    return rows


def soonest(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The row that reaches ratio 1 in the fewest seconds; None if none does."""
    there = [row for row in rows if row["reached"] is not None]
    return min(there, key=lambda row: row["seconds"]) if there else None


def read(preset: str, base: Path = RESULTS) -> Raw:
    """The committed results of every arm of Figure 3 that ratio 1 can be compared with; empty without ratio 1's."""
    first = min(raw_path(base, preset, FULL, 0).parent.glob("seed*.json"), default=None)
    if first is None:
        return {}
    there = [member for member in WDPO_ARMS if raw_path(base, preset, member.name, 0).with_name(first.name).exists()]
    return read_raw(base, preset, there, REPORT_SEEDS)


def section(preset: str) -> Iterable[str]:
    """The report's table, where ratio 1 and another arm have been run."""
    rows = economy(read(preset))
    if not rows:
        return
    yield "## Seconds and tokens to ratio 1's final score\n"
    yield f"wDPO, report seeds: {rows[0]['seeds']}. This is descriptive; no claim rests on it. An arm is there at the"
    yield "first iteration whose mean win score and gold are ratio 1's last ones or better. Seconds are the work done,"
    yield "at ratio 1's cost of a token, a scored response and a trained pair, iteration 0 included; both over ratio"
    yield "1's to its end, and count to the arm's end where it never gets there.\n"
    yield "| arm | there in iteration | seconds | tokens | last win score minus ratio 1's |"
    yield "|---|---|---|---|---|"
    for row in rows:
        there = "never" if row["reached"] is None else row["reached"]
        yield f"| {row['arm']} | {there} | {row['seconds']:.2f} | {row['tokens']:.2f} | {row['ahead']:+.1f} |"
    yield ""
