"""The recipes' comparison: its arms, the budget, and an arm's outcome where the budget ends.

The budget is what vanilla online DPO has spent when its iterations 0 to 3 are done: every token of responses, reference
answers, validation answers, and of the prompt writer's prompts and replies, seed by seed; or seconds of generation,
rewarding, training and a source's own work, from runs for the clock. Sizes come from arithmetic alone: an iteration of
any recipe but OPTune, which regenerates half, is to cost about as many tokens as one of vanilla's. What a recipe's
paper states is kept (two passes over the data, for the two neighbours; RLHF Workflow's optimizer and schedule);
learning rate and batch are the preset's for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.claims.budgets import at_budget, returned, seconds, spent, tokens, typical_spent
from experiments.claims.contrasts import offline_level, outcome
from experiments.compute.arms import Arm, arm
from experiments.compute.raw_result import LedgerRow, Raw

CLOCK_SEEDS = (0, 3, 5)  # of three builds


def recipe_arm(recipe: str, iterations: int, variant: str = "", **changes: Any) -> Arm:
    """A recipe at the comparison's sizes: `equal-aop`, `equal-aop-wdpo`. changes: `section__field=value`."""
    overrides = {"iterations": iterations, **{name.replace("__", "."): value for name, value in changes.items()}}
    return Arm("-".join(filter(None, ("equal", recipe, variant))), tuple(overrides.items()), recipe=recipe)


# Vanilla and OPTune are the arms of Figures 3 to 5 in settings, and computed anew beside the others: a build made on
# another machine differs in its last bits, and pairs need one set of builds.
VANILLA = recipe_arm("vanilla", 3)
OPTUNE = recipe_arm("optune", 6)
# Iterations: as many as both budgets take. Sizes: 8 responses to each of 256 prompts are as many as vanilla's 2 to each
# of 1,024. A written prompt costs here about 24 tokens that the writer reads, 14 that it writes and 12 of its two
# responses, so that 256 of them come to an iteration of vanilla's, too.
BEST_OF_8 = {"prompts__per_iteration": 256, "validation__limit": 128}
WRITTEN = {
    "prompts__limit": 128,
    "prompts__synthetic__per_iteration": 256,
    "prompts__synthetic__questions_per_category": 2,
    "prompts__synthetic__draws": 8,
    "prompts__synthetic__prompts_per_draw": 40,
    "training__epochs": 2,
}
RECIPES = {
    "vanilla": VANILLA,
    "optune": OPTUNE,
    "rlhf_workflow": recipe_arm("rlhf_workflow", 7, **BEST_OF_8),
    "aop": recipe_arm("aop", 9, **WRITTEN),
    "sop": recipe_arm("sop", 9, **WRITTEN),
}
# Combinations, each with the recipe that it is to improve. OPTune's iteration 0 and three halves are 2.5 times its
# prompts: with 1,638 of them as many as vanilla's four times 1,024.
COMBINATIONS = {
    "optune_wide": (recipe_arm("optune", 3, "wide", prompts__limit=1638), "optune"),
    "optune_best_of_8": (
        recipe_arm(
            "optune",
            6,
            "best_of_8",
            prompts__limit=512,
            generation__n=8,
            generation__top_p=1.0,
            generation__temperatures=(1.0, 0.7),
        ),
        "rlhf_workflow",
    ),
    "rlhf_workflow_wdpo": (recipe_arm("rlhf_workflow", 7, "wdpo", loss__name="wdpo", **BEST_OF_8), "rlhf_workflow"),
    "aop_wdpo": (recipe_arm("aop", 9, "wdpo", loss__name="wdpo", **WRITTEN), "aop"),
}
# Added when the others had been seen, without a claim: RLHF Workflow hardly learnt, and at the preset's learning rate
# its AdamW takes far smaller steps than RMSprop, which does not correct its averages for their start.
AFTERWARDS = {
    "rlhf_workflow_rmsprop": (
        recipe_arm(
            "rlhf_workflow",
            7,
            "rmsprop",
            training__optimizer="rmsprop",
            training__schedule="linear",
            training__warmup_ratio=0.1,
            **BEST_OF_8,
        ),
        "rlhf_workflow",
    ),
}
VARIANTS = COMBINATIONS | AFTERWARDS
# RLHF Workflow at a rate found for its own optimizer on a development seed (development_rlhf_workflow.json): going on
# from the last policy, as its paper does, and its other reading, from the SFT policy on all data so far. Four
# iterations make as many updates as the offline baseline.
RLHF_WORKFLOW_RATE = 1e-4
CONTINUING = recipe_arm("rlhf_workflow", 3, "own_rate", training__learning_rate=RLHF_WORKFLOW_RATE, **BEST_OF_8)
RESTARTING = recipe_arm(
    "rlhf_workflow",
    3,
    "restart",
    training__learning_rate=RLHF_WORKFLOW_RATE,
    training__start="sft",
    pairs__view="all",
    **BEST_OF_8,
)
MEMBERS: dict[str, Arm] = {**RECIPES, **{name: member for name, (member, _) in VARIANTS.items()}}
# The same runs under the names that they have without a recipe's.
TIMED_AS = {"vanilla": arm("dpo", "all"), "optune": arm("wdpo", "lowest_reward", 0.5, iterations=6)}
CLOCKED: dict[str, Arm] = {
    name: TIMED_AS.get(name, member).probed("clock", CLOCK_SEEDS) for name, member in MEMBERS.items()
}


def continuing_over_offline(raw: Raw, measure: str) -> np.ndarray:
    """RLHF Workflow after its last iteration minus the offline baseline."""
    return outcome(raw, CONTINUING.name, measure) - offline_level(raw, CONTINUING.name, measure)


def continuing_against_restarting(raw: Raw, measure: str) -> np.ndarray:
    """RLHF Workflow from its last policy minus RLHF Workflow from the SFT policy on all data so far."""
    return outcome(raw, CONTINUING.name, measure) - outcome(raw, RESTARTING.name, measure)


def at_equal_tokens(
    raw: Raw, measure: str, name: str, cost: Callable[[LedgerRow], float] = tokens, share: float = 1.0
) -> np.ndarray:
    """(n_seeds, ...): a member's outcome at the tokens that vanilla spent with the same seed, or at a share of them."""
    pairs = zip(raw[MEMBERS[name].name], raw[VANILLA.name], strict=True)
    return np.array(
        [at_budget(spent(r, cost), returned(r, measure), share * spent(v, cost)[-1], name) for r, v in pairs]
    )


def at_equal_seconds(raw: Raw, measure: str, name: str, share: float = 1.0) -> np.ndarray:
    """(n_seeds, ...): the same at vanilla's seconds; an iteration's are the median of the runs for the clock."""
    budget = share * typical_spent(raw[CLOCKED["vanilla"].name], seconds)[-1]
    costs = typical_spent(raw[CLOCKED[name].name], seconds)
    return np.array([at_budget(costs, returned(r, measure), budget, name) for r in raw[MEMBERS[name].name]])


EQUAL = {"tokens": at_equal_tokens, "seconds": at_equal_seconds}


def over(raw: Raw, measure: str, name: str, rival: str, unit: str) -> np.ndarray:
    """One member minus another at the budget."""
    return EQUAL[unit](raw, measure, name) - EQUAL[unit](raw, measure, rival)


def over_every(raw: Raw, measure: str, name: str, unit: str) -> np.ndarray:
    """One recipe minus its strongest rival among the recipes: the smallest mean difference."""
    rivals = [over(raw, measure, name, rival, unit) for rival in RECIPES if rival != name]
    return min(rivals, key=np.mean)
