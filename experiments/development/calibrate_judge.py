"""Fits the sandbox judge's noise to how real GPT-4 replies behave, once, before the sandbox is frozen.

    python -m experiments.development.calibrate_judge --outputs SFT.json ... --baseline BASELINE.json ...

The aim is four shares of 1,030 prompts judged by GPT-4 in both orders; the golds are those of development answers, one
pair of files per build. Prompts that both answered with the same words are left out, since the real pairs have none.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from eval.judges.sandbox import JudgeNoise, rate
from eval.verdicts import from_scores, summarize
from eval.win_score import Contest, match, read_outputs
from optune.sandbox import gold
from optune.types import UserError

TARGETS = {
    "reply_tie_share": 0.13,  # of replies
    "flip_share": 0.14,  # of prompts: opposite verdicts in the two orders
    "unequal_share": 0.24,  # of prompts: different ones
    "first_position_share": 0.50,  # of decided replies
}
GRID = {
    "grid": (0.5, 1.0),
    "answer_sd": (0.0, 0.25, 0.5, 1.0, 1.5),
    "call_rate": (0.2, 0.3, 0.4, 0.5, 0.7, 1.0),
    "call_sd": (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0),
}


def shares(contests: Sequence[Contest], golds: Sequence[tuple[float, float]], noise: JudgeNoise) -> dict[str, Any]:
    """The four shares, and counts, that a judge with this noise has on these prompts."""
    verdicts = []
    for contest, (test, base) in zip(contests, golds, strict=True):
        ab = rate(noise, (contest.instruction, contest.answer, contest.baseline), test, base)
        ba = rate(noise, (contest.instruction, contest.baseline, contest.answer), base, test)
        verdicts.append(from_scores(contest.prompt_id, ab, ba[::-1]))
    return summarize(verdicts, interval=False)


def distance(habits: dict[str, Any]) -> float:
    """Sum of squared differences from the targets."""
    return sum((habits[name] - target) ** 2 for name, target in TARGETS.items())


def calibrate(
    contests: Sequence[Contest], golds: Sequence[tuple[float, float]], start: JudgeNoise | None = None
) -> tuple[JudgeNoise, dict[str, Any]]:
    """The noise on `GRID` whose shares come closest to `TARGETS`, and its shares.

    golds: (test, baseline) per contest. Coarse search on up to 400 prompts, then the best ten on all of them. The grid
    is searched as it is, without a local refinement: finer values would fit the sample, not the judge.
    """
    start = start or JudgeNoise()
    few = slice(0, 400)
    candidates = [
        replace(start, **dict(zip(GRID, values, strict=True))) for values in itertools.product(*GRID.values())
    ]
    candidates.sort(key=lambda noise: distance(shares(contests[few], golds[few], noise)))
    best = min(candidates[:10], key=lambda noise: distance(shares(contests, golds, noise)))
    return best, shares(contests, golds, best)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.development.calibrate_judge", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--outputs", required=True, nargs="+", help="answers at development seeds, a file per build")
    parser.add_argument("--baseline", required=True, nargs="+", help="the baseline's answers, in the same order")
    args = parser.parse_args(argv)
    try:
        pairs = zip(args.outputs, args.baseline, strict=True)
        matched = (match(read_outputs(o), read_outputs(b), allow_empty=True) for o, b in pairs)
        contests = [c for build in matched for c in build if c.answer != c.baseline]
        golds = [(gold(c.instruction, c.answer), gold(c.instruction, c.baseline)) for c in contests]
        noise, habits = calibrate(contests, golds)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    shown = {"noise": asdict(noise), "prompts": len(contests), "shares": {n: habits[n] for n in TARGETS}}
    print(json.dumps({**shown, "targets": TARGETS}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
