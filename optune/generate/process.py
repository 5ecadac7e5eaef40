"""Processes that an engine starts: each leads a session of its own, so that it ends with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path


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
