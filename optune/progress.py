"""One line of progress for a whole target, with the time left, not only for the current loop."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class Progress:
    """A bar over iterations; `stage` is what `run_optune` calls after each stage."""

    def __init__(self, iterations: int):
        self.bar = tqdm(total=iterations, unit="iteration", file=sys.stderr, dynamic_ncols=True, smoothing=0.1)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def describe(self, text: str) -> None:
        """What is being done now, before the bar."""
        self.bar.set_description(text)

    def stage(self, entry: dict[str, Any]) -> None:
        """Show a finished stage; `train` is an iteration's last."""
        self.bar.set_postfix_str(f"iteration {entry['iteration']} {entry['stage']}", refresh=False)
        self.bar.update(entry["stage"] == "train")
