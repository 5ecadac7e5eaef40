"""How soon can ratio 1's final quality be had? A search on development seeds, its rule, and what the report seeds say.

Rule (fixed before any report seed was run with what it chose): an arm *reaches* ratio 1 at the first iteration at which
its mean over the seeds is at least ratio 1's mean after its last iteration, in win score and in gold both. Its time is
that of generation, rewarding and training from the start to the end of that iteration, iteration 0 included, over ratio
1's own from the start to its end. Of SEARCHED, on development seeds and validation prompts, the arm with the least time
is chosen, by `predicted` time: seconds per sampled token, per scored response and per trained pair as ratio 1 has them.
(Development runs share the machine with other work, so that their own clocks say little.) The chosen arm is run once on
report seeds, whatever comes out. If no arm reaches ratio 1, the one with the best mean win score at its end is taken.

What is searched: strategies and reuse. Hypothesis: fresh pairs alone, few at a time, let the policy follow its own
samples more closely than one large step on old ones (each iteration also sets the reference anew), so that fewer
updates are needed; taking turns (`stalest`) then covers every prompt.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from experiments.arms import DEVELOPMENT_SEEDS, Arm, arm
from experiments.compute import RESULTS, base_of, compute
from experiments.development import ON_VALIDATION
from experiments.results import read_raw
from optune.artefacts import write_json
from optune.command import exit_status

FULL = arm("wdpo", "all")


def fresh(strategy: str, ratio: float, iterations: int) -> Arm:
    """Trained on each iteration's own pairs alone."""
    return arm("wdpo", strategy, ratio, pairs__view="fresh", iterations=iterations)


SEARCHED = (
    arm("wdpo", "lowest_reward", 0.3),  # the paper's way
    fresh("stalest", 0.5, 4),
    fresh("stalest", 0.3, 5),
    fresh("lowest_reward", 0.5, 4),
    fresh("stalest", 0.2, 7),
)
MEASURES = ("win_score", "gold_mean")
PHASES = {"generation_s": ("generate", "tokens"), "rewarding_s": ("score", "rewards"), "training_s": ("pairs", "pairs")}
Result = dict[str, Any]


def means(results: Sequence[Result], measure: str) -> list[float]:
    """After each iteration, over seeds."""
    return [fmean(r["iterations"][t][measure] for r in results) for t in range(len(results[0]["iterations"]))]


def reached(results: Sequence[Result], full: Sequence[Result]) -> int | None:
    """The first iteration at which an arm is where ratio 1 ends, in both outcomes; None if it never is."""
    ends = {measure: means(full, measure)[-1] for measure in MEASURES}
    by_measure = {measure: means(results, measure) for measure in MEASURES}
    there = (t for t in range(len(results[0]["iterations"])) if all(by_measure[m][t] >= ends[m] for m in MEASURES))
    return next(there, None)


def unit_costs(full: Sequence[Result]) -> dict[str, float]:
    """Of each phase of ratio 1's runs, seconds per token sampled, response scored and pair trained."""
    ledgers = [entry for result in full for entry in result["timing"]["ledger"]]
    points = [point["stages"] for result in full for point in result["iterations"]]
    return {
        phase: sum(entry[phase] for entry in ledgers) / sum(point[stage][count] for point in points)
        for phase, (stage, count) in PHASES.items()
    }


def predicted(results: Sequence[Result], costs: dict[str, float], last: int) -> float:
    """Mean seconds over seeds of the iterations 0 to `last` at these costs."""
    points = [point["stages"] for result in results for point in result["iterations"][: last + 1]]
    spent = (costs[phase] * point[stage][count] for point in points for phase, (stage, count) in PHASES.items())
    return sum(spent) / len(results)


def summary(raw: dict[str, list[Result]]) -> dict[str, Any]:
    """Per arm its means, the iteration at which it reaches ratio 1 and its time there over ratio 1's; and the best."""
    full = raw[FULL.name]
    costs = unit_costs(full)
    whole = predicted(full, costs, len(full[0]["iterations"]) - 1)
    arms = {}
    for member in (FULL, *SEARCHED):
        results, there = raw[member.name], reached(raw[member.name], full)
        last = len(results[0]["iterations"]) - 1
        arms[member.name] = {
            **{measure: [round(value, 3) for value in means(results, measure)] for measure in MEASURES},
            "reached": there,
            "time": [round(predicted(results, costs, t) / whole, 3) for t in range(last + 1)],
        }
    return {"arms": arms, "chosen": best(arms)}


def best(arms: dict[str, Any]) -> str:
    """By the rule: least time among those that reach ratio 1, else the highest win score at the end."""
    searched = {member.name: arms[member.name] for member in SEARCHED}
    there = {name: found for name, found in searched.items() if found["reached"] is not None}
    if there:
        return min(there, key=lambda name: there[name]["time"][there[name]["reached"]])
    return max(searched, key=lambda name: searched[name]["win_score"][-1])


def develop(preset: str) -> None:
    """Runs what is missing on development seeds; writes what was found."""
    arms = (FULL, *SEARCHED)
    compute(preset, arms, DEVELOPMENT_SEEDS, [ON_VALIDATION])
    raw = read_raw(base_of(preset, [ON_VALIDATION]), preset, arms, DEVELOPMENT_SEEDS)
    facts = {"preset": preset, "seeds": list(DEVELOPMENT_SEEDS), "sandbox": raw[FULL.name][0]["sandbox"]}
    found = {**facts, **summary(raw)}
    write_json(RESULTS / preset / "development_time_to_quality.json", found)
    print("\n".join(lines(found)))


def lines(found: dict[str, Any]) -> list[str]:
    """One arm per line, then the chosen one."""
    rows = []
    for name, of in found["arms"].items():
        points = zip(of["time"], of["win_score"], of["gold_mean"], strict=True)
        told = ", ".join(f"{time:.2f}: {score:.1f} ({gold:.2f})" for time, score, gold in points)
        there = "never" if of["reached"] is None else f"in iteration {of['reached']}"
        rows.append(f"  {name} reaches ratio 1 {there}; time: win score (gold): {told}")
    return [*rows, f"  Chosen: {found['chosen']}"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="tiny")
    options = parser.parse_args(arguments)
    return exit_status(lambda: develop(options.preset))


if __name__ == "__main__":
    sys.exit(main())
