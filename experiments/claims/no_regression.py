"""Does an online policy of the real model fall behind its start policy on the paper's benchmarks (Table 3)?

The rule, committed before any trained policy was measured. Of ratio 1, OPTune at 0.7 and random at 0.7 (wDPO, one seed
of each build): the average over the four benchmarks minus the start policy's, on the same items. Its 95% interval comes
from each benchmark's, in which seeds and items are both resampled, as the benchmarks' items are independent. With a
margin of 2 points: `contradicted` if any policy's interval lies below 0, `replicated` if all lie above -2, else
`inconclusive`; fewer seeds are a preview.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.stats import crossed_bootstrap
from optune.types import UserError

MARGIN = 2.0  # points of the average
SEEDS = 3
STATEMENT = "No online policy falls behind the start policy on the benchmarks' average."


def against_start(finals: Sequence[dict[str, Any]], start: dict[str, Any]) -> dict[str, dict[str, float]]:
    """By column, and as `average`: points that policies of several seeds are ahead of the start policy, with limits.

    Arguments: `models` of raw results, each `{"columns": {name: {"items": [...], "asked": hash}}}`.
    """
    ahead = {}
    for name, column in start["columns"].items():
        if {final["columns"][name]["asked"] for final in finals} != {column["asked"]}:
            raise UserError(f"{name}: the policies were not asked the same items; measure them on the same data.")
        rows = [100 * np.subtract(final["columns"][name]["items"], column["items"]) for final in finals]
        rows = rows if len(rows) > 1 else rows * 2  # of one seed, items alone are resampled
        interval = crossed_bootstrap(rows, resamples=2000)
        ahead[name] = {"mean": interval.estimate, "low": interval.low, "high": interval.high}
    mean = sum(value["mean"] for value in ahead.values()) / len(ahead)
    limits = {}
    for limit in ("low", "high"):
        limits[limit] = math.sqrt(sum((value[limit] - value["mean"]) ** 2 for value in ahead.values())) / len(ahead)
    average = {"mean": mean, "low": mean - limits["low"], "high": mean + limits["high"]}
    return {**ahead, "average": average}


def verdict(averages: Sequence[dict[str, float]], seeds: int) -> str:
    """By the rule, from each policy's `average`."""
    if seeds < SEEDS:
        return "preview: no verdict"
    if any(average["high"] < 0 for average in averages):
        return "contradicted"
    return "replicated" if all(average["low"] > -MARGIN for average in averages) else "inconclusive"
