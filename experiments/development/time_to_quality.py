"""How soon can ratio 1's final quality be had? A search on development seeds, its rule, and what the report seeds say.

Rule: an arm *reaches* ratio 1 at the first iteration at which its mean over the seeds is at least ratio 1's mean after
its last iteration, in win score and in gold both. Its time is that of generation, rewarding and training from the start
to the end of that iteration, iteration 0 included, over ratio 1's own from the start to its end. Of what is searched on
development seeds and validation prompts, the arm with the least time is chosen, by `predicted` time: seconds per token
sampled, response scored and pair trained as ratio 1's runs have them (development runs share the machine with other
work, so that their own clocks say little). If no arm reaches ratio 1, the one with the best mean win score at its end
is chosen. What is chosen is then looked at once on report seeds, with the seconds of runs for the clock.

Searched: strategies and reuse, wDPO. All of `develop_strategies.py` (ratio 0.5, latest pairs); the paper's rule at 0.3;
and taking turns (`stalest`) on fresh pairs alone, half of the prompts at a time. Hypothesis of the last: small steps on
fresh samples follow the policy more closely (each iteration sets the reference anew), so that fewer updates suffice.
Smaller steps yet (0.2, 0.3) were not tried, for lack of machine time: seven arms had been planned, and the list was cut
to these after first development numbers of some had been seen. No report seed had a part in it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.claims.contrasts import on_the_clock, seconds_of, timed
from experiments.compute.arms import DEVELOPMENT_SEEDS, REPORT_SEEDS, Arm, arm
from experiments.compute.results import RESULTS, read_raw
from experiments.compute.run_arms import compute
from experiments.compute.setting import Setting
from experiments.development.settings import ON_VALIDATION
from optune.utils.command import exit_status
from optune.utils.files import read_json, write_json

FULL = arm("wdpo", "all")


def fresh(strategy: str, ratio: float, iterations: int) -> Arm:
    """Trained on each iteration's own pairs alone."""
    return arm("wdpo", strategy, ratio, pairs__view="fresh", iterations=iterations)


SEARCHED = (arm("wdpo", "lowest_reward", 0.3), fresh("stalest", 0.5, 4))
CHOSEN = SEARCHED[0]  # by the rule: development_time_to_quality.json
MEASURES = ("win_score", "gold_mean")
PHASES = {"generation_s": ("generate", "tokens"), "rewarding_s": ("score", "rewards"), "training_s": ("pairs", "pairs")}
Result = dict[str, Any]


def means(results: Sequence[Result], measure: str) -> list[float]:
    """After each iteration, over seeds."""
    return [fmean(r["iterations"][t][measure] for r in results) for t in range(len(results[0]["iterations"]))]


def reached(arm_means: dict[str, list[float]], full_means: dict[str, list[float]]) -> int | None:
    """The first iteration at which an arm is where ratio 1 ends, in both outcomes; None if it never is."""
    for t in range(len(arm_means[MEASURES[0]])):
        if all(arm_means[measure][t] >= full_means[measure][-1] for measure in MEASURES):
            return t
    return None


def by_measure(results: Sequence[Result]) -> dict[str, list[float]]:
    """`means` of both outcomes."""
    return {measure: means(results, measure) for measure in MEASURES}


def published_costs(full: Sequence[Result]) -> dict[str, float]:
    """`unit_costs` at which ratio 1's phases have the shares of the paper's Table 1, where generation is most of it."""
    shares = read_json(RESULTS / "published" / "table1.json")["shares"]
    work = work_of(full)
    return {phase: shares[phase.removesuffix("_s")] / work[phase] for phase in PHASES}


def unit_costs(full: Sequence[Result]) -> dict[str, float]:
    """Of each phase of ratio 1's runs, seconds per token sampled, response scored and pair trained."""
    ledger = list(chain.from_iterable(result["timing"]["ledger"] for result in full))
    work = work_of(full)
    costs = {}
    for phase in PHASES:
        costs[phase] = sum(entry[phase] for entry in ledger) / work[phase]
    return costs


def work_of(results: Sequence[Result]) -> dict[str, int]:
    """By phase, the tokens sampled, responses scored and pairs trained in all iterations of all results."""
    points = list(chain.from_iterable(result["iterations"] for result in results))
    work = {}
    for phase, (stage, count) in PHASES.items():
        work[phase] = sum(point["stages"][stage][count] for point in points)
    return work


def predicted(results: Sequence[Result], costs: dict[str, float], last: int) -> float:
    """Mean seconds over seeds of the iterations 0 to `last` at these costs."""
    spent = []
    for result in results:
        for point in result["iterations"][: last + 1]:
            spent += [costs[phase] * point["stages"][stage][count] for phase, (stage, count) in PHASES.items()]
    return sum(spent) / len(results)


