"""The paper's claims, and ours about when and how selection pays: contrasts and rules, committed before the comparison.

Rules (all fixed beforehand):
- Report seeds 0-9 over at least five sandbox builds; fewer is a preview without verdicts. Nothing is tuned on them.
- One primary contrast per claim, at iteration 3, averaged over the ratios 0.3, 0.5 and 0.7 unless the claim names one.
  A contrast is one number per seed, paired within seeds. Everything else shown is descriptive.
- Two co-primary outcomes: win score against the offline baseline, and mean gold quality on the same prompts; a claim
  about something else names its own. A verdict needs all of a claim's outcomes; where they disagree the claim is
  inconclusive, and the report says which said what.
- Intervals: t over seeds; a crossed bootstrap over seeds and prompts checks them where the outcome has prompts.
- Holm's correction within each family of claims (the paper's; the worlds'; beyond the paper; the recipes'), separately
  for first and second outcomes, on the p-value of each claim's primary test.
- Superiority: two-sided t test of the contrast against 0. Parity: two one-sided t tests within the margin: MARGIN_SHARE
  of ratio 1's gain from iteration 0 to 3, as measured on development seeds (`results/<preset>/development.json`), or of
  the claimed effect where the claim is a number. Three outcomes have margins of their own, set before they were seen:
  0.1 of a share of time, 0.1 of reward in Figure 2 (two thirds of the gap that the paper's 31.4% would make of our
  gains), 1 point of AlpacaEval.
- "Best of" and "every" claims: the contrast is against the strongest rival (the smallest mean difference), so that it
  holds only if it holds against each.
- Gate: parity with ratio 1 means something only if ratio 1 beats the static control `none` (same loss, iteration and
  world); else it is not testable.
- Time is this machine's, with its engine, from runs made for the clock, arms in turn and nothing beside them
  (what is recorded while results are made also carries what else the machine did). Simulated raters and the sandbox's
  benchmarks never yield a verdict: those
  claims are stated in REAL_ONLY and are not testable here.
- Recipes (`recipe_contrasts.py`) are compared where the budget ends: what vanilla online DPO spent from the first
  response to the end of its iteration 3, in tokens seed by seed (the prompt writer's prompts and replies, reference and
  validation answers included), or in seconds, an iteration's being the median of three seeds' runs for the clock.
  Between two iterations the outcome is interpolated; an arm that ends up to a tenth short of the budget counts as it
  ended. A recipe that returns its best policy on validation prompts counts with that one.
  Their sizes come from arithmetic, nothing is tuned for a recipe, and the margins are those above.
- The further strategies (`optune/selection/further.py`) are compared at ratio 0.5 on development seeds alone; the one
  with the best mean gold at iteration 3 is then run once on report seeds, against `lowest_reward`.
- The seeds, arms, settings and this file don't change because an arm lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from experiments.compute.arms import BEST_STRATEGY, ORACLE, RATIOS, Arm, arm, loss_arms, ranking_arms, ratio_arms
from experiments.recipe_contrasts import CLOCKED, COMBINATIONS, MEMBERS, RECIPES, over, over_every
from optune.sandbox.parts.mixes import MIXES

MARGIN_SHARE = 0.2
FAMILY_ERROR = 0.05
OUTCOMES = ("win_score", "gold_mean")
PRIMARY_ITERATION = 3
SPEEDUPS = {0.7: 1.27, 0.5: 1.56}  # the paper's

Raw = dict[str, list[dict[str, Any]]]  # name below raw/ -> raw results in order of seeds
Contrast = Callable[[Raw, str], np.ndarray]  # (raw, outcome) -> (n_seeds,)


@dataclass(frozen=True)
class Claim:
    """One claim: its statement in our words, and the contrast (n_seeds,) that stands for it.

    needs: what it reads, below `results/<preset>/raw`. gate: a contrast that must be above 0 for the claim to be
    testable. margin: of parity, for outcomes other than win score and gold. clocked: further raw results that it reads
    seconds from, of fewer seeds.
    """

    key: str
    figure: str
    statement: str
    kind: Literal["superiority", "parity"]
    contrast: Contrast
    needs: tuple[str, ...]
    gate: Contrast | None = None
    outcomes: tuple[str, ...] = OUTCOMES
    margin: float | None = None
    family: Literal["paper", "worlds", "beyond", "recipes"] = "paper"
    clocked: tuple[str, ...] = ()
    note: str = field(default="", compare=False)


def names(*arms: Arm) -> tuple[str, ...]:
    """Names of arms, each once."""
    return tuple(dict.fromkeys(a.name for a in arms))


def outcome(raw: Raw, name: str, measure: str, iteration: int = PRIMARY_ITERATION) -> np.ndarray:
    """One outcome of one arm at one iteration, shape (n_seeds,); (n_seeds, prompts) where it is given per prompt."""
    return np.array([result["iterations"][iteration][measure] for result in raw[name]], dtype=float)


def of(raw: Raw, measure: str, loss: str, strategy: str, ratio: float = 1.0, mix: str = "", t: int = 3) -> np.ndarray:
    """The same by the arm's parts."""
    return outcome(raw, arm(loss, strategy, ratio, mix).name, measure, t)


