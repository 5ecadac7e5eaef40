"""The paper's claims, and ours about when and how selection pays: contrasts and rules, committed before the comparison.

Rules (all fixed beforehand):
- Report seeds 0-9 over at least five sandbox builds; fewer is a preview without verdicts. Nothing is tuned on them.
- One primary contrast per claim, at iteration 3, averaged over the ratios 0.3, 0.5 and 0.7 unless the claim names one.
  A contrast is one number per seed, paired within seeds. Everything else shown is descriptive.
- Two co-primary outcomes: win score against the offline baseline, and mean gold quality on the same prompts; a claim
  about something else names its own. A verdict needs all of a claim's outcomes; where they disagree the claim is
  inconclusive, and the report says which said what.
- Intervals: t over seeds; a crossed bootstrap over seeds and prompts checks them where the outcome has prompts.
- Holm's correction within each family of claims (the paper's; the worlds'; beyond the paper; the recipes'; RLHF
  Workflow's), separately for first and second outcomes, on the p-value of each claim's primary test.
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
- RLHF Workflow's own two claims were added when the recipes had been compared, with a learning rate found for its
  optimizer on a development seed, and before its arms had been run on report seeds at that rate. They are judged at
  iteration 3, where it has made as many updates as the offline baseline. Seeds 0 to 2 are run first, for want of time:
  they are a preview without a verdict, and a verdict takes the other seven, whatever the three say.
- The further strategies (`optune/selection/further.py`) are compared at ratio 0.5 on development seeds alone; the one
  with the best mean gold at iteration 3 is then run once on report seeds, against `lowest_reward`.
- The seeds, arms, settings and this file don't change because an arm lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from eval.stats import equivalence
from experiments.compute.raw_result import Raw

MARGIN_SHARE = 0.2
FAMILY_ERROR = 0.05
OUTCOMES = ("win_score", "gold_mean")
Contrast = Callable[[Raw, str], np.ndarray]  # (raw, outcome) -> (n_seeds,)


@dataclass(frozen=True)
class Claim:
    """One claim: its statement in our words, and the contrast (n_seeds,) that stands for it.

    needs: what it reads, below `results/<preset>/raw`. gate: a contrast that must be above 0 for the claim to be
    testable. margin: of parity, for outcomes other than win score and gold; for these,
    margin_share of what was gained on development seeds. clocked: further raw results that it reads
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
    margin_share: float = MARGIN_SHARE
    family: Literal["paper", "worlds", "beyond", "recipes", "rlhf_workflow", "real"] = "paper"
    clocked: tuple[str, ...] = ()
    note: str = field(default="", compare=False)


def p_within(contrast: np.ndarray, margin: float) -> float:
    """p of two one-sided tests that the contrast (n_seeds,) lies within the margin.

    1 where there is no margin: a share of ratio 1's lead is none if ratio 1 has no lead on development seeds.
    """
    return equivalence(contrast, margin) if margin > 0 else 1.0
