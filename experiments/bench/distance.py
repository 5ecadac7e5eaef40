"""How much of the machine's arithmetic and memory speed training and sampling use, and what limits them.

Operations: 2 x parameters per token in a forward pass, 4 x parameters more in a backward pass. Padding is not counted,
nor are input embeddings, which are only looked up; the output layer is. Bytes in sampling: the weights once per step,
and each step's keys and values read once. `arithmetic` is the share of our time that torch's profiler finds inside
matrix products and attention; the rest is smaller operations and Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import AutoModelForCausalLM

from experiments.bench import machine
from experiments.bench.rows import Row, row
from experiments.bench.sampling import ARITHMETIC, ours
from experiments.bench.steps import our_rows, our_step
from experiments.bench.timing import Found, in_turn, shares_of, spread
from experiments.bench.worlds import World
from optune.generate.prepare import prepare
from optune.utils.checkpoints import load_model
from optune.utils.threads import cpu_threads

FULL_SIZE = 2048  # of the matrices; less for a try


def measure(world: World, repetitions: int) -> list[Row]:
    """The machine's limits, then training and sampling as shares of them."""
    with cpu_threads(world.config.threads):
        limits = machine.limits(FULL_SIZE if repetitions > 1 else FULL_SIZE // 8, repetitions)
        rows = [
            row(f"machine: {said}", "none", unit, limits[name], None, None)
            for name, said, unit in (
                ("matmul_float32", "matrix product, fp32", "GFLOP/s"),
                ("matmul_bfloat16", "matrix product, bf16", "GFLOP/s"),
                ("copy", "memory, read and written", "GB/s"),
            )
        ]
        peak, memory = limits["matmul_float32"]["median"], limits["copy"]["median"]
        return [*rows, _training(world, peak, repetitions), *_sampling(world, peak, memory, repetitions)]


def _training(world: World, peak: float, repetitions: int) -> Row:
    rows = our_rows(world)
    tokens = sum(2 * len(r["prompt_ids"]) + len(r["chosen_ids"]) + len(r["rejected_ids"]) for r in rows)
    turns = in_turn({"step": lambda: our_step(world, rows)}, repetitions)["step"]
    flops = 2 * world.parameters * tokens * (1 + 3)  # the reference's pass; forward and twice that backward
    rates = [flops / turn["seconds"] / 1e9 for turn in turns]
    share = _arithmetic(lambda: our_step(world, rows))
    return _utilisation("training", "fp32 matrix product", "GFLOP/s", rates, peak, share)


def _sampling(world: World, peak: float, memory: float, repetitions: int) -> list[Row]:
    settings = world.config.sampling()
    network = load_model(AutoModelForCausalLM, world.config.policy.model, dtype=settings.dtype)
    start = prepare(world.config.policy.model, world.prompts, settings)
    turns = in_turn({"sample": lambda: ours(network, world, settings)}, repetitions)["sample"]
    prompts, sampled = sum(map(len, start.ids)), turns[0]["tokens"]
    flops = 2 * world.parameters * (prompts + sampled)
    moved = _bytes(network, start.ids, settings, sampled)
    share = _arithmetic(lambda: ours(network, world, settings))
    limits = (("fp32 matrix product", "GFLOP/s", flops, peak), ("memory bandwidth", "GB/s", moved, memory))
    rows = []
    for kind, unit, work, limit in limits:
        reached = [work / turn["seconds"] / 1e9 for turn in turns]
        rows.append(_utilisation("sampling", kind, unit, reached, limit, share))
    return rows


def _bytes(network: Any, ids: list[list[int]], settings: Any, sampled: int) -> float:
    """The weights at each step of each batch (at most max_new_tokens); keys and values, half a response on average."""
    config = network.config
    batches = -(-len(ids) * settings.n // settings.batch_size)
    weights = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    width = 2 * config.num_hidden_layers * heads * (config.hidden_size // config.num_attention_heads) * 4
    context = sum(map(len, ids)) / len(ids) + sampled / len(ids) / settings.n / 2
    return weights * batches * settings.max_new_tokens + sampled * context * width


def _arithmetic(thing: Callable[[], Found]) -> float:
    """The share of a run's own time inside matrix products and attention, forward and backward."""
    return min(1.0, sum(shares_of(thing, ARITHMETIC).values()))


def _utilisation(what: str, limit: str, unit: str, rates: list[float], peak: float, arithmetic: float) -> Row:
    return row(
        f"{what}: use of the machine",
        limit,
        unit,
        spread(rates),
        {"median": peak, "low": peak, "high": peak, "n": 1},
        spread([rate / peak for rate in rates]),
        note=f"{arithmetic:.0%} of its time is inside matrix products and attention; the rest is what bounds it: "
        "smaller operations, data and Python",
    )
