"""Arms, seeds and builds: who is compared with whom. Arms that several figures share are computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

REPORT_SEEDS = tuple(range(10))  # used for reports alone
PREVIEW_SEEDS = (0, 1, 2)  # what `make fig3` computes unless told otherwise: one build, no verdicts
# The sandbox build (SFT policy, reward model, baseline) of each report seed: five builds, the first one the preview's.
BUILD_OF_SEED = dict(zip(REPORT_SEEDS, (0, 0, 0, 1, 1, 2, 2, 3, 3, 4), strict=True))
# The same of the world `instructions` (reward model, baseline), which takes hours a seed: three builds over five seeds.
INSTRUCTIONS_BUILD_OF_SEED = dict(zip(REPORT_SEEDS[:5], (0, 0, 1, 1, 2), strict=True))
DEVELOPMENT_SEEDS = (1000, 1001, 1002)  # for everything that is tuned; each its own build

RATIOS = (0.3, 0.5, 0.7)


OFFSET_SAMPLES = 4  # responses of the start policy per prompt, for the centred ranking
ORACLE = "experiments.oracles:lowest_gold"
SHORT = {ORACLE: "lowest_gold"}
BEST_STRATEGY = "low_and_varied"  # of the further strategies on development seeds: development_strategies.json


@dataclass(frozen=True)
class Probe:
    """A measurement that replaces the usual ones on an arm's finished run: a function, as `module:name`.

    for_the_clock: it measures seconds, so nothing else may run at the same time. worlds: those whose data it reads (the
    sections of their presets); empty where any will do. unjudged: worlds in which it compares with no baseline, so that
    none has to be built.
    """

    function: str
    for_the_clock: bool = False
    worlds: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()


PROBES = {  # see probes.py
    "alpaca": Probe("experiments.compute.probes:alpaca", worlds=("sandbox", "instructions")),
    "benchmarks": Probe("experiments.compute.probes:benchmarks", unjudged=("instructions",)),
    "clock": Probe("experiments.compute.probes:clock", for_the_clock=True),
    "improvability": Probe("experiments.compute.probes:improvability", worlds=("sandbox",)),
    "redraw": Probe("experiments.compute.probes:redraw", unjudged=("instructions",)),
    "seconds": Probe("experiments.compute.probes:seconds", for_the_clock=True),
    "study_answers": Probe("experiments.compute.probes:study_answers"),
}


@dataclass(frozen=True)
class Arm:
    """A named set of changes to a preset.

    ends_only: measured only after iteration 0 and the last one. probe: replaces the usual measures. recipe: the one it
    starts from. seeds: the only ones it is run on, if not all are needed.
    """

    name: str
    overrides: tuple[tuple[str, Any], ...]
    ends_only: bool = False
    probe: Probe | None = None
    recipe: str | None = None
    seeds: tuple[int, ...] = ()

    @property
    def for_the_clock(self) -> bool:
        """Whether seconds are what counts: not to be run beside other work."""
        return bool(self.probe and self.probe.for_the_clock)

    def fits(self, world: str | None) -> bool:
        """Whether a world has what it reads."""
        from_sandbox = any("sandbox:" in str(value) or value == ORACLE for _, value in self.overrides)
        needed = ("sandbox",) if from_sandbox else self.probe.worlds if self.probe else ()
        return not needed or world in needed

    def probed(self, name: str, seeds: tuple[int, ...] = ()) -> Arm:
        """The same runs, or those of a few seeds, under one of PROBES: `redraw-dpo-all-1.0`."""
        return replace(self, name=f"{name}-{self.name}", probe=PROBES[name], seeds=seeds)

    def runs_on(self, seeds: Sequence[int]) -> list[int]:
        """Those of `seeds` that it is run on."""
        return [seed for seed in seeds if not self.seeds or seed in self.seeds]


def arm(loss: str, strategy: str, ratio: float = 1.0, mix: str = "", **changes: Any) -> Arm:
    """`wdpo-lowest_reward-0.3`, `dpo-all-1.0`, `wdpo-none-1.0`, ...; in a family mix `wdpo-random-0.5@negative`.

    changes: further overrides, `section__field=value`; each adds `+field=value` to the name.
    """
    overrides = {"loss.name": loss, "selection.strategy": strategy, "selection.ratio": ratio}
    name = f"{loss}-{SHORT.get(strategy, strategy)}-{ratio}"
    if strategy == "lowest_centered":
        overrides["selection.offset_samples"] = OFFSET_SAMPLES
    for field, value in changes.items():
        overrides[field.replace("__", ".")] = value
        name += f"+{field.split('__')[-1]}={value}"
    if mix:
        overrides |= {"prompts.path": f"sandbox:train@{mix}", "evaluation.prompts": f"sandbox:test@{mix}"}
        name += f"@{mix}"
    return Arm(name, tuple(overrides.items()), ends_only=bool(mix))


def ratio_arms(loss: str) -> tuple[Arm, ...]:
    """The arms of Figures 3 (wDPO) and 4 (DPO): the paper's strategy and random at each ratio, ratio 1, and static."""
    swept = [arm(loss, strategy, ratio) for ratio in RATIOS for strategy in ("lowest_reward", "random")]
    return (*swept, arm(loss, "all"), arm(loss, "none"))


