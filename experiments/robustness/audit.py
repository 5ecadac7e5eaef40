"""Checks that raw results are consistent: `make audit`, and `make audit RUN_DIR=...` for one run of the loop.

    python -m experiments.robustness.audit --preset tiny            # every committed raw result, against itself
    python -m experiments.robustness.audit --preset tiny --runs     # and against the runs behind them on this machine

A raw result must count what its verdict letters say, by Eq. 7, and conserve rows from stage to stage. With `--runs`,
each run directory is audited, too, and its policies are measured again from the answers and judge
replies that are kept: the numbers that this machine found must come out, and they must be those of the raw result.
What came of all of tiny's results is recorded.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from eval.verdicts import win_score
from experiments.compute.results import RESULTS, builds, facts, mixed_builds, raw_path
from experiments.compute.setting import Setting
from experiments.robustness.records import Start, record
from optune.config import differences, parse_config
from optune.finished.audit import audit_run
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.files import read_json, read_object
from optune.utils.hashing import stable_hash

LETTERS = {"win": "W", "tie": "T", "lose": "L", "unparsed": "?"}
MEASURES = ("win_score", "win", "tie", "lose", "unparsed", "n", "verdicts", "gold_mean", "gold")


def audit_raw(path: Path) -> list[str]:
    """The contradictions inside one raw result file."""
    raw = read_object(path, "preset", "config", "arm", "seed")
    problems = [] if path == raw_path(path.parents[3], raw["preset"], raw["arm"], raw["seed"]) else ["lies elsewhere"]
    iterations = raw.get("iterations", [])
    numbers = [row["iteration"] for row in iterations]
    is_probe = not any("stages" in row for row in iterations)  # which may look at a few iterations only
    if numbers != (sorted(set(numbers)) if is_probe else list(range(len(iterations)))):
        problems.append("its iterations are not numbered from 0")
    problems += _quality("baseline", raw.get("baseline", {}))
    for row in iterations:
        where = f"iteration {row['iteration']}"
        problems += [*_verdicts(where, row), *_quality(where, row)]
        if "stages" in row:  # a probe's rows have none
            problems += _rows(where, row["stages"], raw["config"])
    return problems


def _verdicts(where: str, row: dict[str, Any]) -> Iterator[str]:
    if "verdicts" not in row:
        return
    letters = Counter(row["verdicts"])
    counts = {name: letters[letter] for name, letter in LETTERS.items()}
    counts["n"] = counts["win"] + counts["tie"] + counts["lose"]
    if sum(letters.values()) != counts["n"] + counts["unparsed"]:
        yield f"{where}: a verdict is none of {', '.join(LETTERS.values())}"
    counts["win_score"] = win_score(counts["win"], counts["lose"], counts["n"])
    wrong = {name: value for name, value in counts.items() if row[name] != value}
    yield from (f"{where}: {name} is {row[name]}, its verdicts give {value}" for name, value in wrong.items())


def _quality(where: str, row: dict[str, Any]) -> Iterator[str]:
    if not row.get("gold") or not row.keys() & {"gold_mean", "verdicts"}:  # a probe's rows have other numbers
        return
    if row["gold_mean"] != fmean(row["gold"]):
        yield f"{where}: gold_mean is {row['gold_mean']}, the prompts' golds give {fmean(row['gold'])}"
    if "verdicts" in row and len(row["gold"]) != len(row["verdicts"]):
        yield f"{where}: {len(row['gold'])} golds and {len(row['verdicts'])} verdicts"


def _rows(where: str, stages: dict[str, dict[str, Any]], config: dict[str, Any]) -> Iterator[str]:
    """Rows in = rows used + rows left out, from stage to stage."""
    prompts, select, generate = stages["prompts"], stages["select"], stages["generate"]
    pairs, view = stages["pairs"], config["pairs"]["view"]
    steps = [
        ("prompts", prompts["offered"], prompts["used"] + prompts["too_long"]),
        ("selection", prompts["used"], select["selected"] + select["reused"]),
        ("prompts answered", select["selected"], generate["prompts"]),
        ("responses", config["generation"]["n"] * select.get("turns", generate["prompts"]), generate["responses"]),
        ("rewards", generate["responses"], stages["score"]["rewards"]),
    ]
    if view == "latest":
        steps.append(("pairs", prompts["used"], pairs["pairs"] + sum(pairs["left_out"].values())))
    yield from (f"{where}, {what}: {came} rows in, {gone} accounted for" for what, came, gone in steps if came != gone)


def audit_run_behind(path: Path) -> list[str] | None:
    """The contradictions in this machine's run of a raw result, and with that result. None if there is no run."""
    from experiments.compute.measure import measure

    raw = read_json(path)
    setting = Setting(raw["preset"])
    run_dir = setting.run_dir(raw["arm"], raw["seed"])
    if not (run_dir / "manifest.json").exists():
        return None
    problems = list(audit_run(run_dir).problems)
    mine = read_object(setting.computed(raw["arm"], raw["seed"]), "iterations")
    unlike = differences(_flat(facts(raw)), _flat(facts(mine)))
    if unlike:
        problems.append(f"this machine's run has another result ({len(unlike)} values; first {unlike[0][:200]})")
    manifest = read_json(run_dir / "manifest.json")
    config = setting.resolve(parse_config(manifest["config"], str(run_dir)))
    policies = [entry["path"] for entry in manifest["stages"] if entry["stage"] == "train"]
    for row, policy in zip(mine["iterations"], policies, strict=False):
        if "verdicts" in row:
            again = measure(policy, config, setting.work_dir)
            unlike = [name for name in MEASURES if name in again and again[name] != row.get(name)]
            problems += [f"iteration {row['iteration']}: measured again, {name} is another" for name in unlike]
    return problems