def mean_over_ratios(
    raw: Raw, loss: str, strategy: str, measure: str, ratios: Sequence[float] = RATIOS, t: int = PRIMARY_ITERATION
) -> np.ndarray:
    """The outcome averaged over ratios, shape (n_seeds,)."""
    return np.mean([of(raw, measure, loss, strategy, ratio, t=t) for ratio in ratios], axis=0)


def least(differences: Sequence[np.ndarray]) -> np.ndarray:
    """Of several contrasts the one with the smallest mean, against the strongest rival.

    Where contrasts vary unequally another one may have the larger p, and picking the smallest favours "contradicted":
    both stay as fixed beforehand, and the figures show every arm.
    """
    return min(differences, key=np.mean)


# --- Figures 3 and 4 -------------------------------------------------------------------------------------------------


def lowest_over_random(raw: Raw, measure: str, loss: str) -> np.ndarray:
    """OPTune minus random selection at equal ratios."""
    return mean_over_ratios(raw, loss, "lowest_reward", measure) - mean_over_ratios(raw, loss, "random", measure)


def reduced_against_full(raw: Raw, measure: str, loss: str, t: int = PRIMARY_ITERATION) -> np.ndarray:
    """OPTune at the two ratios that the paper calls comparable, minus ratio 1."""
    return mean_over_ratios(raw, loss, "lowest_reward", measure, (0.5, 0.7), t) - of(raw, measure, loss, "all", t=t)


def full_over_reduced(raw: Raw, measure: str, loss: str, t: int) -> np.ndarray:
    """How far OPTune lags."""
    return -reduced_against_full(raw, measure, loss, t)


def full_over_random_half(raw: Raw, measure: str, loss: str) -> np.ndarray:
    """What is lost by regenerating a random half."""
    return of(raw, measure, loss, "all") - of(raw, measure, loss, "random", 0.5)


def slope_over_ratio(raw: Raw, measure: str, loss: str) -> np.ndarray:
    """Least-squares slope of the outcome over the ratios 0.3, 0.5, 0.7 and 1.0 of OPTune, per unit of ratio."""
    levels = [outcome(raw, a.name, measure) for a in loss_arms(loss)]
    centered = np.array([*RATIOS, 1.0]) - np.mean([*RATIOS, 1.0])
    return np.tensordot(centered / (centered**2).sum(), np.array(levels), axes=1)


def online_over_baseline(raw: Raw, measure: str, loss: str) -> np.ndarray:
    """Of OPTune's three ratios and ratio 1 the weakest, against the offline baseline."""
    arms = [a.name for a in loss_arms(loss)]
    even = 50.0 if measure == "win_score" else np.array([r["baseline"]["gold_mean"] for r in raw[arms[0]]])
    return least([outcome(raw, name, measure) - even for name in arms])


def full_over_static(
    raw: Raw, measure: str, loss: str = "wdpo", mix: str = "", t: int = PRIMARY_ITERATION
) -> np.ndarray:
    """The gate: ratio 1 minus `none`."""
    return of(raw, measure, loss, "all", mix=mix, t=t) - of(raw, measure, loss, "none", mix=mix, t=t)


# --- Figures 2, 5 and 6, Tables 1 and 2 ------------------------------------------------------------------------------

