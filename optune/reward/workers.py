"""A sequence classifier's batches dealt out over processes: rewards from all GPUs of a machine, or several processors.

Each worker is a process with a device of its own. It loads the model once, answers batches for as long as its caller
has any, and ends, with its hold on memory, when that caller goes. Batches are those of one process, so that a worker
computes what that process would have computed: on like devices with as many threads, every bit of it.
"""

from __future__ import annotations

import json
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

from optune.config import RewardConfig
from optune.utils.files import read_json, write_json, write_text
from optune.utils.worker_processes import free_memory, module_workers, started, worker_threads

Rows = list[list[int]]  # token ids

LOOK_EVERY_S = 0.02
WORKER = "optune.reward.worker"


class Workers:
    """`Network` by `settings.workers` processes; at most as many as the first call has batches, started by it.

    They end with this object, as a model's memory is freed with the model, and where anything fails.
    """

    def __init__(self, settings: RewardConfig) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._end = weakref.finalize(self, self._stack.close)
        self._parts = count()
        self._workers = 0

    def __call__(self, batches: Sequence[Rows]) -> list[list[float]]:
        """The logit of each row of each batch. Raises UserError where a worker fails, naming its log."""
        if not batches:
            return []
        try:
            if not self._workers:
                self._start(min(self._settings.workers, len(batches)))
            return self._answers(batches, next(self._parts))
        except BaseException:
            self._end()
            raise

    def _start(self, workers: int) -> None:
        self._workers = workers
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="optune-reward-")))
        commands, environments = module_workers(WORKER, workers, self._folder, "reward.workers")
        alone = self._settings.model_copy(update={"workers": None}).model_dump()
        write_json(self._folder / "job.json", {"settings": alone, "threads": worker_threads(workers)})
        free_memory()
        self._check = self._stack.enter_context(started(commands, environments, self._folder, "reward worker"))

    def _answers(self, batches: Sequence[Rows], part: int) -> list[list[float]]:
        for rank in range(self._workers):
            write_text(self._folder / asked_file(part, rank), json.dumps(batches[rank :: self._workers]))
        logits: list[list[float]] = [[]] * len(batches)
        for rank in range(self._workers):
            answer = self._folder / answer_file(part, rank)
            wait_for(answer, self._check)
            logits[rank :: self._workers] = take(answer)
        return logits


def asked_file(part: int, rank: int) -> str:
    return f"batches-{part}-{rank}.json"


def answer_file(part: int, rank: int) -> str:
    return f"logits-{part}-{rank}.json"


def wait_for(path: Path, check: Callable[[], Any]) -> None:
    while not path.exists():
        check()
        time.sleep(LOOK_EVERY_S)


def take(path: Path) -> Any:
    """What a file says, which is no longer needed then."""
    value = read_json(path)
    path.unlink()
    return value
