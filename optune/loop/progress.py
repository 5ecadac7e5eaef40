"""One line of progress for a whole run, with the time left, not only for the current loop.

The label names the stage under way. Every change of it is drawn: tqdm alone draws at most ten times a second, so that
a short stage would never show.
"""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from optune.config import RunConfig
from optune.loop.steps import OUTCOME, STEPS, VALIDATE

# What an iteration's work is taken to be, in shares; sampling shrinks with the selection ratio.
SAMPLING, TRAINING = 0.7, 0.3
FORMAT = "{l_bar}{bar}| {elapsed}, {remaining} left{postfix}"


class Progress:
    """A bar over a run's work; `stage` and `sampled` are what `run_optune` calls as it goes."""

    def __init__(self, config: RunConfig):
        ratio = 0.0 if config.selection.strategy == "none" else config.selection.ratio
        self.sampling = [SAMPLING, *[SAMPLING * ratio] * config.iterations]
        total = sum(self.sampling) + TRAINING * len(self.sampling)
        self.bar = tqdm(total=round(total, 3), file=sys.stderr, bar_format=FORMAT)
        self.done, self.iteration = 0.0, 0
        self.iterations, self.names = config.iterations, [step.name for step in STEPS if step.name != "history"]
        self.names += [VALIDATE.name] if config.validation else []
        self.names += [OUTCOME.name] if config.validation and config.validation.outcome else []
        self._label(f"iteration 0 {self.names[0]}")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def sampled(self, done: int, of: int) -> None:
        """Responses of the sampling under way; what is sampled after training (for the KL) is not counted."""
        if self.iteration >= 0:
            self._show(self.done + self.sampling[self.iteration] * done / of)

    def stage(self, entry: dict[str, Any]) -> None:
        """A finished stage: sampling, or training with all that stands around it."""
        self.iteration = entry["iteration"] if entry["stage"] in ("prompts", "select") else -1
        self.done += {"generate": self.sampling[entry["iteration"]], "train": TRAINING}.get(entry["stage"], 0.0)
        self._show(self.done)
        self._label(self._after(entry["iteration"], entry["stage"]))
        for sentence in entry.get("told", ()):
            self.bar.write(sentence, file=sys.stderr)

    def _after(self, t: int, stage: str) -> str:
        """What comes after a finished stage."""
        if stage != self.names[-1]:
            return f"iteration {t} {self.names[self.names.index(stage) + 1]}"
        return f"iteration {t + 1} {self.names[0]}" if t < self.iterations else "finished"

    def _label(self, text: str) -> None:
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.refresh()

    def _show(self, done: float) -> None:
        self.bar.update(max(0.0, min(done, self.bar.total) - self.bar.n))