def summary(raw: dict[str, list[Result]], halves: dict[str, Any]) -> dict[str, Any]:
    """Per arm its means, the iteration at which it reaches ratio 1 and its time over ratio 1's; and the chosen one.

    halves: `strategies` of `development_strategies.json`, means from iteration 1 on; iteration 0 is shared.
    """
    full = raw[FULL.name]
    costs, ends = unit_costs(full), by_measure(full)
    whole = predicted(full, costs, len(full[0]["iterations"]) - 1)
    arms = {}
    for name in (FULL.name, *(member.name for member in SEARCHED)):
        last = len(raw[name][0]["iterations"]) - 1
        times = [round(predicted(raw[name], costs, t) / whole, 3) for t in range(last + 1)]
        arms[name] = {**by_measure(raw[name]), "reached": reached(by_measure(raw[name]), ends), "time": times}
    for strategy, half in halves.items():
        points = {measure: [ends[measure][0], *half["mean"][measure]] for measure in MEASURES}
        arms[arm("wdpo", strategy, 0.5).name] = {**points, "reached": reached(points, ends), "time": None}
    return {"arms": arms, "chosen": best(arms)}


def best(arms: dict[str, Any]) -> str:
    """By the rule: least time among those that reach ratio 1, else the highest win score at the end."""
    searched = {name: arm for name, arm in arms.items() if name != FULL.name}
    there = {name: arm for name, arm in searched.items() if arm["reached"] is not None}
    if there:
        return min(there, key=lambda name: there[name]["time"][there[name]["reached"]])
    return max(searched, key=lambda name: searched[name]["win_score"][-1])


def develop(preset: str) -> None:
    """Runs what is missing on development seeds; writes what was found."""
    arms = (FULL, *SEARCHED)
    setting = Setting(preset, (ON_VALIDATION,))
    compute(setting, arms, DEVELOPMENT_SEEDS)
    raw = read_raw(setting.base, preset, arms, DEVELOPMENT_SEEDS)
    seeds = [result["seed"] for result in raw[FULL.name]]
    facts = {"preset": preset, "seeds": seeds, "sandbox": raw[FULL.name][0]["sandbox"]}
    halves = read_json(RESULTS / preset / "development_strategies.json")["strategies"]
    search = {**facts, **summary(raw, halves)}
    write_json(RESULTS / preset / "development_time_to_quality.json", search)
    print("\n".join(lines(search)))


def lines(search: dict[str, Any]) -> list[str]:
    """One arm per line, then the chosen one."""
    rows = []
    for name, of in search["arms"].items():
        times = of["time"] or ["?"] * len(of["win_score"])
        points = zip(times, of["win_score"], of["gold_mean"], strict=True)
        told = ", ".join(f"{time}: {score:.1f} ({gold:.3f})" for time, score, gold in points)
        there = "never" if of["reached"] is None else f"in iteration {of['reached']}"
        rows.append(f"  {name} reaches ratio 1 {there}; time: win score (gold): {told}")
    return [*rows, f"  Chosen: {search['chosen']}"]


def on_report_seeds(base: Path, preset: str) -> dict[str, Any]:
    """The chosen arm beside ratio 1 on report seeds, from committed raw results.

    `reached`: its iteration, or None. `time`: per seed, its seconds over ratio 1's, to that iteration or else to its
    end; `iteration_0_apart`: the same without the shared iteration 0. `ahead`: its last means minus ratio 1's.
    `training`: the share of ratio 1's seconds that is training, after iteration 0. `at_published_shares`: `time` as the
    work done would take it with the shares of the paper's Table 1.
    """
    raw = read_raw(base, preset, timed(FULL, CHOSEN), REPORT_SEEDS)
    mine, full = by_measure(raw[CHOSEN.name]), by_measure(raw[FULL.name])
    there = reached(mine, full)
    last = len(mine["win_score"]) - 1 if there is None else there
    mine_timed, full_timed = (on_the_clock(raw, member) for member in (CHOSEN, FULL))
    clocked = list(zip(mine_timed, full_timed, strict=True))
    times = {}
    for name, first in (("time", 0), ("iteration_0_apart", 1)):
        times[name] = [_seconds(a, first, last) / _seconds(b, first) for a, b in clocked]
    ledgers = list(chain.from_iterable(result["timing"]["ledger"][1:] for result in full_timed))
    training = sum(entry["training_s"] for entry in ledgers) / sum(map(seconds_of, ledgers))
    costs, end = published_costs(raw[FULL.name]), len(full["win_score"]) - 1
    ahead = {measure: mine[measure][-1] - full[measure][-1] for measure in MEASURES}
    return {
        "arm": CHOSEN.name,
        "seeds": len(mine_timed),
        "reached": there,
        **times,
        "ahead": ahead,
        "training": training,
        "at_published_shares": predicted(raw[CHOSEN.name], costs, last) / predicted(raw[FULL.name], costs, end),
    }


def _seconds(clocked: Result, first: int, last: int | None = None) -> float:
    """Of the iterations `first` to `last`, both included, or to the end."""
    ledger = clocked["timing"]["ledger"][first : None if last is None else last + 1]
    return sum(map(seconds_of, ledger))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="tiny")
    options = parser.parse_args(arguments)
    return exit_status(lambda: develop(options.preset))


if __name__ == "__main__":
    sys.exit(main())
