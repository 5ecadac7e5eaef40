"""Preference training: pairs per second against TRL's DPOTrainer, from a checkpoint folder to a checkpoint folder.

Whole steps are compared: loading, tokenising (theirs), reference log-probabilities, updates, saving. The same pairs,
batch size, number of updates, loss and beta; what the trainer decides itself is left to it "as shipped".
"""

from __future__ import annotations

from experiments.bench.rows import Row, row
from experiments.bench.steps import AS_SHIPPED, BEST, our_rows, our_step, pairs_of, trl_step
from experiments.bench.timing import in_turn, rates, ratios, spread
from experiments.bench.worlds import World, variants
from optune.utils.threads import cpu_threads

GOAL = 1.5
WHY = (
    "both spend their time in the same forward and backward passes of the same batches; ours saves the second model's "
    "passes and the recomputed activations, and no more"
)
PEERS = {"as shipped": AS_SHIPPED, "our settings": BEST}


def measure(world: World, repetitions: int) -> list[Row]:
    """Against TRL as shipped (the goal), and in our settings; ours as the preset has it, and in like lengths."""
    ours = variants(world)
    with cpu_threads(world.config.threads):
        pairs = pairs_of(world)
        rows = our_rows(world)
        things = {name: lambda w=of: our_step(w, rows) for name, of in ours.items()}
        things |= {peer: lambda p=peer: trl_step(world, pairs, p == "as shipped") for peer in PEERS}
        turns_by_name = in_turn(things, repetitions)
    speed = {name: rates(turns, "pairs") for name, turns in turns_by_name.items()}
    (updates,) = {turn["updates"] for turns in turns_by_name.values() for turn in turns}  # else the rates say nothing
    training = world.config.training
    mine = f"{training.dtype}, {training.optimizer}, reference log-probabilities beforehand from the one model"
    return [
        row(
            f"preference training{name}",
            f"TRL DPOTrainer, {peer}",
            "pairs/s",
            spread(speed[name]),
            spread(speed[peer]),
            ratios(speed[name], speed[peer]),
            GOAL if peer == "as shipped" else None,
            settings={"ours": f"{mine}; batching: {of.config.training.batching}", "peer": settings},
            note=f"{len(rows)} pairs, {updates} updates on each side",
            why=WHY,
        )
        for name, of in ours.items()
        for peer, settings in PEERS.items()
    ]