def loss_arms(loss: str) -> tuple[Arm, ...]:
    """What Figure 6 shows of one loss: OPTune at each ratio, and ratio 1."""
    return (*(arm(loss, "lowest_reward", ratio) for ratio in RATIOS), arm(loss, "all"))


# Of plain DPO and the real model, whose runs take a quarter of an hour: with five seeds what a claim needs, with three,
# one of each build, what is shown beside it. Of build 0 it is seed 1: seed 0's policies were made on another machine
# than those of the other seeds, and not kept.
ONE_OF_EACH_BUILD = (1, 2, 4)
REAL_MODEL_DPO = (
    *(arm("dpo", "lowest_reward", ratio) for ratio in (0.5, 0.7)),
    arm("dpo", "all"),
    *(replace(arm("dpo", *more), seeds=ONE_OF_EACH_BUILD) for more in (("random", 0.5), ("none",))),
)
RUN_AT = {"smollm2": (*ratio_arms("wdpo"), *REAL_MODEL_DPO)}
# What a probe measures of the real model: one seed of each build, since that takes as long as the runs; of the
# benchmarks only the arms that the claim is about; and no run is made again for the clock.
PROBED_SEEDS = {PROBES[name]: ONE_OF_EACH_BUILD for name in ("alpaca", "benchmarks")}
BENCHMARKED = (arm("wdpo", "all"), arm("wdpo", "lowest_reward", 0.7), arm("wdpo", "random", 0.7))


def run_at(preset: str, arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Those of `arms` that are run at a preset: all, unless RUN_AT lists some, on whose seeds they then are."""
    if preset not in RUN_AT:
        return tuple(arms)
    members = {repr(member.overrides): member.seeds for member in RUN_AT[preset]}
    benchmarked = {repr(member.overrides) for member in BENCHMARKED}
    own = []
    for one in arms:
        what = repr(one.overrides)
        wanted = benchmarked if one.probe == PROBES["benchmarks"] else members
        if one.recipe or one.for_the_clock or what not in wanted:
            continue
        own.append(replace(one, seeds=one.seeds or PROBED_SEEDS.get(one.probe, members[what])))
    return tuple(own)


def ranking_arms(mix: str = "") -> tuple[Arm, ...]:
    """Rankings at ratio 0.5 in one world: by reward, at random, by gold, by centred reward; all and none."""
    ranked = (arm("wdpo", name, 0.5, mix) for name in ("lowest_reward", "random", ORACLE, "lowest_centered"))
    return (*ranked, arm("wdpo", "all", mix=mix), arm("wdpo", "none", mix=mix))


def build_of(seed: int, world: str = "sandbox") -> int:
    """The build of a world that a seed rests on: shared by some report seeds.

    Any other seed has its own in the sandbox; in the world `instructions`, where a build takes long, all share one.
    """
    if world == "instructions":
        return INSTRUCTIONS_BUILD_OF_SEED.get(seed, DEVELOPMENT_SEEDS[0])
    return BUILD_OF_SEED.get(seed, seed)


def few(seeds: int, builds: set[int], preset: str) -> bool:
    """Whether seeds or builds are too few for a verdict. Real models elsewhere have no builds."""
    if preset == "smollm2":
        return seeds < len(INSTRUCTIONS_BUILD_OF_SEED) or len(builds) < len(set(INSTRUCTIONS_BUILD_OF_SEED.values()))
    return seeds < len(REPORT_SEEDS) or 0 < len(builds) < len(set(BUILD_OF_SEED.values()))
