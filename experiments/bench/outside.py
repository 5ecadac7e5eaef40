"""The share of an iteration that is neither sampling, rewarding nor training: selection, pairs, and the KL estimate.

Measured on one iteration at ratio 1 at the preset's own number of prompts, since what is outside does not grow with it
as the rest does.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.bench.rows import Row, row
from experiments.bench.timing import spread
from experiments.bench.vanilla_iteration import our_iteration
from experiments.bench.worlds import World
from experiments.compute.ledger import PHASES
from optune.config import load_config
from optune.utils.threads import cpu_threads

GOAL = 0.10
WHY = "the KL estimate alone samples {responses} responses and takes {kl:.0%} of the iteration"


def measure(world: World, repetitions: int) -> list[Row]:
    """One iteration, once: with a real model, of which alone this is measured, it takes minutes."""
    own = load_config(world.name).prompts.limit
    whole = replace(world, config=world.config.with_overrides({"prompts.limit": own}))
    with cpu_threads(world.config.threads):
        turn = our_iteration(whole)
    phases = turn["phases"]
    entire = turn["seconds"] + phases["kl"]
    outside = 1 - sum(phases[stage] for stage in PHASES) / entire
    why = WHY.format(responses=world.config.kl_at_most, kl=phases["kl"] / entire)
    told = f"at {own} prompts, ratio 1"
    return [
        row(
            "share of an iteration outside sampling, rewarding, training",
            "the iteration",
            "",
            None,
            None,
            spread([outside]),
            GOAL,
            "at most",
            settings={"ours": told},
            note=told,
            why=why,
        )
    ]