REDRAW = "redraw-dpo-all-1.0"  # second draws of each policy of the ratio-1 DPO arm: fig2_gain_by_reward_half.py
ALPACA = "alpaca-"  # AlpacaEval of an arm's final policy: table2_alpaca_eval.py


def bottom_over_top_half(raw: Raw, ranking: str) -> np.ndarray:
    """Mean reward gain of the bottom half of prompts minus that of the top half, at iteration 2 (the paper's)."""
    halves = [result["iterations"][2]["halves"][ranking] for result in raw[REDRAW]]
    return np.array([half["bottom"] - half["top"] for half in halves])


def generation_share(raw: Raw, _: str) -> np.ndarray:
    """Generation's share of generation + rewarding + training in iterations 1-3 at ratio 1, minus a half."""
    results = on_the_clock(raw, arm("dpo", "all"))
    return np.array([_seconds(result, "generation_s") / _seconds(result) for result in results]) - 0.5


def speedup(raw: Raw, ratio: float, loss: str = "wdpo") -> np.ndarray:
    """Seconds of iterations 1-3 at ratio 1 over those at `ratio`, OPTune, shape (n_seeds,)."""
    full, reduced = (on_the_clock(raw, a) for a in (arm(loss, "all"), arm(loss, "lowest_reward", ratio)))
    return np.array([_seconds(a) / _seconds(b) for a, b in zip(full, reduced, strict=True)])


def speedup_against_paper(raw: Raw, _: str, ratio: float) -> np.ndarray:
    """Measured minus claimed speedup."""
    return speedup(raw, ratio) - SPEEDUPS[ratio]


PHASES = ("generation_s", "rewarding_s", "training_s")


def seconds_of(entry: dict[str, Any]) -> float:
    """Seconds of one iteration in a ledger, all phases."""
    return sum(entry[phase] for phase in PHASES)


def timed(*arms: Arm) -> tuple[Arm, ...]:
    """Arms and their runs for the clock: made again, arms in turn, as many at once as the machine has cores."""
    return (*arms, *(a.probed("seconds") for a in arms))


def on_the_clock(raw: Raw, member: Arm) -> list[dict[str, Any]]:
    """An arm's results with the seconds of its runs for the clock."""
    clocked = raw[member.probed("seconds").name]
    return [{**result, "timing": clock["timing"]} for result, clock in zip(raw[member.name], clocked, strict=True)]


def _seconds(result: dict[str, Any], *phases: str) -> float:
    """Seconds of iterations 1 to the last in the given phases (all of them without any)."""
    return sum(entry[phase] for entry in result["timing"]["ledger"][1:] for phase in phases or PHASES)


def wdpo_over(raw: Raw, measure: str, other: str) -> np.ndarray:
    """wDPO minus another loss at equal ratio, OPTune."""
    return mean_over_ratios(raw, "wdpo", "lowest_reward", measure) - mean_over_ratios(
        raw, other, "lowest_reward", measure
    )


def wdpo_sooner(raw: Raw, measure: str) -> np.ndarray:
    """wDPO's lead over DPO on the way: mean of iterations 1 and 2 (time per iteration is the same for both losses)."""
    early = [
        mean_over_ratios(raw, "wdpo", "lowest_reward", measure, t=t)
        - mean_over_ratios(raw, "dpo", "lowest_reward", measure, t=t)
        for t in (1, 2)
    ]
    return np.mean(early, axis=0)


ALPACA_ARMS = (
    arm("wdpo", "all"),
    arm("wdpo", "random", 0.5),
    arm("wdpo", "lowest_reward", 0.5),
    arm("wdpo", "lowest_reward", 0.7),
    arm("wdpo", "random", 0.7),
)


def best_on_alpaca(raw: Raw, measure: str) -> np.ndarray:
    """OPTune at 0.7 minus its strongest rival among the arms of Table 2."""
    values = {a.name: np.array([r[measure] for r in raw[ALPACA + a.name]], dtype=float) for a in ALPACA_ARMS}
    ours = values.pop(arm("wdpo", "lowest_reward", 0.7).name)
    return least([ours - rival for rival in values.values()])


# --- when selection pays, and beyond the paper -----------------------------------------------------------------------


