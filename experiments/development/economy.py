"""What reaches ratio 1's final score soonest on the real model? A search on a development seed.

Rule, as in `time_to_quality.py`: an arm reaches ratio 1 at the first iteration at which its win score and gold (means
over seeds) are both at least ratio 1's last ones. Seconds are the work done (tokens sampled, responses scored, pairs
trained, iteration 0 included) at what each costs in ratio 1's runs: runs share a machine, so that an arm's own clock
would say little. Tokens are those sampled. Both stand over ratio 1's own, from the start to its end.

Searched, wDPO: the paper's strategy at each ratio; at 0.5 two strategies of the literature, and training on all fresh
pairs but only the half of largest weight, or none, of the reused ones, for as many updates as with all. `none` stands
beside them and is no candidate. Of those that reach ratio 1 the one with the fewest seconds is chosen, else the one
with the highest last win score; report seeds have no part in it. One seed, since an arm takes a quarter of an hour.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from experiments.compute.arms import DEVELOPMENT_SEEDS, RATIOS, Arm, arm
from experiments.compute.raw_result import Raw, RawResult
from experiments.compute.results import RESULTS, read_raw
from experiments.compute.run_arms import compute
from experiments.compute.setting import Setting
from experiments.development import time_to_quality
from experiments.development.settings import search_of
from experiments.development.time_to_quality import by_measure, predicted, reached, unit_costs
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.files import read_json, write_json

FULL = time_to_quality.FULL.name
STATIC = arm("wdpo", "none")
TOKENS = {"generation_s": 1.0, "rewarding_s": 0.0, "training_s": 0.0}  # a unit for each token, nothing for the rest
PAIRS = {"generation_s": 0.0, "rewarding_s": 0.0, "training_s": 1.0}
SPENT = ("seconds", "tokens", "pairs")
SEEDS = DEVELOPMENT_SEEDS[:1]
FILE = "development_economy.json"

# Reused pairs that train beside all fresh ones. Iterations: so that all three make as many updates.
KEPT = {
    "all": arm("wdpo", "lowest_reward", 0.5),
    "half": arm("wdpo", "lowest_reward", 0.5, pairs__keep=0.5, iterations=4),
    "none": arm("wdpo", "lowest_reward", 0.5, pairs__view="fresh", iterations=6),
}
SEARCHED = (
    *(arm("wdpo", "lowest_reward", ratio) for ratio in RATIOS),
    *(arm("wdpo", strategy, 0.5) for strategy in ("greso", "adaptive_rollout")),
    *(KEPT[kept] for kept in ("half", "none")),
)
ARMS: tuple[Arm, ...] = (time_to_quality.FULL, STATIC, *SEARCHED)


def economy(raw: Raw) -> list[dict[str, Any]]:
    """A row for each arm but ratio 1: `reached`, the iteration or None; `seconds`, `tokens` and `pairs` (trained), each
    over ratio 1's, to that iteration or else to the arm's end; `by_seed`, the same of every seed at that iteration;
    `ahead`, its last win score minus ratio 1's, and `leads`, the same of every seed; and what no selection saves, of
    ratio 1 (see `unsaved`).
    """
    ends = by_measure(raw[FULL])
    rows = []
    for name, results in raw.items():
        if name == FULL:
            continue
        means, spent = by_measure(results), course(results, raw[FULL])
        there = reached(means, ends)
        at = -1 if there is None else there
        to_there = {what: values[at] for what, values in spent.items()}
        alone = [course([mine], [full]) for mine, full in zip(results, raw[FULL], strict=True)]
        by_seed = {what: [one[what][at] for one in alone] for what in SPENT}
        ahead = means["win_score"][-1] - ends["win_score"][-1]
        leads = [_last_win(mine) - _last_win(full) for mine, full in zip(results, raw[FULL], strict=True)]
        facts = {"arm": name, "seeds": len(results), "reached": there, "ahead": ahead, **unsaved(raw[FULL])}
        rows.append({**facts, **to_there, "by_seed": by_seed, "leads": leads})
    return rows


def _last_win(result: RawResult) -> float:
    return result["iterations"][-1]["win_score"]


def unsaved(full: Sequence[RawResult]) -> dict[str, float]:
    """`training`, as a share of ratio 1's seconds, and `iteration_0`, of its tokens: with as many pairs an arm pays the
    one, and with any selection the other.
    """
    costs, last = unit_costs(full), len(full[0]["iterations"]) - 1
    training = predicted(full, {**dict.fromkeys(costs, 0.0), "training_s": costs["training_s"]}, last)
    return {"training": training / predicted(full, costs, last), "iteration_0": course(full, full)["tokens"][0]}


def course(results: Sequence[RawResult], full: Sequence[RawResult]) -> dict[str, list[float]]:
    """What an arm has spent after each iteration, over what ratio 1 has at its end: seconds, tokens, pairs trained."""
    last = len(full[0]["iterations"]) - 1
    spent = {}
    for what, costs in zip(SPENT, (unit_costs(full), TOKENS, PAIRS), strict=True):
        whole = predicted(full, costs, last)
        spent[what] = [predicted(results, costs, t) / whole for t in range(len(results[0]["iterations"]))]
    return spent


def soonest(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The row that reaches ratio 1 in the fewest seconds; None if none does."""
    there = [row for row in rows if row["reached"] is not None]
    return min(there, key=lambda row: row["seconds"]) if there else None


