"""Selection strategies that are not the paper's: each a hypothesis about which prompts repay a fresh sample.

Same contract as in `strategies.py`: `f(view, k, rng) -> ids`, in rank order.
"""

from __future__ import annotations

import numpy as np

from optune.history import HistoryView
from optune.types import UserError
from optune.utils.ranking import ranking


def lowest_centered(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """Lowest reward after subtracting the prompt's mean reward under the start policy.

    A Bradley-Terry reward (Eq. 1) is free up to an offset per prompt; ranking prompts by it ranks those offsets too,
    so rank by how little a prompt has improved. Raises UserError without `selection.offset_samples`.
    """
    if view.offsets is None:
        raise UserError(
            "Strategy 'lowest_centered' needs the prompts' mean rewards: set selection.offset_samples, e.g. to 4."
        )
    return view.lowest(view.preferred_reward - view.offsets, k)


def low_and_varied(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """Low reward and rewards that differ: prompts with the lowest mean of both ranks.

    Hypothesis: where all responses are equally bad, there is nothing to prefer, and a fresh pair teaches little.
    """
    low, varied = _ranks(view, view.preferred_reward), _ranks(view, -np.nanstd(view.rewards, axis=1))
    return view.lowest(low + varied, k)


def stalest(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """The pairs sampled longest ago; among pairs of the same age, those with the lowest reward.

    Hypothesis: a stored pair is worth less the further the policy has moved since it was sampled, whatever its reward.
    """
    return view.lowest(_ranks(view, view.preferred_reward) - len(view) * view.age, k)


def retiring(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """Lowest reward, but prompts whose last fresh sample brought no gain come last.

    Hypothesis: some prompts stay low because the policy cannot solve them, and lowest reward keeps paying for them.
    """
    retired = _last_gain(view) <= 0  # NaN, never regenerated: not retired
    return view.lowest(_ranks(view, view.preferred_reward) + len(view) * retired, k)


def learnable(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """Thompson sampling of each prompt's next gain from a small Bayesian model of past gains.

    gain = a + b * (reward before) + u + noise, with u ~ N(0, tau^2) the prompt's own: a and b by least squares over the
    newest gains; u from the prompt's residual, shrunk by tau^2 / (tau^2 + sigma^2), where tau and sigma (the noise) are
    taken to be equal. Without gains to learn from (iteration 1) the lowest rewards are taken.
    Hypothesis: what a prompt repaid tells more than its reward does, and uncertainty deserves a try (as in
    model-predictive prompt selection for reinforcement learning).
    """
    gain, reward = _last_gain(view), view.preferred_reward
    seen = np.isfinite(gain)
    if seen.sum() < 3 or np.ptp(reward[seen] - gain[seen]) == 0:
        return view.lowest(reward, k)
    before = reward - np.where(seen, gain, 0.0)
    slope, level = np.polyfit(before[seen], gain[seen], deg=1)
    residual = np.where(seen, gain - (level + slope * before), 0.0)
    spread = float(np.std(residual[seen])) / np.sqrt(2)  # tau = sigma: half of the residual variance is the prompt's
    mean = level + slope * reward + 0.5 * residual
    deviation = spread * np.where(seen, np.sqrt(0.5), 1.0)
    return view.lowest(-(mean + deviation * rng.standard_normal(len(view))), k)


def _last_gain(view: HistoryView) -> np.ndarray:
    """(n,) the newest gain of each prompt, NaN where it was never regenerated."""
    last = np.full(len(view), np.nan)
    for column in view.gains.T:
        last = np.where(np.isfinite(column), column, last)
    return last


def _ranks(view: HistoryView, score: np.ndarray) -> np.ndarray:
    """(n,) 0 for the lowest score, ties broken as everywhere."""
    ranks = np.empty(len(view))
    ranks[ranking(score, view.tie_break)] = np.arange(len(view))
    return ranks
