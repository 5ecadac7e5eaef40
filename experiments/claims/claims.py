"""The list of claims: the paper's, and ours about when and how selection pays. How they are judged: `rules.py`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from experiments.claims.contrasts import (
    ALPACA,
    ALPACA_ARMS,
    BEST_STRATEGY_ARMS,
    FRESH_ARMS,
    LONG_ARMS,
    REDRAW,
    SPEEDUPS,
    best_on_alpaca,
    best_strategy_over_lowest,
    bottom_over_top_half,
    equal_seconds,
    equal_tokens,
    full_over_random_half,
    full_over_reduced,
    full_over_static,
    generation_share,
    half_against_full,
    lowest_over_random,
    names,
    online_over_baseline,
    ranking_over_random,
    reduced_against_full,
    reuse_over_fresh,
    slope_over_ratio,
    speedup_against_paper,
    timed,
    wdpo_over,
    wdpo_sooner,
)
from experiments.claims.recipe_contrasts import (
    CLOCKED,
    COMBINATIONS,
    CONTINUING,
    MEMBERS,
    RECIPES,
    RESTARTING,
    continuing_against_restarting,
    continuing_over_offline,
    over,
    over_every,
)
from experiments.claims.rules import MARGIN_SHARE, Claim, Contrast
from experiments.compute.arms import BEST_STRATEGY, ORACLE, arm, loss_arms, ranking_arms, ratio_arms
from optune.sandbox.parts.mixes import MIXES

# --- the list --------------------------------------------------------------------------------------------------------


def _selection_claims(loss: str, figure: str) -> tuple[Claim, ...]:
    """What Figures 3 and 4 are said to show."""
    arms = names(*ratio_arms(loss))
    said = {"wdpo": "wDPO", "dpo": "DPO"}[loss]
    gate = partial(full_over_static, loss=loss)
    return (
        Claim(
            f"{figure}-lowest-over-random",
            figure,
            f"At equal ratio, regenerating the lowest-reward prompts beats regenerating random ones ({said}).",
            "superiority",
            partial(lowest_over_random, loss=loss),
            arms,
        ),
        Claim(
            f"{figure}-parity-with-full",
            figure,
            f"Regenerating 50% or 70% of the prompts is on a par with regenerating all ({said}, iteration 3).",
            "parity",
            partial(reduced_against_full, loss=loss),
            arms,
            gate,
        ),
        Claim(
            f"{figure}-rises-with-ratio",
            figure,
            f"The score rises with the share of prompts regenerated ({said}).",
            "superiority",
            partial(slope_over_ratio, loss=loss),
            arms,
        ),
        Claim(
            f"{figure}-online-over-offline",
            figure,
            f"OPTune at every ratio, and ratio 1, beat the offline baseline ({said}).",
            "superiority",
            partial(online_over_baseline, loss=loss),
            arms,
        ),
    )


def _speedup_claim(ratio: float) -> Claim:
    claimed = SPEEDUPS[ratio]
    return Claim(
        f"fig5-speedup-{ratio}",
        "fig5",
        f"OPTune at ratio {ratio} runs {claimed} times as fast as ratio 1.",
        "parity",
        partial(speedup_against_paper, ratio=ratio),
        names(*timed(arm("wdpo", "all"), arm("wdpo", "lowest_reward", ratio))),
        outcomes=("seconds",),
        margin=MARGIN_SHARE * (claimed - 1),
        note="Seconds of this machine and engine; the speedup follows from the share of time that generation takes.",
    )


def _world_claims(mix: str) -> tuple[Claim, ...]:
    """Verdicts for one family mix; `` is the main world."""
    world, arms = mix or "main", names(*ranking_arms(mix))
    over_random = {
        "lowest_reward": "lowest reward",
        ORACLE: "lowest gold (the oracle)",
        "lowest_centered": "lowest centred reward",
    }
    claims = [
        Claim(
            f"{world}-{key}-over-random",
            "when",
            f"World {world}: regenerating the half with the {said} beats a random half.",
            "superiority",
            partial(ranking_over_random, strategy=strategy, mix=mix),
            arms,
            family="worlds",
        )
        for key, (strategy, said) in zip(("reward", "oracle", "centered"), over_random.items(), strict=True)
    ]
    parity = Claim(
        f"{world}-parity-with-full",
        "when",
        f"World {world}: regenerating the half with the lowest reward is on a par with regenerating all.",
        "parity",
        partial(half_against_full, mix=mix),
        arms,
        partial(full_over_static, mix=mix),
        family="worlds",
    )
    return (*claims, parity)


RECIPE_TITLES = {
    "vanilla": "vanilla online DPO",
    "optune": "OPTune (wDPO, lowest reward, 0.5)",
    "rlhf_workflow": "RLHF Workflow",
    "aop": "Always-On-Policy",
    "sop": "Starts-On-Policy",
    "optune_wide": "OPTune on more prompts instead of for more iterations",
    "optune_best_of_8": "OPTune's selection with the best and the worst of 8",
    "rlhf_workflow_wdpo": "RLHF Workflow with wDPO",
    "aop_wdpo": "Always-On-Policy with wDPO",
    "rlhf_workflow_rmsprop": "RLHF Workflow with the preset's optimizer (added afterwards)",
}


def _recipe_claims() -> tuple[Claim, ...]:
    """Each recipe against vanilla, OPTune against each, and each combination against what it is to improve."""
    every = tuple(RECIPES)
    rivals = [(name, "vanilla", unit) for unit in ("tokens", "seconds") for name in every[1:]]
    rivals += [(name, parent, "tokens") for name, (_, parent) in COMBINATIONS.items()]
    claims = [
        _recipe_claim(
            name, RECIPE_TITLES[rival], unit, partial(over, name=name, rival=rival, unit=unit), (name, rival), rival
        )
        for name, rival, unit in rivals
    ]
    claims += [
        _recipe_claim(
            "optune", "every other recipe", unit, partial(over_every, name="optune", unit=unit), every, "every"
        )
        for unit in ("tokens", "seconds")
    ]
    return tuple(claims)


def _recipe_claim(name: str, rival: str, unit: str, contrast: Contrast, members: Sequence[str], key: str) -> Claim:
    members = ("vanilla", *(m for m in members if m != "vanilla"))  # whose spending is the budget
    seconds = unit == "seconds"
    return Claim(
        f"recipes-{name}-over-{key}-{unit}".replace("_", "-"),
        "compare-recipes",
        f"At equal {unit}, {RECIPE_TITLES[name]} beats {rival}.",
        "superiority",
        contrast,
        names(*(MEMBERS[m] for m in members)),
        family="recipes",
        clocked=names(*(CLOCKED[m] for m in members)) if seconds else (),
        note="Seconds of this machine and engine." if seconds else "",
    )


RLHF_WORKFLOW_CLAIMS = (
    Claim(
        "rw-iterative-over-offline",
        "rw-fig8",
        "RLHF Workflow's iterations beat offline DPO of as many updates.",
        "superiority",
        continuing_over_offline,
        names(CONTINUING),
        family="rlhf_workflow",
    ),
    Claim(
        "rw-continuing-against-restarting",
        "rw-fig8",
        "Going on from RLHF Workflow's last policy is on a par with restarting from the SFT policy on all data so far.",
        "parity",
        continuing_against_restarting,
        names(CONTINUING, RESTARTING),
        family="rlhf_workflow",
        note="It means something only where iterating beats offline DPO.",
    ),
)


CLAIMS = (
    Claim(
        "table1-generation-dominates",
        "table1",
        "Generation takes more than half of the time of online DPO.",
        "superiority",
        generation_share,
        names(*timed(arm("dpo", "all"))),
        outcomes=("share",),
        margin=0.1,
        note="Seconds of this machine and engine, with a model of half a million parameters.",
    ),
    Claim(
        "fig2-low-half-gains-most",
        "fig2",
        "The half of the prompts with the lower reward brings most of the reward gain.",
        "superiority",
        bottom_over_top_half,
        (REDRAW,),
        outcomes=("shared_sample", "independent_sample"),
        margin=0.1,
        note="Ranked by the sample the gain is measured from (the paper's way) and by an independent one: both count.",
    ),
    Claim(
        "fig3-random-half-degrades",
        "fig3",
        "Regenerating a random half is worse than regenerating all (wDPO).",
        "superiority",
        partial(full_over_random_half, loss="wdpo"),
        names(*ratio_arms("wdpo")),
    ),
    *_selection_claims("wdpo", "fig3"),
    *_selection_claims("dpo", "fig4"),
    Claim(
        "fig4-parity-in-iteration-1",
        "fig4",
        "Regenerating 50% or 70% of the prompts is on a par with regenerating all (DPO, iteration 1).",
        "parity",
        partial(reduced_against_full, loss="dpo", t=1),
        names(*ratio_arms("dpo")),
        partial(full_over_static, loss="dpo", t=1),
    ),
    Claim(
        "fig4-lags-in-iteration-2",
        "fig4",
        "In iteration 2, regenerating 50% or 70% of the prompts lags behind regenerating all (DPO).",
        "superiority",
        partial(full_over_reduced, loss="dpo", t=2),
        names(*ratio_arms("dpo")),
    ),
    *(_speedup_claim(ratio) for ratio in SPEEDUPS),
    Claim(
        "fig6-wdpo-over-dpo",
        "fig6",
        "wDPO beats DPO at equal ratio.",
        "superiority",
        partial(wdpo_over, other="dpo"),
        names(*loss_arms("wdpo"), *loss_arms("dpo")),
    ),
    Claim(
        "fig6-wdpo-over-mean-weight",
        "fig6",
        "(Our control) wDPO beats DPO with a constant weight, wDPO's mean: it is no effect of the step size.",
        "superiority",
        partial(wdpo_over, other="dpo_mean_weight"),
        names(*loss_arms("wdpo"), *loss_arms("dpo_mean_weight")),
        note="A control of ours on the claim above.",
    ),
    Claim(
        "fig6-wdpo-sooner",
        "fig6",
        "wDPO gets to the same score sooner than DPO.",
        "superiority",
        wdpo_sooner,
        names(*loss_arms("wdpo"), *loss_arms("dpo")),
    ),
    Claim(
        "table2-best-on-alpaca",
        "table2",
        "OPTune at ratio 0.7 has the best length-controlled win rate on AlpacaEval, ratio 1 included.",
        "superiority",
        best_on_alpaca,
        tuple(ALPACA + a.name for a in ALPACA_ARMS),
        outcomes=("length_controlled_winrate",),
        margin=1.0,
        note="The sandbox's 805 prompts and judge through the alpaca-eval package, not AlpacaEval 2 itself.",
    ),
    *(claim for mix in ("", *MIXES) for claim in _world_claims(mix)),
    Claim(
        "beyond-reuse-over-fresh",
        "beyond",
        "Training on reused pairs beside fresh ones beats training on the fresh ones alone.",
        "superiority",
        reuse_over_fresh,
        names(*ratio_arms("wdpo"), *FRESH_ARMS),
        family="beyond",
    ),
    Claim(
        "beyond-equal-tokens",
        "beyond",
        "With no more generated tokens, half the prompts for twice as many iterations beats all prompts.",
        "superiority",
        equal_tokens,
        names(arm("wdpo", "all"), *LONG_ARMS),
        family="beyond",
    ),
    Claim(
        "beyond-equal-seconds",
        "beyond",
        "At equal wall-clock, half the prompts for more iterations beats all prompts.",
        "superiority",
        equal_seconds,
        names(*timed(arm("wdpo", "all"), LONG_ARMS[0])),
        family="beyond",
        note="Seconds of this machine and engine.",
    ),
    Claim(
        "beyond-best-strategy",
        "beyond",
        f"The best of our further strategies on development seeds ({BEST_STRATEGY}) beats lowest reward at ratio 0.5.",
        "superiority",
        best_strategy_over_lowest,
        names(*BEST_STRATEGY_ARMS),
        family="beyond",
        note="Chosen by mean gold at iteration 3 on three development seeds, where its lead was 0.016 of 10.",
    ),
    *_recipe_claims(),
    *RLHF_WORKFLOW_CLAIMS,
)

# Claims that only real models, benchmarks and people can settle: shown with our numbers, never with a verdict.
REAL_ONLY = (
    ("table3-best-average", "table3", "OPTune at ratio 0.7 has the best average over the four benchmarks."),
    ("table3-no-regression", "table3", "No online policy falls behind the SFT policy on the benchmarks' average."),
    ("table4-over-random", "table4", "People prefer OPTune at ratio 0.7 to random selection at 0.7."),
    ("table4-like-full", "table4", "People rate OPTune at ratio 0.7 like ratio 1."),
)