def chosen(rows: Sequence[dict[str, Any]]) -> str:
    """The searched arm that the rule chooses."""
    candidates = [row for row in rows if row["arm"] in {one.name for one in SEARCHED}]
    return (soonest(candidates) or max(candidates, key=lambda row: row["ahead"]))["arm"]


def search(raw: Raw) -> dict[str, Any]:
    """By arm its row of `economy`, its outcomes and what it has spent after each iteration; and the chosen one."""
    rows, arms = economy(raw), {FULL: {**by_measure(raw[FULL]), **course(raw[FULL], raw[FULL])}}
    for row in rows:
        results = raw[row["arm"]]
        facts = {"reached": row["reached"], "ahead": row["ahead"]}
        arms[row["arm"]] = {**facts, **by_measure(results), **course(results, raw[FULL])}
    return {"seeds": [result["seed"] for result in raw[FULL]], "arms": arms, "chosen": chosen(rows)}


def report(preset: str, seeds: Sequence[int]) -> None:
    """Run the chosen arm, and ratio 1 beside it, on report seeds; the report and `make bench` read the raw results."""
    path = RESULTS / preset / FILE
    if not path.exists():
        raise UserError(f"No arm is chosen yet: make develop-economy PRESET={preset} comes first.")
    name = read_json(path)["chosen"]
    compute(Setting(preset), [time_to_quality.FULL, *(one for one in SEARCHED if one.name == name)], seeds)


def develop(preset: str) -> None:
    """Run what is missing on the development seed; write what there is to know."""
    setting = Setting(preset, search_of(preset).overrides)
    compute(setting, ARMS, SEEDS)
    outcome = search(read_raw(setting.base, preset, ARMS, SEEDS))
    command = f"make develop-economy PRESET={preset}"
    write_json(RESULTS / preset / FILE, {"preset": preset, **outcome, "command": command})
    for name, of in outcome["arms"].items():
        print(f"  {name}: reaches ratio 1 in iteration {of.get('reached')}; win score {of['win_score'][-1]:.1f}")
    print(f"  Chosen: {outcome['chosen']}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", required=True)
    parser.add_argument(
        "--report-seeds", type=int, nargs="+", help="run what was chosen on these, instead of searching"
    )
    options = parser.parse_args(arguments)
    seeds = options.report_seeds
    return exit_status(lambda: report(options.preset, seeds) if seeds else develop(options.preset))


if __name__ == "__main__":
    sys.exit(main())
