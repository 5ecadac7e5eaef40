"""`report_to`: a run's numbers in TensorBoard, Weights & Biases, Trackio and the like, through accelerate's trackers.

A whole run of the loop is one tracker run, and its step is the number of updates so far. Every update logs TRL's
metrics under `train/`. Every finished stage logs its counts, its seconds and the iteration (`generate/tokens`,
`score/reward_mean`, `train/seconds`, ...). An iteration's means of TRL's metrics are logged under `train_summary/`, so
that no tag has two values at one step. A tracker that writes into the run directory (TensorBoard) continues there: a
continued run does not log the stages again that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from optune.config import OPERATIONAL
from optune.types import UserError
from optune.utils.files import read_json, write_json

TOLD = "told.json"  # in `reports`: the keys of the stages that the trackers which write there have been told of


class Reported(Protocol):
    """What trackers are told of a configuration, a run's or another's."""

    report_to: str | list[str] | None

    def model_dump(self, *, exclude: Any = None) -> dict[str, Any]: ...


class Reporter:
    """Passes stages on to `on_stage`, and to the trackers given.

    local: trackers that write below `reports`, and so still have what an earlier process told them.
    """

    def __init__(
        self,
        trackers: list[Any],
        on_stage: Callable[[dict[str, Any]], None] | None,
        local: Sequence[Any] = (),
        reports: Path | None = None,
    ):
        self.trackers, self.on_stage = [*trackers, *local], on_stage
        self.local, self.file = list(local), reports and reports / TOLD
        self.before: list[str] = read_json(self.file) if self.file and self.file.exists() else []
        self.now = list(self.before)
        self.updates = 0  # in all iterations so far
        self.told = 0  # of them in the iteration under way

    def update(self, metrics: dict[str, Any]) -> None:
        """The metrics of one update, as it is made."""
        self.told += 1
        self._log({f"train/{name}": value for name, value in metrics.items()}, self.updates + self.told)

    def stage(self, entry: dict[str, Any]) -> None:
        """A finished stage: made now, or taken from the store."""
        if self.trackers:
            stage, counts = entry["stage"], entry["counts"]
            if stage == "train":
                self.updates, self.told = self.updates + counts["updates"], 0
            values = {_tag(stage, name): value for name, value in counts.items() if isinstance(value, int | float)}
            values |= {f"{stage}/seconds": entry["timing"]["wall_s"], "iteration": entry["iteration"]}
            had = f"{entry['iteration']} {stage} {entry['key']}"
            self._log(values, self.updates, but=self.local if had in self.before else ())
            self._remember(had)
        if self.on_stage:
            self.on_stage(entry)

    def _log(self, values: dict[str, Any], step: int, but: Sequence[Any] = ()) -> None:
        for tracker in self.trackers:
            if not any(tracker is one for one in but):
                tracker.log(values, step=step)

    def _remember(self, had: str) -> None:
        if self.local and self.file and had not in self.now:
            self.now.append(had)
            write_json(self.file, self.now)


def _tag(stage: str, name: str) -> str:
    """Where a stage's count goes; training's means have the names of its updates' metrics, so a folder of their own."""
    return f"train_summary/{name}" if stage == "train" and name != "updates" else f"{stage}/{name}"


@contextmanager
def reporting(config: Reported, run_dir: Path, on_stage: Callable[[dict[str, Any]], None] | None) -> Iterator[Reporter]:
    """A reporter to the trackers of `config.report_to`, closed with the block. UserError for an unknown name."""
    names = [config.report_to] if isinstance(config.report_to, str) else config.report_to or []
    trackers = [_tracker(name, run_dir, config) for name in names]
    local = [tracker for tracker in trackers if tracker.requires_logging_directory]
    others = [tracker for tracker in trackers if not tracker.requires_logging_directory]
    try:
        yield Reporter(others, on_stage, local, run_dir / "reports")
    finally:
        for tracker in trackers:
            tracker.finish()


def _tracker(name: str, run_dir: Path, config: Reported) -> Any:
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    if name not in LOGGER_TYPE_TO_CLASS:
        raise UserError(f"report_to: unknown {name!r}; known: {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}.")
    kind = LOGGER_TYPE_TO_CLASS[name]
    where = {"logging_dir": str(run_dir / "reports")} if kind.requires_logging_directory else {}
    PartialState()  # most trackers make it themselves; Trackio's only asks for it
    try:
        tracker = kind("optune" if not where else run_dir.name, **where)
        tracker.start()
    except ImportError:
        raise UserError(f"report_to: {name} is not installed; install its package, or leave it out.") from None
    # Addresses and commands may name accounts, and say nothing about results.
    tracker.store_init_configuration(dict(_flat(config.model_dump(exclude=OPERATIONAL))))
    return tracker


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested options as dotted names with plain values."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, bool | int | float | str) else str(value)
