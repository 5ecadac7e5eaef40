"""Selection strategies of neighbouring papers on reinforcement learning, brought to a loop of preference pairs.

Same contract as in `strategies.py`. The papers' rewards are 0 or 1 and tell solved from unsolved; ours are any numbers.
What takes the place of that is measured once, on iteration 0, so that the scale does not move with the policy:

- a response is *good* if its reward is above iteration 0's mean reward;
- a prompt's responses have *no spread* if highest and lowest reward are within a tenth of iteration 0's mean spread.
  wDPO (beta_2 auto) gives such a pair about the least weight there is, and equal rewards make no pair at all.

With rewards of 0 and 1 both are the papers' own. Like `lowest_reward` they take rewards of different prompts to be on
one scale. Left out is that AR3PO puts a prompt's old success into a group whose fresh responses all failed: here a pair
is of responses that one policy sampled.
"""

from __future__ import annotations

import numpy as np

from optune.history import HistoryView

NO_SPREAD = 0.1  # of iteration 0's mean spread

# GRESO: how often prompts without spread are still tried. The targets are shares of the prompts sampled.
EXPLORATION_AT_FIRST = 0.5
EXPLORATION_STEP = 0.1  # the paper's is 0.01, for each of hundreds of steps; here a step is an iteration
LEAST_TRIED = 1e-6
TARGETS = {"easy": 1 / 12, "hard": 1 / 6}


def greso(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """GRESO (arXiv 2506.02177): random prompts; the longer one had no spread of rewards, the likelier it is skipped.

    A prompt whose last z samplings had no spread is tried with probability p^z. p is one number for easy prompts (good
    responses) and one for hard ones; it falls by a step after an iteration in which more than their target share of the
    prompts had no spread, and rises after another one. It never reaches 0. Prompts are asked in random order, again and
    again, until k are tried; so a skipped one can still be among the last.
    """
    # The round in which a prompt is tried, then a random order within the round.
    return view.ranked_by(rng.geometric(_tried(view)) + rng.random(len(view)))[:k]


def _tried(view: HistoryView) -> np.ndarray:
    """(n,) GRESO's probability of trying each prompt when it is asked, above 0."""
    times, places = view.samplings, range(len(view))
    if times.empty:
        return np.ones(len(view))
    first = times[times["iteration"] == times["iteration"].min()]
    flat = times["spread"] <= NO_SPREAD * first["spread"].mean()
    easy = times["mean"] > first["mean"].mean()
    p = {}
    for kind, of_kind in (("easy", flat & easy), ("hard", flat & ~easy)):
        shares = of_kind.groupby(times["iteration"]).mean()
        p[kind] = exploration(shares.tolist(), TARGETS[kind])

    place = times["place"]
    with_spread = times[~flat].groupby("place")["iteration"].max().reindex(places, fill_value=-1)
    since = flat & (times["iteration"] > place.map(with_spread))
    in_a_row = since.groupby(place).sum().reindex(places, fill_value=0)
    easy_last = easy.groupby(place).last().reindex(places, fill_value=False)
    return np.maximum(np.where(easy_last, p["easy"], p["hard"]) ** in_a_row.to_numpy(), LEAST_TRIED)


def exploration(shares: list[float], target: float) -> float:
    """GRESO's p after iterations in which such `shares` of the prompts had no spread; in (0, 1]."""
    p = EXPLORATION_AT_FIRST
    for share in shares:
        p += -EXPLORATION_STEP if share >= target else EXPLORATION_STEP
        p = min(max(p, EXPLORATION_STEP), 1.0)
    return p


def adaptive_rollout(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """Adaptive rollout (AR3PO, arXiv 2509.25808): twice the responses for hard prompts, none for solved ones.

    A prompt is solved if all its stored responses are good, and hard if none is. In random order, hard prompts get
    2 n responses and the others, solved ones left out, n, until k n are given; what is left of the budget is saved. The
    paper decides between rounds of one step; here the responses of earlier iterations decide.
    """
    times = view.samplings
    first = times[times["iteration"] == times["iteration"].min()]
    good = (view.rewards > first["mean"].mean()).sum(axis=1)  # NaN, where a prompt has fewer responses, is not good
    solved = good == np.isfinite(view.rewards).sum(axis=1)
    turns = np.where(good == 0, 2, np.where(solved, 0, 1))
    order = rng.permutation(len(view))
    return np.repeat(view.prompt_ids[order], turns[order])[:k]


adaptive_rollout.repeats = True
