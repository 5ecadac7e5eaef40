"""What each iteration of a run did, over all of its prompts: plain numbers for tables and drawings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from optune.view.run_files import NEVER, RunFiles

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 36  # at most: a small run has the square root of its responses
OUTSIDE = 0.002  # share of rewards at each end that the outermost bins may hold together
PHASES = ("generate", "score", "train", "kl", "validate", "outcome")
WEIGHTED = ("wdpo", "dpo_mean_weight")


@dataclass(frozen=True)
class Trajectories:
    """Every prompt's way through a run, as arrays of shape (iterations, prompts).

    best: reward of the best response that an iteration sampled for a prompt, NaN where it was not regenerated.
    asked: whether the prompt is in the iteration's prompt set. latest: `best` of the newest responses up to the
    iteration. newest: the iteration that sampled these, NEVER for none. rank: place of the prompt among those asked for
    and sampled before, by `latest` of the iteration before (1 is the lowest), 0 for the others.
    """

    run: RunFiles

    @cached_property
    def best(self) -> np.ndarray:
        iterations = self.run.iterations
        rows = self.run.responses[self.run.responses["place"] >= 0]
        best = np.full((max(iterations) + 1, self.run.prompts.num_rows), np.nan)
        np.fmax.at(best, (rows["iteration"].to_numpy(), rows["place"].to_numpy()), rows["reward"].to_numpy())
        return best[iterations]

    @cached_property
    def asked(self) -> np.ndarray:
        asked = np.zeros(self.best.shape, dtype=bool)
        for row, t in zip(asked, self.run.iterations, strict=True):
            row[self.run.asked(t)] = True
        return asked

    @cached_property
    def newest(self) -> np.ndarray:
        sampled = np.where(np.isnan(self.best), NEVER, np.array(self.run.iterations)[:, None])
        return np.maximum.accumulate(sampled, axis=0)

    @cached_property
    def latest(self) -> np.ndarray:
        return pd.DataFrame(self.best).ffill().to_numpy()

    @cached_property
    def rank(self) -> np.ndarray:
        rank = np.zeros(self.best.shape, dtype=int)
        for i in range(1, len(rank)):
            known = self.asked[i] & (self.newest[i - 1] >= 0)
            rank[i, known] = pd.Series(self.latest[i - 1, known]).rank(method="min").to_numpy()
        return rank

    @cached_property
    def gain(self) -> np.ndarray:
        """(prompts,) the newest best reward less the first one; NaN for prompts that were sampled at most once."""
        again = (~np.isnan(self.best)).sum(axis=0) > 1
        first = pd.DataFrame(self.best).bfill().to_numpy()[0]
        return np.where(again, self.latest[-1] - first, np.nan)


def bin_edges(runs: Sequence[RunFiles]) -> np.ndarray:
    """(bins + 1,) edges that all histograms of a page share; rewards beyond them count in the outermost bins."""
    rewards = np.concatenate([run.responses["reward"].to_numpy() for run in runs])
    bins = min(BINS, max(8, int(np.sqrt(len(rewards)))))
    low, high = np.quantile(rewards, [OUTSIDE, 1 - OUTSIDE])
    return np.linspace(low, high if high > low else low + 1.0, bins + 1)


def iteration_rows(run: RunFiles, ways: Trajectories, edges: np.ndarray) -> list[dict[str, Any]]:
    """One row per iteration that has rewards. What a stage has not measured yet, or never does, is None."""
    return [_iteration(run, ways, edges, i, t) for i, t in enumerate(run.iterations)]


def _iteration(run: RunFiles, ways: Trajectories, edges: np.ndarray, i: int, t: int) -> dict[str, Any]:
    responses = run.responses
    fresh = responses[responses["iteration"] == t]
    place = responses["place"].to_numpy()
    newest = ways.asked[i, place] & (responses["iteration"].to_numpy() == ways.newest[i, place]) & (place >= 0)
    select, train = run.counts(t, "select"), run.counts(t, "train")
    return {
        "t": t,
        "prompts": select.get("prompts"),
        "selected": select.get("selected"),
        "responses": len(fresh),
        "tokens": int(fresh["tokens"].sum()),
        "truncated": float(fresh["truncated"].mean()) if len(fresh) else None,
        "length": spread(fresh["tokens"].to_numpy()),
        "fresh": spread(fresh["reward"].to_numpy(), edges),
        "latest": spread(responses["reward"].to_numpy()[newest], edges),
        "gain": _regenerated_gain(ways, i),
        **_pairs(run, t, train.get("beta_2")),
        "loss": train.get("loss"),
        "kl": run.counts(t, "kl").get("kl_to_sft"),
        "kl_error": run.counts(t, "kl").get("kl_standard_error"),
        "validation": run.counts(t, "validate").get("reward_mean"),
        "outcome": run.counts(t, "outcome").get("outcome_mean"),
        "seconds": {phase: run.seconds(t, phase) for phase in PHASES if (t, phase) in run.entries},
        "saved": _saved(run, t),
        "memory": run.memory(t),
    }


def spread(values: np.ndarray, edges: np.ndarray | None = None) -> dict[str, Any] | None:
    """Count, mean and QUANTILES of values, and with edges their histogram; None without values."""
    if not len(values):
        return None
    found: dict[str, Any] = {"n": len(values), "mean": float(np.mean(values))}
    found["q"] = np.quantile(values, QUANTILES).tolist()
    if edges is not None:
        found["bins"] = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].tolist()
    return found


def _regenerated_gain(ways: Trajectories, i: int) -> dict[str, Any] | None:
    """How the best reward of the prompts that were sampled again changed against the time before."""
    if i == 0:
        return None
    change = ways.best[i] - ways.latest[i - 1]
    change = change[~np.isnan(change)]
    return {**spread(change), "up": float((change > 0).mean())} if len(change) else None


def _pairs(run: RunFiles, t: int, beta_2: float | None) -> dict[str, Any]:
    frame = run.pairs(t)
    if frame is None:
        return {"pairs": None, "chosen": None, "rejected": None, "left_out": {}, "weight": None}
    chosen, rejected = frame["score_chosen"].to_numpy(), frame["score_rejected"].to_numpy()
    weights = pair_weights(run, chosen - rejected, beta_2)
    return {
        "pairs": {"n": len(frame), "reused": int((frame["chosen_iteration"] < t).sum())},
        "chosen": spread(chosen),
        "rejected": spread(rejected),
        "left_out": run.counts(t, "pairs").get("left_out", {}),
        "weight": None if weights is None else spread(weights),
    }


def pair_weights(run: RunFiles, gaps: np.ndarray, beta_2: float | None) -> np.ndarray | None:
    """R of Eq. 6 for reward gaps, sigma(beta_2 gap); None where the loss has no weights, or has not been trained."""
    if beta_2 is None or run.config["loss"]["name"] not in WEIGHTED:
        return None
    return 1 / (1 + np.exp(-beta_2 * gaps))


def _saved(run: RunFiles, t: int) -> dict[str, float] | None:
    """What sampling and rewarding the reused prompts, too, would have taken, at this iteration's cost of n responses.

    Where an iteration regenerated nothing, the cost is that of iteration 0.
    """
    select = run.counts(t, "select")
    at = t if select.get("selected") else run.iterations[0]
    chosen, reused = run.counts(at, "select"), select.get("reused", 0)
    made = chosen.get("turns", chosen.get("selected"))
    if not made or not reused:
        return None
    seconds = run.seconds(at, "generate") + run.seconds(at, "score")
    return {"seconds": seconds / made * reused, "tokens": run.counts(at, "generate").get("tokens", 0) / made * reused}
