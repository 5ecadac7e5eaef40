"""What written prompts cost, before a run: reference answers sampled and rewarded, and the prompt writer's calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optune.config import RunConfig
from optune.plan.cost_model import Lengths, answering_once, generation_seconds, rewarding_seconds
from optune.plan.hardware import Machine, shape_of
from optune.prompts.writer import make_writer

# Around a record (its JSON), around all of them (the instruction), and around a written prompt, in tokens.
RECORD_TOKENS, INSTRUCTION_TOKENS, LINE_TOKENS = 25, 250, 15
SHP_CATEGORIES, SANDBOX_FAMILIES = 18, 16  # of the reference sets that the recipes name


@dataclass(frozen=True)
class WriterCost:
    """All iterations of a run: calls, tokens and price of the writer, tokens of reference answers and their seconds.

    At most: a source that asks its start policy alone answers once, and one that asks none does not. Seconds are None
    where the machine is not known, categories where only the data would tell them.
    """

    calls: int
    tokens_in: float
    tokens_out: float
    price: float | None
    reference_tokens: float
    reference_seconds: float | None


def writer_cost(
    config: RunConfig,
    lengths: Lengths,
    prices: Mapping[str, Mapping[str, float]],
    machine: Machine | None = None,
    gpus: int = 1,
    categories: int = SHP_CATEGORIES,
) -> WriterCost | None:
    """None for a run without a writer. `categories`: of the reference set; `prices`: per million tokens."""
    options = config.prompts.synthetic
    if options is None:
        return None
    iterations, asked = config.iterations + 1, config.prompts.limit or 0
    shown = options.questions_per_category * categories
    calls = options.draws * iterations
    tokens_in = calls * (INSTRUCTION_TOKENS + shown * (RECORD_TOKENS + lengths.both))
    tokens_out = calls * min(options.prompts_per_draw * (LINE_TOKENS + lengths.prompt), options.writer.max_tokens)
    chat = make_writer(options.writer).chat  # which knows when it is free
    own = (chat.price_in, chat.price_out)
    listed = prices.get(chat.model)
    if None in own and listed:
        own = listed["price_in"], listed["price_out"]
    rates = None if None in own else own
    price = (tokens_in * rates[0] + tokens_out * rates[1]) / 1e6 if rates else None
    seconds = _reference_seconds(config, machine, asked / gpus, lengths) * iterations if machine else None
    return WriterCost(calls, tokens_in, tokens_out, price, iterations * asked * lengths.response, seconds)


def _reference_seconds(config: RunConfig, machine: Machine, prompts: float, lengths: Lengths) -> float:
    """One answer to each reference prompt, sampled and rewarded."""
    once = answering_once(config)
    engine, batch = config.generation.engine, config.generation.batch_size
    seconds = generation_seconds(shape_of(config.policy.model), once, machine, prompts, lengths, engine, batch)
    if config.reward.model:
        seconds += rewarding_seconds(shape_of(config.reward.model), machine, prompts, lengths)
    return seconds


def told(cost: WriterCost, model: str | None) -> str:
    """The plan's lines on it."""
    price = f"price unknown: {model} is in no --prices file" if cost.price is None else f"about {cost.price:,.2f}"
    sampling = "" if cost.reference_seconds is None else f", {cost.reference_seconds / 3600:.2f} hours"
    return (
        f"Prompt writer {model}, all iterations, at most: {cost.calls:,} calls, {cost.tokens_in:,.0f} tokens in, "
        f"{cost.tokens_out:,.0f} out; {price}.\n"
        f"Reference answers, at most: {cost.reference_tokens:,.0f} tokens{sampling}."
    )
