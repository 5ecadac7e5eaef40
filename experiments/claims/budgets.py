"""What an arm's iterations cost by its ledger, and its outcome at the point where a budget is spent.

Costs are counted from the first response on, iteration 0 included, because recipes differ there already. If the budget
ends between two iterations, the outcome is interpolated linearly. Nothing is extrapolated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from experiments.compute.raw_result import LedgerRow, RawResult
from optune.types import UserError

WRITER_READS = "tokens_writer_in"  # the one kind of token that nobody generated
SHORTFALL = 0.1  # of a budget: how much of it an arm may leave unspent after its last iteration


def tokens(entry: LedgerRow) -> float:
    """All tokens of an iteration: responses, and the recipe's other tokens (ledger columns `tokens_<name>`)."""
    return sum(value for name, value in entry.items() if name == "tokens" or name.startswith("tokens_"))


def generated(entry: LedgerRow) -> float:
    """The tokens of an iteration that a policy or a prompt writer generated."""
    return tokens(entry) - entry.get(WRITER_READS, 0)


def seconds(entry: LedgerRow) -> float:
    """Seconds of an iteration: generation, rewarding, training, and the recipe's other work."""
    return sum(value for name, value in entry.items() if name.endswith("_s"))


def spent(result: RawResult, cost: Callable[[LedgerRow], float]) -> np.ndarray:
    """(iterations,): what has been spent by the end of each iteration, from iteration 0 on."""
    return np.cumsum([cost(entry) for entry in result["timing"]["ledger"]])


def mean_spent(results: Sequence[RawResult], cost: Callable[[LedgerRow], float]) -> np.ndarray:
    """(iterations,): the same, mean over results."""
    return np.mean([spent(result, cost) for result in results], axis=0)


def typical_spent(results: Sequence[RawResult], cost: Callable[[LedgerRow], float]) -> np.ndarray:
    """(iterations,): the same with each iteration's median cost over results, since a machine's speed varies."""
    return np.cumsum(np.median([[cost(entry) for entry in result["timing"]["ledger"]] for result in results], axis=0))


def returned(result: RawResult, measure: str) -> np.ndarray:
    """(iterations, ...): the outcome of the policy that the recipe would return after each iteration.

    That is the newest policy or, for a recipe with validation prompts, the best so far on them (the first of equals).
    """
    points = result["iterations"]
    rewards = [point["stages"].get("validate", {}).get("reward_mean") for point in points]
    best = [
        max(range(t + 1), key=lambda s: (rewards[s], -s)) if rewards[t] is not None else t for t in range(len(points))
    ]
    return np.array([points[t][measure] for t in best], dtype=float)


def at_budget(costs: np.ndarray, values: np.ndarray, budget: float, who: str = "An arm") -> np.ndarray:
    """The outcome where `budget` ends. costs: (iterations,), rising; values: (iterations, ...).

    Raises UserError if the first iteration costs more than the budget, or all cost less than 1 - SHORTFALL of it.
    """
    if budget < costs[0]:
        raise UserError(f"{who}: its first iteration costs {costs[0]:.0f}, more than the budget of {budget:.0f}.")
    if costs[-1] < (1 - SHORTFALL) * budget:
        raise UserError(
            f"{who}: its iterations cost {costs[-1]:.0f} of a budget of {budget:.0f}; give it more of them."
        )
    after = int(np.searchsorted(costs, budget))
    if after == len(costs) or costs[after] == budget:
        return values[min(after, len(costs) - 1)]
    share = (budget - costs[after - 1]) / (costs[after] - costs[after - 1])
    return (1 - share) * values[after - 1] + share * values[after]
