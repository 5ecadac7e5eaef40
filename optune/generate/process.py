"""Processes that an engine starts: each leads a session of its own, so that it ends with all that it started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path


def keep_log(log: Path) -> Path:
    """A copy of a log that outlives its folder: what a failure is told with."""
    kept = Path(tempfile.mkstemp(prefix="optune-engine-", suffix=".log")[1])
    shutil.copy(log, kept)
    return kept


def tail(log: Path) -> str:
    """The last line of a log."""
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"


def end_group(process: subprocess.Popen, patience: float = 30.0) -> None:
    """End a process that leads its own session, and what it started: asked first, killed if it does not go."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
