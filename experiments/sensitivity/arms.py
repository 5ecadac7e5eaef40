"""What is varied, and the arms that vary it. All are described, none is judged: three seeds, which share one build.

The reference is OPTune at ratio 0.5 with wDPO, beta_2 auto, beta_1 0.1, two responses and the world's reward model.
Nothing is tuned on these arms. Arms without a comment are those of other figures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiments.compute.arms import RATIOS, Arm, Probe, arm

OPTUNE = arm("wdpo", "lowest_reward", 0.5)
RANDOM = arm("wdpo", "random", 0.5)
NONE, ALL = arm("wdpo", "none"), arm("wdpo", "all")


def changed(name: str, start: Arm, *overrides: tuple[str, object]) -> Arm:
    """An arm with further overrides under another name, measured at its ends."""
    return replace(start, name=f"{start.name}+{name}", overrides=(*start.overrides, *overrides), ends_only=True)


def at_ends(*of: Any, **changes: Any) -> Arm:
    """An arm that is measured only after iteration 0 and the last one."""
    return replace(arm(*of, **changes), ends_only=True)


# beta_2 in multiples of `auto`, the reciprocal of iteration 0's median reward gap. At infinity wDPO is DPO.
BETA_2 = {
    0.0: arm("wdpo", "lowest_reward", 0.5, loss__beta_2_factor=0.0),
    0.25: arm("wdpo", "lowest_reward", 0.5, loss__beta_2_factor=0.25),
    1.0: OPTUNE,
    4.0: arm("wdpo", "lowest_reward", 0.5, loss__beta_2_factor=4.0),
    float("inf"): arm("dpo", "lowest_reward", 0.5),
}
BETA_1 = {
    loss: {
        0.03: at_ends(loss, "lowest_reward", 0.5, loss__beta_1=0.03),
        0.1: arm(loss, "lowest_reward", 0.5),
        0.3: at_ends(loss, "lowest_reward", 0.5, loss__beta_1=0.3),
    }
    for loss in ("wdpo", "dpo")
}

# The ratios of Figure 3, and two below them.
SMALL_RATIOS = (0.1, 0.2)
RATIO_ARMS = {
    strategy: {
        **{ratio: at_ends("wdpo", strategy, ratio) for ratio in SMALL_RATIOS},
        **{ratio: arm("wdpo", strategy, ratio) for ratio in RATIOS},
    }
    for strategy in ("lowest_reward", "random")
}

# What ranks a prompt: reward of its preferred response (the paper), mean, rejected response, gap; and the opposite.
RANKINGS = {
    "preferred": OPTUNE,
    "mean": at_ends("wdpo", "lowest_mean_reward", 0.5),
    "rejected": at_ends("wdpo", "lowest_rejected_reward", 0.5),
    "gap": at_ends("wdpo", "lowest_gap", 0.5),
    "highest": at_ends("wdpo", "highest_reward", 0.5),
    "random": RANDOM,
}

# Responses per prompt at equal tokens: twice the responses to half the prompts. One pair a prompt (best and worst), so
# fewer updates, too.
RESPONSES = {
    2: OPTUNE,
    4: changed("n=4", OPTUNE, ("generation.n", 4), ("prompts.limit", 512)),
    8: changed("n=8", OPTUNE, ("generation.n", 8), ("prompts.limit", 256)),
}

# Reused pairs that train beside all fresh ones: all, the half of largest weight, or none. With the half, four
# iterations make the updates of three with all pairs. Without any it would take six, which were cut for time.
ALL_KEPT = arm("wdpo", "lowest_reward", 0.5, iterations=6)
KEPT = {
    "all": ALL_KEPT,
    "half": arm("wdpo", "lowest_reward", 0.5, pairs__keep=0.5, iterations=4),
    "none": arm("wdpo", "lowest_reward", 0.5, pairs__view="fresh"),  # which trains on the pairs of keep=0
}
# What their phases cost without other work beside them.
ALL_KEPT_TIMED = ALL_KEPT.probed("seconds")

# Strategies of the literature at the budget of half of the prompts, beside the paper's and random.
LITERATURE = {
    "lowest_reward": OPTUNE,
    "random": RANDOM,
    "greso": at_ends("wdpo", "greso", 0.5),
    "adaptive_rollout": at_ends("wdpo", "adaptive_rollout", 0.5),
}

# Reward models of one build by the share of its preferences that they learned from, in one pass as the build's own.
REWARDS = {"1/16": "sandbox:reward_sixteenth", "1/4": "sandbox:reward_quarter", "all": "sandbox:reward"}
QUALITY = {
    share: Arm(
        f"reward-quality-{name.removeprefix('sandbox:')}",
        (
            ("iterations", 0),
            ("prompts.limit", 64),
            ("loss.name", "dpo"),
            ("selection", {"strategy": "all", "ratio": 1.0}),
            ("reward.model", name),
        ),
        probe=Probe("experiments.sensitivity.probes:reward_quality", worlds=("sandbox",)),
        seeds=(0,),  # a reward model is of a build, which the seeds share
    )
    for share, name in REWARDS.items()
}
BY_REWARD = {
    strategy: {
        share: start if share == "all" else changed(name.removeprefix("sandbox:"), start, ("reward.model", name))
        for share, name in REWARDS.items()
    }
    for strategy, start in (("lowest_reward", OPTUNE), ("random", RANDOM))
}

# Who is refreshed when, of the runs of Figure 3.
STALENESS = {
    strategy: {
        ratio: replace(a, name=f"staleness-{a.name}", probe=Probe("experiments.sensitivity.probes:staleness"))
        for ratio, a in RATIO_ARMS[strategy].items()
        if ratio in RATIOS
    }
    for strategy in RATIO_ARMS
}