def _flat(raw: dict[str, Any]) -> dict[str, Any]:
    """A raw result with its iterations by name, and verdicts and golds as their hash."""
    rows = {f"iteration {row['iteration']}": {**row, **_hashes(row)} for row in raw.get("iterations", [])}
    return {**raw, "iterations": rows, "baseline": {**raw.get("baseline", {}), **_hashes(raw.get("baseline", {}))}}


def _hashes(row: dict[str, Any]) -> dict[str, str]:
    return {name: stable_hash(row[name])[:12] for name in ("verdicts", "gold") if name in row}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--runs", action="store_true", help="also the runs behind the results, where they are here")
    parser.add_argument("files", nargs="*", type=Path, help="raw results; default: all committed ones of the preset")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _audit(options))


def _audit(options: argparse.Namespace) -> int:
    files = options.files or sorted((RESULTS / options.preset / "raw").glob("*/seed*.json"))
    if not files:
        raise UserError(f"{RESULTS / options.preset / 'raw'} holds no results.")
    problems, behind, start = 0, 0, Start()
    for file in files:
        unsound = audit_raw(file.resolve())
        if options.runs and (run := audit_run_behind(file)) is not None:
            unsound, behind = unsound + run, behind + 1
        for problem in unsound:
            print(f"does not hold: {file}: {problem}")
        problems += len(unsound)
    mixed = mixed_builds(builds(map(read_json, files)))
    for told in mixed:
        print(f"note: results of different builds of one world, whose differences are not those of arms alone: {told}.")
    runs = f", {behind} of them with the runs behind them" if options.runs else ""
    summary = f"{len(files)} raw results{runs}: {f'{problems} problems' if problems else 'all of it holds'}"
    print(summary)
    if options.preset == "tiny" and not options.files:
        counts = {"raw_results": len(files), "runs": behind, "problems": problems, "seeds_of_mixed_builds": len(mixed)}
        record(f"make audit{' ARGS=--runs' if options.runs else ''}", summary, counts, start)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
