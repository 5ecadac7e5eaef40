"""Which prompts to regenerate: Algorithm 1, lines 4-7 and 10.

A strategy is `f(view, k, rng) -> ids`: it ranks the prompts of a `HistoryView` and returns the k to regenerate, first
one first. To add one, write the function and its line in STRATEGIES; from outside, name it `package.module:function`.

A prompt gets `generation.n` responses each time that it is in the ids. A strategy that returns an id more than once, to
sample more responses of one prompt, says so: `f.repeats = True`. The budget stays k, so it then samples fewer prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pandas as pd

from optune.history import HistoryView
from optune.selection.further import learnable, low_and_varied, lowest_centered, retiring, stalest
from optune.selection.literature import adaptive_rollout, greso
from optune.types import UserError
from optune.utils.hashing import stable_seed
from optune.utils.registry import resolve

Strategy = Callable[[HistoryView, int, np.random.Generator], np.ndarray]


def lowest_reward(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """The paper: the prompts whose preferred response has the lowest reward."""
    return view.lowest(view.preferred_reward, k)


def highest_reward(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """The opposite ranking, as a control."""
    return view.lowest(-view.preferred_reward, k)


def lowest_mean_reward(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """Ranked by the mean reward of a prompt's responses."""
    return view.lowest(np.nanmean(view.rewards, axis=1), k)


def lowest_rejected_reward(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """Ranked by the reward of the rejected response."""
    return view.lowest(np.nanmin(view.rewards, axis=1), k)


def lowest_gap(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """The prompts with the smallest gap between preferred and rejected reward: their pairs say least."""
    return view.lowest(np.nanmax(view.rewards, axis=1) - np.nanmin(view.rewards, axis=1), k)


def random(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """The paper's baseline: k prompts at random, without replacement."""
    return rng.permutation(view.prompt_ids)[:k]


def every(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """Algorithm 2: all prompts, every iteration."""
    return view.prompt_ids


def nothing(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """The static control: regenerates nothing after iteration 0."""
    return view.prompt_ids[:0]


STRATEGIES: dict[str, Strategy] = {
    "lowest_reward": lowest_reward,
    "random": random,
    "highest_reward": highest_reward,
    "lowest_mean_reward": lowest_mean_reward,
    "lowest_rejected_reward": lowest_rejected_reward,
    "lowest_gap": lowest_gap,
    "all": every,
    "none": nothing,
    "lowest_centered": lowest_centered,
    "low_and_varied": low_and_varied,
    "stalest": stalest,
    "retiring": retiring,
    "learnable": learnable,
    "greso": greso,
    "adaptive_rollout": adaptive_rollout,
}


def selection_count(ratio: float | str | Fraction, n: int) -> int:
    """N = ceil(rho |P|) of line 4, exactly: 7 of 100 at 0.07, where floating point says 8."""
    try:
        exact = Fraction(str(ratio))
    except (ValueError, ZeroDivisionError):
        raise UserError(f"The selection ratio must be a number in (0, 1], not {ratio!r}.") from None
    if not 0 < exact <= 1:
        raise UserError(f"The selection ratio must lie in (0, 1], not {ratio}.")
    return math.ceil(exact * n)


def select_prompts(view: HistoryView, ratio: float | str | Fraction, strategy: str = "lowest_reward") -> list[str]:
    """The ids to regenerate, in rank order: prompts never sampled first, then the strategy's.

    An id is in it twice or more where the strategy `repeats` ids. Raises UserError where another strategy does so, and
    where any returns an unknown id or more ids than it was asked for.
    """
    k = selection_count(ratio, len(view))
    if strategy == "all" and k < len(view):
        raise UserError("Strategy 'all' regenerates every prompt; set the selection ratio to 1.")
    unsampled = view.where(view.sampled_at < 0)
    sampled = view.where(view.sampled_at >= 0)
    first = unsampled.lowest(np.zeros(len(unsampled)), k)
    rng = np.random.default_rng(stable_seed("select", view.seed, view.iteration))
    choose = resolve(STRATEGIES, strategy, "selection strategy")
    chosen = pd.Series(choose(sampled, k - len(first), rng), dtype=object)
    repeats = getattr(choose, "repeats", False)
    if not (chosen.is_unique or repeats) or len(chosen) > k - len(first) or not chosen.isin(sampled.prompt_ids).all():
        kind = "" if repeats else "different "
        raise UserError(f"Strategy {strategy!r} must return at most {k - len(first)} {kind}ids of the view it got.")
    return [*first, *chosen]
