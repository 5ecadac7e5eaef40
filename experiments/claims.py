"""The paper's claims and the rules by which we judge them; committed before any two selection arms were compared.

Rules (all fixed beforehand):
- Report seeds 0-9 over at least five sandbox builds; fewer is a preview without verdicts. Nothing is tuned on them.
- One primary contrast per claim, at iteration 3, averaged over the ratios 0.3, 0.5 and 0.7 unless the claim names one.
  A contrast is one number per seed, paired within seeds. Everything else shown is descriptive.
- Two co-primary outcomes: win score against the offline baseline, and mean gold quality on the same prompts. A verdict
  needs both; where they disagree the claim is inconclusive, and the report says which said what.
- Intervals: t over seeds; a crossed bootstrap over seeds and prompts checks them. Holm's correction across claims,
  within each outcome, on the p-value of each claim's primary test.
- Superiority: two-sided t test of the contrast against 0. Parity: two one-sided t tests within MARGIN_SHARE of ratio
  1's gain from iteration 0 to 3, as measured on development seeds (`results/<preset>/development.json`).
- Gate: parity with ratio 1 means something only if ratio 1 beats the static control `none`; else it is not testable.
- The seeds, arms, settings and this file don't change because an arm lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from experiments.arms import RATIOS, arm

MARGIN_SHARE = 0.2
FAMILY_ERROR = 0.05
OUTCOMES = ("win_score", "gold_mean")
PRIMARY_ITERATION = 3

Raw = dict[str, list[dict[str, Any]]]  # arm name -> raw results in order of seeds


@dataclass(frozen=True)
class Claim:
    """One claim: its statement in our words, and the contrast (n_seeds,) that stands for it."""

    key: str
    figure: str
    statement: str
    kind: Literal["superiority", "parity"]
    contrast: Callable[[Raw, str], np.ndarray]
    gated: bool = False  # testable only if ratio 1 beats `none`


def outcome(raw: Raw, name: str, measure: str, iteration: int = PRIMARY_ITERATION) -> np.ndarray:
    """One outcome of one arm at one iteration, shape (n_seeds,)."""
    return np.array([result["iterations"][iteration][measure] for result in raw[name]], dtype=float)


def mean_over_ratios(
    raw: Raw, loss: str, strategy: str, measure: str, ratios: tuple[float, ...] = RATIOS
) -> np.ndarray:
    """The outcome averaged over ratios, shape (n_seeds,)."""
    return np.mean([outcome(raw, arm(loss, strategy, ratio).name, measure) for ratio in ratios], axis=0)


def lowest_over_random(raw: Raw, measure: str) -> np.ndarray:
    """OPTune minus random selection at equal ratios."""
    return mean_over_ratios(raw, "wdpo", "lowest_reward", measure) - mean_over_ratios(raw, "wdpo", "random", measure)


def reduced_against_full(raw: Raw, measure: str) -> np.ndarray:
    """OPTune at the two ratios that the paper calls comparable, minus ratio 1."""
    reduced = mean_over_ratios(raw, "wdpo", "lowest_reward", measure, (0.5, 0.7))
    return reduced - outcome(raw, arm("wdpo", "all").name, measure)


def slope_over_ratio(raw: Raw, measure: str) -> np.ndarray:
    """Least-squares slope of the outcome over the ratios 0.3, 0.5, 0.7 and 1.0 of OPTune, per unit of ratio."""
    levels = [outcome(raw, arm("wdpo", "lowest_reward", ratio).name, measure) for ratio in RATIOS]
    levels.append(outcome(raw, arm("wdpo", "all").name, measure))
    return np.polyfit([*RATIOS, 1.0], np.array(levels), deg=1)[0]


def online_over_baseline(raw: Raw, measure: str) -> np.ndarray:
    """The worst of OPTune's three ratios and ratio 1 against the offline baseline: every one must beat it."""
    names = [*(arm("wdpo", "lowest_reward", ratio).name for ratio in RATIOS), arm("wdpo", "all").name]
    even = 50.0 if measure == "win_score" else np.array([r["baseline"]["gold_mean"] for r in raw[names[0]]])
    return np.min([outcome(raw, name, measure) for name in names], axis=0) - even


def full_over_static(raw: Raw, measure: str) -> np.ndarray:
    """The gate: ratio 1 minus `none`."""
    return outcome(raw, arm("wdpo", "all").name, measure) - outcome(raw, arm("wdpo", "none").name, measure)


CLAIMS = (
    Claim(
        "fig3-lowest-over-random",
        "fig3",
        "At equal ratio, regenerating the lowest-reward prompts beats regenerating random ones (wDPO).",
        "superiority",
        lowest_over_random,
    ),
    Claim(
        "fig3-parity-with-full",
        "fig3",
        "Regenerating 50% or 70% of the prompts is on a par with regenerating all (wDPO).",
        "parity",
        reduced_against_full,
        gated=True,
    ),
    Claim(
        "fig3-rises-with-ratio",
        "fig3",
        "The score rises with the share of prompts regenerated (wDPO).",
        "superiority",
        slope_over_ratio,
    ),
    Claim(
        "fig3-online-over-offline",
        "fig3",
        "Every online policy beats the offline baseline (wDPO).",
        "superiority",
        online_over_baseline,
    ),
)
