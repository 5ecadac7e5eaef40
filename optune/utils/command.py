"""How every command ends: with a reason in one line and a way to continue. A traceback means a bug."""

from __future__ import annotations

import errno
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from optune.types import UserError

KEPT = "Everything finished is kept: the same command continues from there."
LONGEST_LINE = 1000
OURS = ("optune", "eval", "experiments")
NEEDS = (
    "The package {package!r} is not installed. In the repository `pip install .` installs what optune needs, "
    "`make setup` also what evaluations and experiments need."
)
# Errors of a disk that no code can mend. EFBIG: a limit on one file's size.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived. Schedulers send it; it stops a run as Ctrl-C does."""


def exit_status(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit status: its own, or 0.

    Errors go to stderr. 2: bad input, or a package that is not installed. 1: out of disk or memory. 130: Ctrl-C. 143:
    SIGTERM.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names from files may hold what no terminal shows
    try:
        with _sigterm_stops():
            return command() or 0
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", *OURS):
            raise  # a bug of ours
        print(f"error: {one_line(NEEDS.format(package=package))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(str(stop) or f"\nStopped. {KEPT}", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130
    except BrokenPipeError:  # the reader of our output has had enough, as in `... | head`
        sys.stderr.close()
    except Exception as error:
        reason = gave_out(error)
        if reason is None:
            raise
        print(f"error: {reason} ({one_line(error)}). {KEPT}", file=sys.stderr)
        return 1
    return 0


def one_line(error: object) -> str:
    """An error's text as one printable line of readable length, since it may quote an unchecked file."""
    text = " ".join(str(error).split())
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} ..."


def gave_out(error: Exception) -> str | None:
    """Which resource of the machine ran out, or None if the error is about something else.

    torch and safetensors have no type of their own for it, so their text is read.
    """
    text = str(error).lower()
    if (isinstance(error, OSError) and error.errno in DISK) or any(f"os error {number})" in text for number in DISK):
        return "The disk cannot be written"
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return "The memory does not suffice"
    return None


@contextmanager
def _sigterm_stops() -> Iterator[None]:
    """Inside the block SIGTERM raises Terminated. Only the main thread can set this, so others do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
