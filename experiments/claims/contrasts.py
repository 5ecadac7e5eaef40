"""The contrasts: one number per seed for each claim, from the arms that it compares. Rules: `rules.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from experiments.compute.arms import BEST_STRATEGY, RATIOS, Arm, arm, loss_arms
from experiments.compute.raw_result import LedgerRow, Raw, RawResult

PRIMARY_ITERATION = 3
SPEEDUPS = {0.7: 1.27, 0.5: 1.56}  # the paper's


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
    """Of several contrasts the one with the smallest mean, which is the one against the strongest rival.

    If the contrasts differ in spread, another one may have the larger p. Choosing the smallest mean favours
    "contradicted". The rule stays because it was fixed beforehand; the figures show every arm.
    """
    return min(differences, key=np.mean)


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


def offline_level(raw: Raw, name: str, measure: str) -> float | np.ndarray:
    """The offline baseline's outcome, as the results of one arm have it: 50 of win score; gold is (n_seeds,)."""
    return 50.0 if measure == "win_score" else np.array([result["baseline"]["gold_mean"] for result in raw[name]])


def online_over_baseline(raw: Raw, measure: str, loss: str) -> np.ndarray:
    """The weakest of OPTune's three ratios and ratio 1, minus the offline baseline."""
    arms = [a.name for a in loss_arms(loss)]
    even = offline_level(raw, arms[0], measure)
    return least([outcome(raw, name, measure) - even for name in arms])


def full_over_static(
    raw: Raw, measure: str, loss: str = "wdpo", mix: str = "", t: int = PRIMARY_ITERATION
) -> np.ndarray:
    """The gate of parity claims: ratio 1 minus the static control `none`."""
    return of(raw, measure, loss, "all", mix=mix, t=t) - of(raw, measure, loss, "none", mix=mix, t=t)


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


def seconds_of(entry: LedgerRow) -> float:
    """Seconds of one iteration in a ledger, all phases."""
    return sum(entry[phase] for phase in PHASES)


def timed(*arms: Arm) -> tuple[Arm, ...]:
    """Arms with their runs for the clock, which are repeated by turns, as many at once as the machine has cores."""
    return (*arms, *(a.probed("seconds") for a in arms))


def on_the_clock(raw: Raw, member: Arm) -> list[RawResult]:
    """An arm's results with the seconds of its runs for the clock; where none were made, with the runs' own."""
    clocked = raw.get(member.probed("seconds").name)
    if clocked is None:
        return list(raw[member.name])
    return [{**result, "timing": clock["timing"]} for result, clock in zip(raw[member.name], clocked, strict=True)]


def _seconds(result: RawResult, *phases: str) -> float:
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
    """(n_seeds,): the half arm's outcome at the cost of the full arm's iterations 1-3, minus the full arm's outcome.

    The half arm is interpolated between its iterations. If all six cost less than that, the sixth's outcome counts.
    """
    differences = []
    for a, b in zip(full, half, strict=True):
        spent = np.cumsum([cost(entry) for entry in b["timing"]["ledger"][1:]])
        budget = sum(cost(entry) for entry in a["timing"]["ledger"][1:])
        values = [point[measure] for point in b["iterations"][1:]]
        differences.append(np.interp(budget, spent, values) - a["iterations"][PRIMARY_ITERATION][measure])
    return np.array(differences)


INTERPOLATED = (equal_tokens, equal_seconds)  # not a mean over prompts
