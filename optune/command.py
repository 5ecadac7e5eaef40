"""How every command of ours ends: bad input in one sentence, Ctrl-C with the way to continue, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from optune.types import UserError


def exit_status(command: Callable[[], int | None]) -> int:
    """Run a command: its own status or 0; 2 for bad input, told on stderr; 130 after Ctrl-C."""
    try:
        return command() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        kept = "\nStopped. Everything finished is kept: the same command continues from there."
        print(str(stop) or kept, file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has had enough, as in `... | head`
        sys.stderr.close()
    return 0
