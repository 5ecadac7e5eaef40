"""Alternatives that we measured and did not adopt: other ways to sample and to train on this machine.

Sampling: our engine compiled, our engine in bf16, transformers' continuous batching and its static cache. Training:
micro-batches by tokens, and bf16. Of a real model: the sampler that its preset replaces, micro-batches of other sizes,
and reference log-probabilities from the sampler. They have no goals: a ratio above 1 means that the presets' way is
faster here, a ratio below 1 that the alternative is. Compiling takes minutes, so this is measured only on request.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import wraps
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

from experiments.bench.rows import Row, compared, not_measured
from experiments.bench.sampling import ours, plain
from experiments.bench.steps import our_rows, our_step
from experiments.bench.timing import Found, in_turn, rates
from experiments.bench.worlds import Options, World
from optune.generate import hf
from optune.generate.prepare import prepare
from optune.utils.checkpoints import load_model
from optune.utils.command import one_line
from optune.utils.threads import cpu_threads

CONTINUOUS, STATIC = "transformers' continuous batching", "`model.generate` with a static cache"
ROWS_AT_ONCE, BLOCKS = 512, 4096  # of continuous batching: our engine's rows at once, and room for them
OTHER_SAMPLER = "itself, noise for every token of the vocabulary"
TRAINING: Options = {
    "micro-batches of 2,048 tokens": {"training.batching": "token_budget", "training.micro_batch_tokens": 2048},
    "bfloat16": {"training.dtype": "bfloat16"},
}
FRESH_REFERENCE = "reference of fresh responses from the sampler"
TRAINING_REAL: Options = {
    "micro-batches of 8 pairs": {"training.micro_batch_size": 8},
    "micro-batches of 2,048 tokens": TRAINING["micro-batches of 2,048 tokens"],
    FRESH_REFERENCE: {"training.fresh_reference": "sampler"},
}


def measure(world: World, repetitions: int) -> list[Row]:
    """Ours over each alternative, sampling first."""
    with cpu_threads(world.config.threads):
        if world.real:
            return [_other_sampler(world, repetitions), *_training(world, repetitions, TRAINING_REAL)]
        return [*_sampling(world, min(repetitions, 3)), *_training(world, repetitions, TRAINING)]


def _other_sampler(world: World, repetitions: int) -> Row:
    settings = world.config.sampling()
    network = load_model(AutoModelForCausalLM, world.config.policy.model, dtype=settings.dtype)
    other = settings.model_copy(update={"sampler": None})
    things = {"ours": lambda: ours(network, world, settings), "other": lambda: ours(network, world, other)}
    speed = {name: rates(turns, "tokens") for name, turns in in_turn(things, repetitions).items()}
    told = {"ours": f"sampler {settings.sampler}", "peer": "the default sampler, heads' keys and values copied"}
    return compared("sampling, engine hf", OTHER_SAMPLER, "tokens/s", speed["ours"], speed["other"], settings=told)


def _sampling(world: World, repetitions: int) -> list[Row]:
    settings = world.config.sampling()
    network, compiled, lower = (
        load_model(AutoModelForCausalLM, world.config.policy.model, dtype=dtype)
        for dtype in (settings.dtype, settings.dtype, "bfloat16")
    )
    halved = settings.model_copy(update={"dtype": "bfloat16"})
    things = {
        "ours": lambda: ours(network, world, settings),
        "bfloat16": lambda: ours(lower, world, halved),
        CONTINUOUS: lambda: continuous(network, world, settings),
        STATIC: lambda: plain(network, world, settings, cache_implementation="static"),
    }
    first = _compile(compiled, world, settings)
    if isinstance(first, float):
        things["compiled"] = lambda: _ours_compiled(compiled, world, settings)
    speed = {name: rates(turns, "tokens") for name, turns in in_turn(things, repetitions).items()}
    peers = {
        "itself, compiled": f"torch.compile, dynamic shapes; the first turn took {first:.0f} s"
        if speed.get("compiled")
        else "",
        "itself, bfloat16": "weights and activations",
        CONTINUOUS: f"generate_batch, {ROWS_AT_ONCE} tokens at once, {BLOCKS} blocks",
        STATIC: "one call of all prompts",
    }
    return [_row("sampling, engine hf", peer, "tokens/s", speed, said, str(first)) for peer, said in peers.items()]


def _compile(network: Any, world: World, settings: Any) -> float | str:
    """Compiles a network's forward pass in a first turn: its seconds, or why it cannot be done."""
    network.forward = wraps(network.forward)(torch.compile(network.forward, dynamic=True))
    started = time.perf_counter()
    try:
        _ours_compiled(network, world, settings)
    except TorchDynamoException as error:
        return f"torch.compile fails: {one_line(str(error))[:200]}"
    return time.perf_counter() - started


def _ours_compiled(network: Any, world: World, settings: Any) -> Found:
    """Our engine without inference mode, whose tensors compiled code does not take."""
    decode = hf.decode
    hf.decode = torch.no_grad()(decode.__wrapped__)
    try:
        return ours(network, world, settings)
    finally:
        hf.decode = decode


def continuous(network: Any, world: World, settings: Any) -> Found:
    """transformers' own continuous batching, from text to texts; a prompt is computed once per response."""
    start = prepare(world.config.policy.model, world.prompts, settings)
    asked = GenerationConfig(
        do_sample=True,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=0,
        max_new_tokens=settings.max_new_tokens,
        eos_token_id=sorted(start.stop),
        pad_token_id=start.tokenizer.pad_token_id,
    )
    drawn = network.generate_batch(
        [ids for ids in start.ids for _ in range(settings.n)],
        generation_config=asked,
        continuous_batching_config=ContinuousBatchingConfig(max_batch_tokens=ROWS_AT_ONCE, num_blocks=BLOCKS),
        progress_bar=False,
    )
    tokens = [answer.generated_tokens for answer in drawn.values()]
    start.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return {"tokens": sum(map(len, tokens))}


def _training(world: World, repetitions: int, options: Options) -> list[Row]:
    worlds = {"ours": world}
    for name, changes in options.items():
        worlds[name] = replace(world, config=world.config.with_overrides(changes))
    usual = our_rows(world)
    rows = {name: our_rows(of) if name == FRESH_REFERENCE else usual for name, of in worlds.items()}
    things = {name: lambda w=of, r=rows[name]: our_step(w, r) for name, of in worlds.items()}
    turns_by_name = in_turn(things, repetitions, world.warm_up)
    speed = {name: rates(turns, "pairs") for name, turns in turns_by_name.items()}
    rows_of = []
    for name, changes in options.items():
        said = ", ".join(f"{option}={value}" for option, value in changes.items())
        mismatch = turns_by_name[name][-1].get("mismatch")
        note = f"sampler and trainer differ by {mismatch:.2f} nats a response" if mismatch is not None else ""
        rows_of.append({**_row("preference training", f"itself, {name}", "pairs/s", speed, said), "note": note})
    return rows_of


def _row(what: str, peer: str, unit: str, speed: dict[str, list[float]], said: str, why: str = "") -> Row:
    mine, theirs = speed["ours"], speed.get(peer.removeprefix("itself, "))
    if theirs is None:
        return not_measured(what, peer, unit, None, why)
    settings = {"ours": "the preset's settings", "peer": said}
    return compared(what, peer, unit, mine, theirs, settings=settings)