def ranking_over_random(raw: Raw, measure: str, strategy: str, mix: str) -> np.ndarray:
    """One ranking minus random selection at 0.5 in one world."""
    return of(raw, measure, "wdpo", strategy, 0.5, mix) - of(raw, measure, "wdpo", "random", 0.5, mix)


def half_against_full(raw: Raw, measure: str, mix: str) -> np.ndarray:
    """OPTune at 0.5 minus ratio 1 in one world."""
    return of(raw, measure, "wdpo", "lowest_reward", 0.5, mix) - of(raw, measure, "wdpo", "all", mix=mix)


FRESH_ARMS = tuple(arm("wdpo", "lowest_reward", ratio, pairs__view="fresh") for ratio in RATIOS)
LONG_ARMS = tuple(arm("wdpo", name, 0.5, iterations=6) for name in ("lowest_reward", "random"))


BEST_STRATEGY_ARMS = tuple(arm("wdpo", name, 0.5) for name in (BEST_STRATEGY, "lowest_reward"))


def reuse_over_fresh(raw: Raw, measure: str) -> np.ndarray:
    """Training on reused and fresh pairs minus training on the fresh ones alone, OPTune, mean over ratios."""
    fresh = np.mean([outcome(raw, a.name, measure) for a in FRESH_ARMS], axis=0)
    return mean_over_ratios(raw, "wdpo", "lowest_reward", measure) - fresh


def equal_tokens(raw: Raw, measure: str) -> np.ndarray:
    """Half the prompts for six iterations minus all prompts for three, where both have generated as many tokens."""
    full, half = raw[arm("wdpo", "all").name], raw[LONG_ARMS[0].name]
    return _at_equal_cost(full, half, measure, lambda entry: entry["tokens"])


def equal_seconds(raw: Raw, measure: str) -> np.ndarray:
    """The same where both have taken as many seconds of generation, rewarding and training."""
    full, half = on_the_clock(raw, arm("wdpo", "all")), on_the_clock(raw, LONG_ARMS[0])
    return _at_equal_cost(full, half, measure, seconds_of)


def best_strategy_over_lowest(raw: Raw, measure: str) -> np.ndarray:
    """The best further strategy minus the paper's, at ratio 0.5."""
    best, lowest = (outcome(raw, a.name, measure) for a in BEST_STRATEGY_ARMS)
    return best - lowest


def _at_equal_cost(full: list[dict], half: list[dict], measure: str, cost: Callable[[dict], float]) -> np.ndarray:
    """(n_seeds,): the half arm's outcome, interpolated between its iterations where it has cost what the full arm's
    iterations 1-3 did, minus the full arm's. Where six iterations cost less, it is the sixth's outcome.
    """
    differences = []
    for a, b in zip(full, half, strict=True):
        spent = np.cumsum([cost(entry) for entry in b["timing"]["ledger"][1:]])
        budget = sum(cost(entry) for entry in a["timing"]["ledger"][1:])
        values = [point[measure] for point in b["iterations"][1:]]
        differences.append(np.interp(budget, spent, values) - a["iterations"][PRIMARY_ITERATION][measure])
    return np.array(differences)


INTERPOLATED = (equal_tokens, equal_seconds)  # not a mean over prompts


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
    found = [
        _recipe_claim(
            name, RECIPE_TITLES[rival], unit, partial(over, name=name, rival=rival, unit=unit), (name, rival), rival
        )
        for name, rival, unit in rivals
    ]
    found += [
        _recipe_claim(
            "optune", "every other recipe", unit, partial(over_every, name="optune", unit=unit), every, "every"
        )
        for unit in ("tokens", "seconds")
    ]
    return tuple(found)


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
)

# Claims that only real models, benchmarks and people can settle: shown with our numbers, never with a verdict.
REAL_ONLY = (
    ("table3-best-average", "table3", "OPTune at ratio 0.7 has the best average over the four benchmarks."),
    ("table3-no-regression", "table3", "No online policy falls behind the SFT policy on the benchmarks' average."),
    ("table4-over-random", "table4", "People prefer OPTune at ratio 0.7 to random selection at 0.7."),
    ("table4-like-full", "table4", "People rate OPTune at ratio 0.7 like ratio 1."),
)
