"""Time to ratio 1's final quality, of the arm that was chosen on development seeds (`make develop-time`).

Nothing is measured here: outcomes and seconds are those of the committed raw results of the report seeds, so that the
rows are no machine's. `results/<preset>/time_to_quality.json` keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.bench.rows import Row, not_measured, row
from experiments.bench.timing import spread
from experiments.bench.worlds import REAL
from experiments.compute.results import RESULTS
from experiments.development.economy import FULL
from experiments.development.time_to_quality import on_report_seeds
from experiments.report.economy import chosen_arm, rows_on_report_seeds
from optune.types import UserError
from optune.utils.files import write_json

NAME = "time_to_quality"
PRESETS = ("tiny", "smollm2")
COMMAND = f'make bench ARGS="--only {NAME}"'
GOAL = 0.5
GOALS_REAL = {"seconds": 0.6, "tokens": 0.4}
WHY_REAL = {
    "seconds": "training is {training:.0%} of ratio 1's seconds here, and until it is there the arm trains on "
    "{pairs:.2f} times ratio 1's pairs",
    "tokens": "{iteration_0:.0%} of ratio 1's tokens are sampled in iteration 0, before there is anything to select by",
}
WHAT = "time to ratio 1's final quality"
WHY = (
    "training is {training:.0%} of the seconds of ratio 1's iterations here, and every arm that trains on as many "
    "pairs pays all of it, whatever it saves in generation and rewarding (with the shares of the paper's Table 1 its "
    "time would be {at_published_shares:.2f})"
)


def refresh() -> None:
    """Read the committed results again, and write every preset's rows."""
    for preset in PRESETS:
        write_json(file_of(preset), {"command": COMMAND, "rows": _rows(preset)})


def file_of(preset: str) -> Path:
    """The file that keeps a preset's rows."""
    return RESULTS / preset / "time_to_quality.json"


def _rows(preset: str) -> list[Row]:
    if preset in REAL:
        return of_the_real_model(preset)
    try:
        return [as_row(on_report_seeds(RESULTS, preset))]
    except UserError as error:
        return [not_measured(WHAT, "our own ratio 1", "", GOAL, str(error), "at most")]


def as_row(reached: dict) -> Row:
    """The row; where the arm never reaches ratio 1, its time is that of its whole run, and the goal is missed."""
    win, gold = reached["ahead"]["win_score"], reached["ahead"]["gold_mean"]
    end = f"at its end it is {win:+.1f} points of win score and {gold:+.3f} of gold from ratio 1's"
    there = reached["reached"]
    reaches = "it never gets there; " if there is None else f"it gets there in iteration {there}; "
    apart = spread(reached["iteration_0_apart"])["median"]
    why = f"{reaches}{end}; {WHY.format(**reached)}"
    one = row(
        WHAT,
        f"our own ratio 1; {reached['arm']}",
        "",
        None,
        None,
        spread(reached["time"]),
        GOAL,
        "at most",
        settings={"ours": reached["arm"], "peer": "wdpo-all-1.0, three iterations after iteration 0"},
        note=f"{reached['seeds']} report seeds, runs for the clock; {reaches}{end}; {apart:.2f} without iteration 0; "
        f"{reached['at_published_shares']:.2f} if the phases had the shares of the paper's Table 1",
        why=why,
    )
    return _missed_unless(there is not None, one, why)


def _missed_unless(there: bool, one: Row, why: str) -> Row:
    """The row; an arm that never is where ratio 1 ends misses the goal, however little it spends."""
    return one if there else {**one, "met": False, "why": why}


def of_the_real_model(preset: str) -> list[Row]:
    """Seconds and tokens of the arm that the search on the development seed chose, on report seeds; descriptive.

    Where it does not get to ratio 1's score, they count to its end, and the goal is missed.
    """
    what, full = "{} to ratio 1's final score", "our own ratio 1"
    chosen = chosen_arm(preset)
    rows = rows_on_report_seeds(preset)
    one = next((row for row in rows if row["arm"] == chosen), None)
    if one is None:
        why = f"no search has been made: make develop-economy PRESET={preset}"
        if chosen:
            why = "the arm that the search chose has not been run on report seeds: "
            why += f"python -m experiments.development.economy --preset {preset} --report-seeds 0"
        return [not_measured(what.format(unit), full, "", goal, why, "at most") for unit, goal in GOALS_REAL.items()]
    there = one["reached"]
    told = "it never gets there in win score and gold both" if there is None else f"it gets there in iteration {there}"
    leads = ", ".join(f"{lead:+.1f}" for lead in one["leads"])
    told += f"; at its end its win score is {one['ahead']:+.1f} points from ratio 1's (report seeds: {leads})"
    found = []
    for unit, goal in GOALS_REAL.items():
        why = f"{told}; {WHY_REAL[unit].format(**one)}{_least(rows, unit)}"
        made = row(
            what.format(unit),
            f"{full}; {chosen}",
            "",
            None,
            None,
            spread(one["by_seed"][unit]),
            goal,
            "at most",
            settings={"ours": chosen, "peer": FULL},
            note=told,
            why=why,
        )
        found.append(_missed_unless(there is not None, made, why))
    return found


def _least(rows: Sequence[dict[str, Any]], unit: str) -> str:
    """The arm that gets there with the least, of all that were run on report seeds: told, but not chosen by them."""
    there = [one for one in rows if one["reached"] is not None]
    if not there:
        return ""
    best = min(there, key=lambda one: one[unit])
    told = f"{best['arm']} takes the least, {best[unit]:.2f} ({best['seeds']} report seeds)"
    return f"; of all arms that get there {told}"
