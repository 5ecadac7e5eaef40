"""Preference training: pairs per second against TRL's DPOTrainer, from a checkpoint folder to a checkpoint folder.

Whole steps are compared: loading, tokenising (theirs), reference log-probabilities, updates, saving. The same pairs,
batch size, number of updates, loss and beta; what the trainer decides itself is left to it "as shipped".
"""

from __future__ import annotations

from dataclasses import replace

from experiments.bench.rows import Row, compared
from experiments.bench.sampling import ARITHMETIC
from experiments.bench.steps import AS_SHIPPED, BEST, our_rows, our_step, pairs_of, trl_step
from experiments.bench.timing import in_turn, rates, shares_of
from experiments.bench.worlds import World, variants
from optune.utils.threads import cpu_threads

GOAL = 1.5
GOAL_REAL = 2.0
GOAL_BF16 = 2.5  # against our own fp32, where the world trains in bf16
WHY = (
    "both spend their time in the same forward and backward passes of the same batches; ours saves the second model's "
    "passes and the recomputed activations"
)
PEERS = {"as shipped": AS_SHIPPED, "our settings": BEST}
WHY_BF16 = (
    "{products:.0%} of the step's time in bf16 is matrix products and {attention:.0%} attention (torch's profiler), "
    "which bf16 makes faster; the rest is not: the optimizer's step over fp32 weights, casts, and small operations "
    "(compiling the decoder's layers, tried in turn with this, gained nothing beyond the turns' own spread)"
)


def measure(world: World, repetitions: int) -> list[Row]:
    """Against TRL as shipped (the goal), and in our settings; ours as the preset has it, and in like lengths.

    Where the world trains in bf16, ours is also measured against itself in fp32.
    """
    ours = variants(world)
    lower = world.config.training.dtype == "bfloat16"
    with cpu_threads(world.config.threads):
        pairs = pairs_of(world)
        rows = our_rows(world)
        things = {name: lambda w=of: our_step(w, rows) for name, of in ours.items()}
        things |= {peer: lambda p=peer: trl_step(world, pairs, p == "as shipped") for peer in PEERS}
        if lower:
            whole = replace(world, config=world.config.with_overrides({"training.dtype": "float32"}))
            things["float32"] = lambda: our_step(whole, rows)
        turns_by_name = in_turn(things, repetitions, world.warm_up)
        shares = shares_of(things[""], ARITHMETIC) if lower else {}
    speed = {name: rates(turns, "pairs") for name, turns in turns_by_name.items()}
    (updates,) = {turn["updates"] for turns in turns_by_name.values() for turn in turns}  # else the rates say nothing
    training = world.config.training
    mine = f"{training.dtype}, {training.optimizer}, reference log-probabilities beforehand from the one model"
    of_bf16 = [_against_fp32(world, speed, shares)] if lower else []
    return of_bf16 + [
        compared(
            f"preference training{name}",
            f"TRL DPOTrainer, {peer}",
            "pairs/s",
            speed[name],
            speed[peer],
            (GOAL_REAL if world.real else GOAL) if peer == "as shipped" else None,
            settings={"ours": f"{mine}; batching: {of.config.training.batching}", "peer": settings},
            note=f"{len(rows)} pairs, {updates} updates on each side",
            why=WHY,
        )
        for name, of in ours.items()
        for peer, settings in PEERS.items()
    ]


def _against_fp32(world: World, speed: dict[str, list[float]], shares: dict[str, float]) -> Row:
    """Ours in bf16 over ours in fp32."""
    return compared(
        "preference training, bfloat16",
        "itself, float32",
        "pairs/s",
        speed[""],
        speed["float32"],
        GOAL_BF16 if world.real else None,
        settings={"ours": "bf16 autocast over fp32 weights", "peer": "the same in fp32"},
        why=WHY_BF16.format(**shares),
    )
