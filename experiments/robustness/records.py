"""Records of the long checks' last results: a file for each in results/robustness, a table in docs/reliability.md.

`make chaos`, `make fuzz` and `make audit` write a record when they finish, whatever the result. Trials (fewer kills or
cases, some files only, another preset) and checks that were stopped write none.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments import documents
from experiments.compute.machine import machine, machine_text
from experiments.compute.results import ROOT
from optune.utils.files import read_json, write_json

RECORDS = ROOT / "results" / "robustness"


class Start:
    """When a check started, and from which commit."""

    def __init__(self) -> None:
        self.commit = commit()
        self.clock, self.processor = time.monotonic(), processor_seconds()

    def seconds(self) -> dict[str, float]:
        """Seconds since the start: of the clock, and of the processor for this process and finished children."""
        clocks = {
            "seconds": time.monotonic() - self.clock,
            "processor_seconds": processor_seconds() - self.processor,
        }
        return {name: round(value, 1) for name, value in clocks.items()}


def record(command: str, outcome: str, counts: dict[str, Any], start: Start) -> Path:
    """Write a check's record (its outcome as a sentence, and counts) and the table. Returns the record's file."""
    path = RECORDS / f"{command.split()[1]}.json"
    write_json(
        path,
        {
            "command": command,
            "found": outcome,
            "counts": counts,
            **start.seconds(),
            "date": datetime.now(UTC).date().isoformat(),
            "commit": start.commit,
            "machine": machine(),
        },
    )
    documents.update({"robustness": table(committed())})
    print(f"Recorded in {path.relative_to(ROOT)} and {documents.PLACES['robustness'].file}")
    return path


def commit() -> str | None:
    """The commit that is checked out, `-dirty` where tracked files differ from it; None outside of a repository."""
    told = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"]
    try:
        return subprocess.run(told, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def committed() -> list[dict[str, Any]]:
    """The records that are there, by name."""
    return [read_json(path) for path in sorted(RECORDS.glob("*.json"))]


def table(records: Sequence[dict[str, Any]]) -> str:
    """A row per record."""
    lines = ["| command | what came of it | minutes by the clock (of a core's work) | when and where |"]
    lines.append("|---|---|---|---|")
    for one in records:
        minutes = f"{one['seconds'] / 60:.1f} ({one['processor_seconds'] / 60:.1f})"
        where = f"{one['date']}, commit {one['commit']}, {machine_text(one['machine'])}"
        lines.append(f"| `{one['command']}` | {one['found']} | {minutes} | {where} |")
    return "\n".join(lines)


def processor_seconds() -> float:
    """Processor seconds of this process and of its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
