"""Whether another machine's values agree with the committed ones, within a tolerance from the committed seeds.

Another processor rounds differently in the last bits, and training lets that grow. An arm computed there is another
draw by the same recipe. It is *consistent* with the committed results if, for win score and gold of every iteration,
the mean over its seeds lies in the prediction interval of the committed seeds:

    mean +- t(n - 1) * s * sqrt(1 / b + 1 / B), at level 99.9%,

with n committed seeds of B builds of the sandbox, their standard deviation s, and b builds among the machine's own
seeds. Seeds of one build share its models, so that a build counts as one draw, not each of its seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.stats import prediction_interval
from experiments.compute.raw_result import RawResult

LEVEL = 0.999
ROUNDING = 1e-9  # of the means themselves, where all seeds are equal
FEWEST_SEEDS = 5  # of fewer committed seeds the interval would take almost anything for consistent
OUTCOMES = {"win_score": ("win score", 1), "gold_mean": ("gold", 2)}  # their names in print, and digits


@dataclass(frozen=True)
class Comparison:
    """One outcome at one iteration: the mean over this machine's seeds, and the prediction interval for it."""

    outcome: str
    iteration: int
    value: float
    low: float
    high: float

    @property
    def consistent(self) -> bool:
        return self.low - ROUNDING <= self.value <= self.high + ROUNDING

    def __str__(self) -> str:
        name, digits = OUTCOMES[self.outcome]
        place = "in" if self.consistent else "outside"
        limits = f"[{self.low:.{digits}f}, {self.high:.{digits}f}]"
        return f"{name} {self.value:.{digits}f} {place} {limits}, iteration {self.iteration}"


def compare(mine: Sequence[RawResult], committed: Sequence[RawResult]) -> list[Comparison]:
    """Every outcome of every iteration that all results have; empty if there are too few results.

    mine, committed: raw results of one arm, one per seed.
    """
    if not mine or len(committed) < FEWEST_SEEDS:
        return []
    draws, units = _builds(mine), _builds(committed)
    comparisons = []
    for outcome in OUTCOMES:
        for iteration in range(min(len(raw.get("iterations", ())) for raw in (*mine, *committed))):
            ours, theirs = (_values(results, iteration, outcome) for results in (mine, committed))
            if None in ours or None in theirs:
                continue
            further = prediction_interval(theirs, draws=draws, units=units, level=LEVEL)
            comparisons.append(Comparison(outcome, iteration, sum(ours) / len(ours), further.low, further.high))
    return comparisons


def _values(results: Sequence[RawResult], iteration: int, outcome: str) -> list[float | None]:
    return [raw["iterations"][iteration].get(outcome) for raw in results]


def _builds(results: Sequence[RawResult]) -> int:
    """Independent draws among results: builds of the sandbox; seeds, where there is no sandbox."""
    return len({raw["seed"] if raw["build"] is None else raw["build"] for raw in results})


def verdict(comparisons: Sequence[Comparison]) -> str:
    """`consistent (...)`, `differs (...)` with the worst outcome, or `differs (...)` where nothing can be compared."""
    outside = [one for one in comparisons if not one.consistent]
    if outside:
        return f"differs ({max(outside, key=_excess)})"
    if not comparisons:
        return f"differs (fewer than {FEWEST_SEEDS} committed seeds, or no win score, to compare with)"
    last = max(one.iteration for one in comparisons)
    return f"consistent ({next(one for one in comparisons if one.iteration == last)})"


def _excess(one: Comparison) -> float:
    """How far outside the interval, in half widths."""
    half = (one.high - one.low) / 2
    return abs(one.value - (one.high + one.low) / 2) / half if half else float("inf")
