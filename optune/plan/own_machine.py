"""A run's stages on one's own machine, at speeds that were measured there with one's own models (`plan --measure`)."""

from __future__ import annotations

from dataclasses import dataclass

from optune.config import RunConfig
from optune.plan.cost_model import (
    Lengths,
    StageCost,
    fresh_prompts,
    kl_prompts_of,
    offline_pairs,
    spread_of,
    training_pairs,
    validation_of,
)

READINGS = 8  # of a response in training a pair: two responses, each read for the reference, forward, and twice back


@dataclass(frozen=True)
class Speed:
    """Seconds that a phase takes to start (loading a model, say), then how many tokens, rewards or pairs a second."""

    start_s: float
    per_s: float

    def seconds(self, count: float) -> float:
        """For `count` of them; 0 for none."""
        return self.start_s + count / self.per_s if count else 0.0


@dataclass(frozen=True)
class OwnMachine:
    """What a measurement found. lengths: mean tokens that it was made with. measured_lengths: they were sampled."""

    name: str
    sampling: Speed  # tokens
    rewarding: Speed  # responses
    training: Speed  # pairs, over all epochs
    policy_bytes: int  # on disk
    lengths: Lengths
    measured_lengths: bool
    took_s: float

    def told(self) -> str:
        """The speeds, as the plan prints them."""
        lengths = "sampled" if self.measured_lengths else "assumed from the limit (--response-tokens)"
        sampling, rewarding, training = self.sampling, self.rewarding, self.training
        return (
            f"Measured in {self.took_s:.0f} s on {self.name}: {sampling.per_s:,.0f} tokens/s sampled, "
            f"{rewarding.per_s:,.1f} rewards/s, {training.per_s:,.2f} pairs/s trained; starting a stage took "
            f"{sampling.start_s:.1f}, {rewarding.start_s:.1f} and {training.start_s:.1f} s. A mean prompt of "
            f"{self.lengths.prompt:.0f} tokens, a mean response of {self.lengths.response:.0f} ({lengths}). Memory was "
            "not measured: `optune check` says whether the weights fit."
        )


def plan_here(config: RunConfig, own: OwnMachine, prompts: int) -> list[StageCost]:
    """The stages of one run; memory is not modelled."""
    spread, n, length = spread_of(config), config.generation.n, own.lengths.response
    offline = offline_pairs(config) or 0
    costs = []
    for t in range(config.iterations + 1):
        fresh = fresh_prompts(config, prompts, t)
        pairs = training_pairs(config, prompts, t, offline)
        stages = [
            ("generation", spread.generation, own.sampling.seconds(fresh * n * length), 16 * fresh * n * length),
            ("rewarding", spread.rewarding, own.rewarding.seconds(fresh * n), 0.0),
            ("training", spread.training, own.training.seconds(pairs), float(own.policy_bytes)),
        ]
        if asked := kl_prompts_of(config, prompts):
            reading = asked / (READINGS * own.training.per_s)
            stages.append(("kl", spread.generation, own.sampling.seconds(asked * length) + reading, 0.0))
        asked, answering = validation_of(config)
        if responses := asked * answering.generation.n:
            seconds = own.sampling.seconds(responses * length) + own.rewarding.seconds(responses)
            stages.append(("validation", spread.generation, seconds, 8 * responses * length))
        costs += [StageCost(stage, t, gpus, seconds, 0.0, disk) for stage, gpus, seconds, disk in stages]
    return costs
