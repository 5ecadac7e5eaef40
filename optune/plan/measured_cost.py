"""What runs did cost, as a model of what others will: fitted to the ledgers of raw results, with its own error.

Seconds of a phase are taken to be a start plus a rate times the operations of its forward passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from optune.config import RunConfig
from optune.plan.cost_model import (
    PHASES,
    Lengths,
    StageCost,
    answering_once,
    expected_lengths,
    fresh_prompts,
    kl_prompts_of,
    pair_flops,
    training_pairs,
    validation_of,
)
from optune.plan.hardware import shape_of


def measured(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Raw results as rows of arm, phase, operations (`work`) and `seconds`: one per seed, phase and iteration after 0.

    Iterations that sampled nothing are left out. `tokens` and `responses` of the iteration stand beside.
    """
    rows = []
    for result in results:
        config = RunConfig.model_validate(result["config"])
        for iteration, times in zip(result["iterations"][1:], result["timing"]["ledger"][1:], strict=True):
            counts = iteration["stages"]
            responses, pairs = counts["generate"]["responses"], counts["pairs"]["pairs"]
            if not responses:
                continue
            lengths = expected_lengths(config, response=times["tokens"] / responses)
            work = operations(config, counts["generate"]["prompts"], pairs, lengths)
            common = {"arm": result["arm"], "responses": responses, "tokens": times["tokens"]}
            rows += [{**common, "phase": p, "work": work[p], "seconds": times[f"{p}_s"]} for p in PHASES]
    return rows


def operations(config: RunConfig, fresh: int, pairs: float, lengths: Lengths) -> dict[str, float]:
    """Operations of an iteration's forward passes, by phase (what else training does is in its rate)."""
    policy, context = shape_of(config.policy.model), lengths.both / 2
    responses = fresh * config.generation.n
    reward = shape_of(config.reward.model) if config.reward.model else policy
    return {
        "generation": policy.flops(fresh * lengths.prompt + responses * lengths.response, context),
        "rewarding": reward.flops(responses * lengths.both, context),
        "training": config.training.epochs * pairs * pair_flops(policy, config, lengths),
    }


def ledger_errors(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Median relative error by phase, each arm's timings predicted by a fit to the other arms'."""
    errors: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for arm in {row["arm"] for row in rows}:
        start_and_rate = fit([row for row in rows if row["arm"] != arm])
        for row in (row for row in rows if row["arm"] == arm):
            start, rate = start_and_rate[row["phase"]]
            errors[row["phase"]].append(abs(start + rate * row["work"] - row["seconds"]) / row["seconds"])
    return {phase: median(of_phase) for phase, of_phase in errors.items()}


def fit(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """By phase the start (s) and the rate (s per operation) that predict `seconds` from `work` with least squares."""
    rates = {}
    for phase in PHASES:
        of_phase = [row for row in rows if row["phase"] == phase]
        work = np.array([row["work"] for row in of_phase])
        seconds = np.array([row["seconds"] for row in of_phase])
        rate, start = np.polyfit(work, seconds, 1)
        through_origin = float(work @ seconds / (work @ work))
        rates[phase] = (float(start), float(rate)) if start > 0 else (0.0, through_origin)
    return rates


def plan_measured(config: RunConfig, rows: Sequence[Mapping[str, Any]], prompts: int) -> list[StageCost]:
    """The stages of one run on the machine that the ledgers are of, with their lengths; memory is not modelled."""
    fitted, policy = fit(rows), shape_of(config.policy.model)
    lengths = expected_lengths(config, response=sum(r["tokens"] for r in rows) / sum(r["responses"] for r in rows))
    costs = []
    for t in range(config.iterations + 1):
        fresh = fresh_prompts(config, prompts, t)
        work = operations(config, fresh, training_pairs(config, prompts, t), lengths)
        for phase, (start, rate) in fitted.items():
            seconds = start + rate * work[phase] if work[phase] else 0.0
            costs.append(StageCost(phase, t, 1, seconds, 0.0, 4.0 * policy.parameters if phase == "training" else 0.0))
        # The SFT policy reads the responses of the KL stage as a reward model of its size would.
        kl = kl_prompts_of(config, prompts), answering_once(config)
        for stage, (asked, answering) in (("kl", kl), ("validation", validation_of(config))):
            if asked:
                work = operations(answering, asked, 0, lengths)
                seconds = sum(fitted[p][0] + fitted[p][1] * work[p] for p in ("generation", "rewarding"))
                costs.append(StageCost(stage, t, 1, seconds, 0.0, 0.0))
    return costs
