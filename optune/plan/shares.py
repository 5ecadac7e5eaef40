"""Where an iteration's time goes beside the paper's Table 1, in the paper's way and in ours, and what selection gains.

The paper's way, as far as it tells: plain batched generation, and pairs trained as TRL ships it, in two rows that both
have the prompt. Ours: the configuration's own training, with an engine of ours. Either is spread evenly over all GPUs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from optune.config import RunConfig
from optune.plan.cost_model import PHASES, Lengths, Spread, StageCost, plan_run, shares
from optune.plan.hardware import Machine, shape_of

TABLE_1 = {"generation": 0.718, "rewarding": 0.001, "training": 0.281}  # of the paper, on 8 x A100 80 GB
WITHIN = 0.25  # of a share, relatively
RATIOS = (0.3, 0.5, 0.7)
PLAIN_BATCHES = (8, 16, 24, 32, 48, 64, 96, 128)
BATCH = 256  # rows of the engines that are not plain
AS_SHIPPED = ("batching", "micro_batch_tokens", "fresh_reference", "lora")  # of `training`: what TRL has not, or not on


def plain_batch(config: RunConfig, gpus: int) -> int:
    """Rows of a plain `model.generate` call on one GPU: both responses of an update's pairs, shared out.

    The paper gives its training batch and 8 GPUs, and of generation only that its batch suits the GPUs. Nothing is
    fitted to Table 1.
    """
    return max(1, 2 * config.training.batch_size // gpus)


def engine_shares(
    config: RunConfig, machine: Machine, gpus: int, prompts: int, lengths: Lengths, engine: str, batch: int
) -> dict[str, float]:
    """Each phase's share of a run at ratio 1, as in Table 1: in the paper's way with engine `plain`, else in ours."""
    return shares(_stages(config, machine, gpus, prompts, lengths, engine, batch))


def _stages(
    config: RunConfig, machine: Machine, gpus: int, prompts: int, lengths: Lengths, engine: str, batch: int
) -> list[StageCost]:
    changes: dict[str, Any] = {"selection": {"strategy": "all", "ratio": 1.0}}
    if engine == "plain":
        changes |= {f"training.{name}": None for name in AS_SHIPPED}
    return plan_run(config.with_overrides(changes), machine, prompts, lengths, Spread.even(gpus), engine, batch)


def speedups(share: dict[str, float]) -> list[float]:
    """How many times as fast an iteration at each of RATIOS is, next to one at ratio 1 with these shares."""
    saved = share["generation"] + share["rewarding"]
    return [1 / (1 - saved * (1 - ratio)) for ratio in RATIOS]


def met(share: dict[str, float]) -> list[str]:
    """The phases whose share is within WITHIN of Table 1's."""
    return [phase for phase in PHASES if abs(share[phase] - TABLE_1[phase]) <= WITHIN * TABLE_1[phase]]


def least_rewarding(config: RunConfig, machine: Machine, gpus: int, prompts: int, lengths: Lengths) -> float:
    """The smallest share that rewarding can have in a run with plain generation: its operations at the GPU's peak."""
    stages = _stages(config, machine, gpus, prompts, lengths, "plain", plain_batch(config, gpus))
    total = sum(stage.seconds for stage in stages if stage.stage in PHASES) * (1 - shares(stages)["rewarding"])
    responses = prompts * config.generation.n * (config.iterations + 1) / gpus
    least = shape_of(config.reward.model).flops(responses * lengths.both, lengths.both / 2) / machine.peak
    return least / (least + total)


def shares_told(config: RunConfig, machine: Machine, gpus: int, prompts: int, lengths: Lengths) -> str:
    """Shares and gains by engine as a table, what of Table 1 is met, and on which assumptions."""

    def of(engine: str, batch: int) -> dict[str, float]:
        return engine_shares(config, machine, gpus, prompts, lengths, engine, batch)

    own = plain_batch(config, gpus)
    rows = {("plain", b): of("plain", b) for b in sorted({own // 2 or 1, own, 2 * own})}
    rows |= {(engine, BATCH): of(engine, BATCH) for engine in ("hf", "vllm")}
    lines = [
        "Shares of an iteration at ratio 1, and how much faster an iteration at a smaller ratio is. plain: the paper's "
        "way, trained as TRL ships it, two rows a pair; hf, vllm: trained as configured here, "
        f"{'two rows' if config.training.batching is None else 'one row'} a pair. All phases on all {gpus} GPU(s).",
        row("engine, rows in a batch", *PHASES, *(f"at {ratio:g}" for ratio in RATIOS)),
    ]
    for (engine, batch), planned in rows.items():
        cells = [*(f"{planned[phase]:.1%}" for phase in PHASES), *(f"{gain:.2f}" for gain in speedups(planned))]
        lines.append(row(f"{engine}, {batch}", *cells))
    lines.append(row("the paper's Table 1", *(f"{share:.1%}" for share in TABLE_1.values())))
    lines += [_met(rows["plain", own], own, {b: of("plain", b) for b in PLAIN_BATCHES})]
    if "rewarding" not in met(rows["plain", own]) and config.reward.model:
        least = least_rewarding(config, machine, gpus, prompts, lengths)
        lines.append(
            f"Rewarding at {TABLE_1['rewarding']:.1%} is out of reach for a reward model of this size: one forward "
            f"pass over every response is {least:.1%} of that time even at the GPU's peak."
        )
    lines += [_gains(rows["plain", own], rows["vllm", BATCH]), _plain(config, machine, own)]
    return "\n".join(lines)


def _met(share: dict[str, float], batch: int, by_batch: dict[int, dict[str, float]]) -> str:
    cells = {phase: f"{phase} ({share[phase]:.1%}, Table 1 {TABLE_1[phase]:.1%})" for phase in PHASES}
    inside = met(share)
    good = [b for b, shares_of in by_batch.items() if {"generation", "training"} <= set(met(shares_of))]
    span = f"; generation and training both are from {good[0]} to {good[-1]} rows" if good else ""
    return (
        f"Plain, {batch} rows: within {WITHIN:.0%} of Table 1 are {_listed([cells[p] for p in inside])}; "
        f"not {_listed([cells[p] for p in PHASES if p not in inside])}{span}."
    )


def _gains(plain: dict[str, float], vllm: dict[str, float]) -> str:
    ratios = ", ".join(f"{ratio:g}" for ratio in RATIOS)
    with_plain, with_vllm = (_two_decimals(speedups(share)) for share in (plain, vllm))
    return (
        f"So selection at {ratios} makes an iteration {with_plain} times as fast with plain batched generation, "
        f"and {with_vllm} times with vLLM and our training, where little is left to save."
    )


def _two_decimals(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _plain(config: RunConfig, machine: Machine, batch: int) -> str:
    return (
        f"Plain batched generation is: padded `model.generate` calls of {batch} rows on each GPU "
        f"(an update's {config.training.batch_size} pairs, shared out), every row decoded for the longest one's "
        f"{config.generation.max_new_tokens} tokens, no prompt shared between responses, a layer's kernels launched "
        f"one by one ({machine.launch_s * 1e3:g} ms at least). The paper states GPUs, training batch, lengths and that "
        "batches suit the GPUs (Table 1's caption, Section 4.1); utilisations and launch time are our assumptions."
    )


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(parts) if parts else "none"


def row(label: str, *cells: str) -> str:
    """A line of a plan's tables."""
    return f"  {label:26s}" + "".join(f"{cell:>12s}" for cell in cells)
