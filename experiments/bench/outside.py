"""The share of an iteration that is neither sampling, rewarding nor training: selection, pairs, and the KL estimate.

Measured at the preset's own number of prompts, since what is outside does not grow with it as the rest does: iteration
0, at ratio 1, and iteration 1, in which OPTune regenerates a part.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from experiments.bench.rows import Row, row
from experiments.bench.timing import spread
from experiments.bench.worlds import World
from experiments.compute.ledger import PHASES
from optune.config import load_config
from optune.loop.algorithm import run_optune
from optune.loop.manifest import ToldEntry
from optune.utils.threads import cpu_threads

GOAL = 0.10
WHY = "the KL estimate alone samples {responses} responses and takes {kl:.0%} of the iteration"


def measure(world: World, repetitions: int) -> list[Row]:
    """Of a real model alone, with which an iteration takes minutes."""
    own = load_config(world.name).prompts.limit
    whole = replace(world, config=world.config.with_overrides({"prompts.limit": own, "iterations": 1}))
    with cpu_threads(world.config.threads):
        turns = [_seconds_by_iteration(whole) for _ in range(repetitions)]
    ratios = ("1", f"{whole.config.selection.ratio:g}")
    return [
        _row(f"at {own} prompts, ratio {ratio}", world.config.kl_at_most, [turn[t] for turn in turns])
        for t, ratio in enumerate(ratios)
    ]


def _seconds_by_iteration(world: World) -> list[dict[str, float]]:
    """Of iteration 0 and 1, the seconds of each stage, and those between stages too in `whole`."""
    ends = [time.perf_counter()]
    seconds: list[dict[str, float]] = [{}, {}]

    def on_stage(entry: ToldEntry) -> None:
        of = seconds[entry["iteration"]]
        of[entry["stage"]] = entry["timing"]["wall_s"]
        ends.append(time.perf_counter())
        of["whole"] = of.get("whole", 0.0) + ends[-1] - ends[-2]

    with tempfile.TemporaryDirectory() as folder:
        run_optune(world.config, Path(folder) / "run", on_stage=on_stage)
    return seconds


def _row(told: str, responses: int, turns: list[dict[str, float]]) -> Row:
    outside = [1 - sum(turn[stage] for stage in PHASES) / turn["whole"] for turn in turns]
    kl = median(turn["kl"] / turn["whole"] for turn in turns)
    return row(
        f"share of an iteration outside sampling, rewarding, training, {told}",
        "the iteration",
        "",
        None,
        None,
        spread(outside),
        GOAL,
        "at most",
        settings={"ours": told},
        note=f"{len(turns)} turns",
        why=WHY.format(responses=responses, kl=kl),
    )
