"""Sampling: tokens per second of our `hf` engine against one plain `model.generate` call.

Both start from a loaded model and the prompts' text and end with the responses' text, in the same precision. Tokens are
those sampled up to and with a response's end; what `generate` goes on to pad is none. Ours gives log-probabilities too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from experiments.bench.rows import Row, compared
from experiments.bench.timing import Found, in_turn, rates, shares_of
from experiments.bench.worlds import World
from optune.generate.hf import answer
from optune.generate.prepare import prepare
from optune.utils.checkpoints import load_model
from optune.utils.precision import fast_dtype
from optune.utils.threads import cpu_threads

GOAL = 2.5
GOAL_REAL = 4.0  # of a real vocabulary
WHY = (
    "computing each prompt once and letting ended rows leave saves most token positions; of the time that is left, "
    "{products:.0%} is matrix products and {attention:.0%} attention (torch's profiler), the rest small operations, "
    "which shrink less than the positions do; a faster attention kernel would change the frozen results' last bits"
)
WHY_REAL = (
    "of our time {products:.0%} is matrix products and {attention:.0%} attention (torch's profiler), the rest small "
    "operations; weights packed once for the processor's matrix unit and attention by plain products were tried in "
    "turn with this (four turns each) and gained nothing beyond the turns' own spread of a quarter"
)
ARITHMETIC = {
    "products": ("aten::mm", "aten::addmm", "aten::bmm", "linear", "mkldnn"),
    "attention": ("attention",),
}


def measure(world: World, repetitions: int) -> list[Row]:
    """In fp32, and in bf16 where the machine has it; with the other sampler too where the preset leaves it out."""
    rows = [_row(world, dtype, repetitions) for dtype in dict.fromkeys(("float32", fast_dtype()))]
    if world.config.generation.sampler is None:
        fast = replace(world, config=world.config.with_overrides({"generation.sampler": "inverse_cdf"}))
        rows.append(_row(fast, settings_dtype(world), repetitions, ", inverse_cdf"))
    return rows


def _row(world: World, dtype: str, repetitions: int, added: str = "") -> Row:
    settings = world.config.sampling().model_copy(update={"dtype": dtype})
    network = load_model(AutoModelForCausalLM, world.config.policy.model, dtype=dtype)
    with cpu_threads(world.config.threads):
        things = {"ours": lambda: ours(network, world, settings), "plain": lambda: plain(network, world, settings)}
        turns_by_name = in_turn(things, repetitions)
        shares = shares_of(things["ours"], ARITHMETIC)
    tokens = {name: rates(turns, "tokens") for name, turns in turns_by_name.items()}
    peer = "one call of all prompts, padded on the left, num_return_sequences, KV cache, do_sample, top_k=0"
    return compared(
        f"sampling, {dtype}{added}",
        "plain `model.generate`",
        "tokens/s",
        tokens["ours"],
        tokens["plain"],
        (GOAL_REAL if world.real else GOAL) if dtype == settings_dtype(world) else None,
        settings={"ours": f"engine hf, {settings.batch_size} rows a batch, sampler {settings.sampler}", "peer": peer},
        why=why(world, shares),
    )


def why(world: World, shares: dict[str, float]) -> str:
    """Why the goal may be missed in this world; shares: of our time, by ARITHMETIC."""
    return (WHY_REAL if world.real else WHY).format(**shares)


def settings_dtype(world: World) -> str:
    """The preset's own precision: the one that the goal is about."""
    return world.config.generation.dtype


def ours(network: Any, world: World, settings: Any) -> Found:
    """Our engine, from text to responses."""
    start = prepare(world.config.policy.model, world.prompts, settings)
    drawn = answer(network, start, world.prompts, settings, seed=0, iteration=0)
    return {"tokens": sum(len(response.token_ids) for response in drawn)}


@torch.inference_mode()
def plain(network: Any, world: World, settings: Any, **options: Any) -> Found:
    """transformers' `generate`, from text to texts; `options` are further ones of its own."""
    start = prepare(world.config.policy.model, world.prompts, settings)
    padded = start.tokenizer.pad({"input_ids": start.ids}, padding_side="left", return_tensors="pt").to(network.device)
    drawn = network.generate(
        **padded,
        do_sample=True,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=0,
        max_new_tokens=settings.max_new_tokens,
        num_return_sequences=settings.n,
        use_cache=True,
        **options,
    )[:, padded["input_ids"].shape[1] :]
    start.tokenizer.batch_decode(drawn, skip_special_tokens=True)
    stops = torch.isin(drawn, torch.tensor(sorted(start.stop), device=drawn.device)).long()
    return {"tokens": int((stops.cumsum(-1) - stops == 0).sum())}  # up to and with the first end token
