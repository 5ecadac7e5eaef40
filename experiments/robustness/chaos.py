"""Kills runs at random and checks that results stay the same: `make chaos`.

A trial is one arm of the nano preset from nothing: sandbox models are built, the loop runs, every policy is judged. It
is killed with SIGKILL, started again, killed again (up to three times in a row, so also while it resumes), and then
left to finish. Half of the kills come at a random moment, half at a random file operation: just before a file is opened
for writing, renamed or removed, when whatever was written before may be half there. Weights, history, pairs, every
other file of every stage and the raw result must hash as those of the undisturbed run, and the audit must pass. What
came of 50 kills or more is recorded.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.compute.arms import arm
from experiments.compute.results import facts
from experiments.compute.run_arms import run_arm
from experiments.compute.setting import RUNS, Setting
from experiments.robustness.records import Start, record
from optune.finished.audit import audit_run
from optune.store import hash_files
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.files import read_json
from optune.utils.hashing import stable_hash

PRESET, ARM, SEED = "nano", arm("wdpo", "lowest_reward", 0.5), 0
WHOLE = 50  # kills
FILE_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


@dataclass
class Chaos:
    """The counts: kills by what was under way, trials, and trials that ended with another result."""

    kills: Counter[str] = field(default_factory=Counter)
    trials: int = 0
    differing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        where = ", ".join(f"{name} {count}" for name, count in self.kills.most_common())
        return (
            f"{self.kills.total()} kills ({where}) in {self.trials} runs; "
            f"{self.trials - len(self.differing)} of the {self.trials} end as the undisturbed run"
        )


def chaos(kills: int, seed: int, folder: Path, tell: Any = print) -> Chaos:
    """Kill runs below `folder` until `kills` have died. A run with another result is kept there for inspection."""
    rng, tally = random.Random(seed), Chaos()
    calm = folder / "undisturbed"
    shutil.rmtree(folder, ignore_errors=True)
    seconds, events = _undisturbed(calm)
    expected = fingerprint(calm)
    tell(f"undisturbed: {seconds:.1f} s, {events} file operations, {len(expected)} hashes")
    while tally.kills.total() < kills:
        trial = folder / f"trial-{tally.trials}"
        died = _killed(trial, rng, min(rng.choice((1, 2, 3)), kills - tally.kills.total()), seconds, events)
        if _Child(trial).wait() != 0:
            raise UserError(f"{trial}: the run does not continue after kills; see {trial / 'log.txt'}.")
        unlike = sorted(name for name, value in fingerprint(trial).items() if expected.get(name) != value)
        unlike += audit_run(run_dir(trial)).problems
        tally.kills.update(died)
        tally.trials += 1
        tell(f"trial {tally.trials}: killed in {', '.join(died) or 'nothing'}: {'DIFFERS' if unlike else 'identical'}")
        if unlike:
            tally.differing.append(f"{trial}: {'; '.join(unlike)}")
        else:
            shutil.rmtree(trial)
    return tally


def run_dir(folder: Path) -> Path:
    """The directory of the loop's run in a trial."""
    return Setting(PRESET, runs=folder).run_dir(ARM.name, SEED)


def fingerprint(folder: Path) -> dict[str, str]:
    """Hashes of all that a trial's run has made: each stage's files, its counts, and the raw result."""
    parts = {}
    for entry in read_json(run_dir(folder) / "manifest.json")["stages"]:
        name = f"iteration {entry['iteration']} {entry['stage']}"
        parts[f"{name}: counts"] = stable_hash(entry["counts"])
        parts |= {f"{name}: {file}": digest for file, digest in hash_files(Path(entry["path"])).items()}
    raw = facts(read_json(Setting(PRESET, runs=folder).computed(ARM.name, SEED)))
    return {**parts, "raw result": stable_hash(raw)}


# --- one process -----------------------------------------------------------------------------------------------------


class _Child:
    """One start of the run in a forked process, so that the libraries are imported once for all of them."""

    def __init__(self, folder: Path, kill_at_event: int | None = None, count_into: Any = None):
        folder.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=_work, args=(folder, kill_at_event, count_into))
        self.process.start()

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit status; None where it is still running after so many seconds."""
        self.process.join(seconds)
        return self.process.exitcode

    def kill(self) -> int:
        self.process.kill()
        self.process.join()
        return self.process.exitcode


def _work(folder: Path, kill_at_event: int | None, count_into: Any) -> None:
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    events = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal events
        if event in FILE_EVENTS or (event == "open" and _writes(arguments)):
            events += 1
            if events == kill_at_event:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    run_arm(Setting(PRESET, runs=folder), ARM, SEED)  # models, stages and judge replies of this trial alone
    if count_into is not None:
        count_into.value = events


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) if mode is None else any(m in mode for m in "wax+")


def _undisturbed(folder: Path) -> tuple[float, int]:
    """Run once without a kill: seconds, and file operations."""
    # Imported here once, and inherited by every process that is forked.
    from eval.judges import sandbox  # noqa: F401
    from experiments.compute import measure  # noqa: F401
    from optune.generate import hf  # noqa: F401
    from optune.training import dpo as trainer  # noqa: F401

    count = multiprocessing.get_context("fork").Value("i", 0)
    started = time.monotonic()
    if _Child(folder, count_into=count).wait() != 0:
        raise UserError(f"{folder}: the run fails even undisturbed; see {folder / 'log.txt'}.")
    return time.monotonic() - started, count.value


def _killed(folder: Path, rng: random.Random, times: int, seconds: float, events: int) -> list[str]:
    """Start and kill the run so many times; what was under way each time. A run that gets through ends it early."""
    died = []
    for _ in range(times):
        if rng.random() < 0.5:
            at = rng.randint(1, max(1, events))
            status = _Child(folder, at).wait()
            events -= at  # what is left for the next start, roughly
        else:
            after = rng.uniform(0, seconds)
            child = _Child(folder)
            status = child.kill() if child.wait(after) is None else child.wait()
            seconds -= after
        if status == 0:
            break
        if status != -signal.SIGKILL:
            raise UserError(f"{folder}: the run fails while resuming; see {folder / 'log.txt'}.")
        died.append(_under_way(folder))
    return died


def _under_way(folder: Path) -> str:
    """The stage that a killed run left unfinished."""
    if any((folder / "sandbox").glob(".*/")) and not any((folder / PRESET / "stages").glob("*/")):
        return "sandbox"
    unfinished = list((folder / PRESET / "stages").glob("*/.*.tmp"))
    if unfinished:
        return max(unfinished, key=lambda path: path.stat().st_mtime).parent.name
    return "judge" if (folder / PRESET / "judge").exists() else "between stages"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=WHOLE, help="fewer than the default: not recorded")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, default=RUNS / "chaos", help="emptied first")
    options = parser.parse_args(arguments)

    def run() -> int:
        start = Start()
        tally = chaos(options.kills, options.seed, options.folder)
        print(tally)
        if options.kills >= WHOLE:
            usual = (options.kills, options.seed) == (WHOLE, 0)
            command = "make chaos" + ("" if usual else f' ARGS="--kills {options.kills} --seed {options.seed}"')
            counts = {"kills": dict(tally.kills), "runs": tally.trials, "differing": len(tally.differing)}
            record(command, str(tally), counts, start)
        for sentence in tally.differing:
            print(f"differs: {sentence}", file=sys.stderr)
        return 1 if tally.differing else 0

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
