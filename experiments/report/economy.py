"""The report's section on what the real model's arms spend until they are where ratio 1 ends. Nothing is claimed here.

The rule is that of `development/economy.py`, whose search on a development seed stands first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments.claims.budgets import seconds
from experiments.claims.real_model import WDPO_ARMS
from experiments.compute.arms import RATIOS, REPORT_SEEDS
from experiments.compute.results import RESULTS, raw_path, read_raw
from experiments.development.economy import FILE, FULL, KEPT, SEARCHED, SPENT, STATIC, economy
from experiments.development.time_to_quality import MEASURES
from optune.utils.files import read_json


def rows_on_report_seeds(preset: str, base: Path = RESULTS) -> list[dict[str, Any]]:
    """A row of `economy` for every arm that has been run on a report seed of ratio 1's, beside ratio 1 on its seeds."""
    arms = {member.name: member for member in (*WDPO_ARMS, *SEARCHED)}
    full, rows = arms.pop(FULL), []
    for member in arms.values():
        folders = [raw_path(base, preset, one.name, 0).parent for one in (full, member)]
        if set.intersection(*({path.name for path in folder.glob("seed*.json")} for folder in folders)):
            rows += economy(read_raw(base, preset, (full, member), REPORT_SEEDS))
    return rows


def chosen_arm(preset: str, base: Path = RESULTS) -> str | None:
    """The arm that the search on the development seed has chosen; None before it."""
    path = base / preset / FILE
    return read_json(path)["chosen"] if path.exists() else None


def section(preset: str) -> Iterable[str]:
    """The report's tables: the search on a development seed, and the report seeds, each where it has been run."""
    tables = [*_searched(preset), *_reported(preset)]
    if tables:
        yield "## Seconds and tokens to ratio 1's final score\n"
        yield "An arm is there at the first iteration whose win score and gold are ratio 1's last ones or better."
        yield "Seconds are the work done, at ratio 1's cost of a token, a scored response and a trained pair, iteration"
        yield "0 included; all are over ratio 1's to its end, and count to the arm's end where it never gets there."
        yield "This is descriptive; no claim rests on it.\n"
        yield from tables


def _searched(preset: str) -> Iterable[str]:
    if chosen_arm(preset) is None:
        return
    search = read_json(RESULTS / preset / FILE)
    arms = search["arms"]
    yield f"Search on development seed {search['seeds'][0]} (one seed, so no interval; win score against the start"
    yield f"policy), `{search['command']}`. Chosen by the rule: {search['chosen']}."
    static = arms[STATIC.name]
    if static["reached"] is not None:
        spent = f"{static['seconds'][static['reached']]:.2f} of the seconds"
        yield f"Never regenerating (`none`) gets there, too, with {spent}, on this seed.\n"
    else:
        yield "Never regenerating (`none`) does not get there.\n"
    yield "| arm | iterations | there in iteration | seconds | tokens | pairs trained | win score | gold |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, of in arms.items():
        last = len(of["win_score"]) - 1
        at = last if of.get("reached") is None else of["reached"]
        there = "" if name == FULL else "never" if of["reached"] is None else at
        spent = " | ".join(f"{of[what][at]:.2f}" for what in SPENT)
        yield f"| {name} | {last} | {there} | {spent} | {of['win_score'][-1]:.1f} | {of['gold_mean'][-1]:.2f} |"
    yield ""
    yield from kept(arms)


def kept(arms: dict[str, dict]) -> Iterable[str]:
    """What training on fewer of the reused pairs costs: leads over all pairs, at equal updates and equal seconds."""
    every = arms[KEPT["all"].name]
    yield "Reused pairs that train beside all fresh ones, OPTune at 0.5: win score (gold) minus that with all, in"
    yield "the arm's iteration that is nearest.\n"
    yield "| reused pairs | at equal iterations | at equal updates | at equal seconds |"
    yield "|---|---|---|---|"
    for part in ("half", "none"):
        mine = arms[KEPT[part].name]
        cells = [_lead(mine, every, len(every["win_score"]) - 1)]
        cells += [_lead(mine, every, nearest(mine[what], every[what][-1])) for what in ("pairs", "seconds")]
        yield f"| {part} | {' | '.join(cells)} |"
    yield ""


def nearest(spent: Sequence[float], rival: float) -> int:
    """The iteration after which an arm has spent most nearly what a rival has at its end."""
    return min(range(len(spent)), key=lambda t: abs(spent[t] - rival))


def _lead(mine: dict, rival: dict, at: int) -> str:
    win, gold = (mine[measure][at] - rival[measure][-1] for measure in MEASURES)
    return f"{win:+.1f} ({gold:+.2f}), iteration {at}"


def _reported(preset: str) -> Iterable[str]:
    rows = rows_on_report_seeds(preset)
    if not rows:
        return
    yield "Report seeds, wDPO:\n"
    yield "| arm | seeds | there in iteration | seconds | tokens | last win score minus ratio 1's |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        there = "never" if row["reached"] is None else row["reached"]
        spent = f"{row['seconds']:.2f} | {row['tokens']:.2f}"
        yield f"| {row['arm']} | {row['seeds']} | {there} | {spent} | {row['ahead']:+.1f} |"
    yield ""


def predicted(preset: str) -> Iterable[str]:
    """What an iteration's shares of time would make of each ratio's speed: a prediction, and no measurement."""
    published = read_json(RESULTS / "published" / "table1.json")["shares"]
    shares = {"the paper's Table 1, 7B on eight GPUs": published["generation"] / sum(published.values())}
    files = raw_path(RESULTS, preset, FULL, 0).parent.glob("seed*.json")
    ledger = [entry for path in files for entry in read_json(path)["timing"]["ledger"]]
    if ledger:
        shares["here"] = sum(entry["generation_s"] for entry in ledger) / sum(map(seconds, ledger))
    yield f"| g, generation's share of ratio 1's time | {' | '.join(f'r = {ratio}' for ratio in RATIOS)} |"
    yield f"|---|{'---|' * len(RATIOS)}"
    for name, share in shares.items():
        yield f"| {share:.1%} ({name}) | {' | '.join(f'{1 / (1 - share * (1 - ratio)):.2f}' for ratio in RATIOS)} |"
    yield ""
