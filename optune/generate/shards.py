"""Prompts sharded over processes: the `hf` engine on all GPUs of a machine, or on several processors' cores.

Each worker is a process with a device of its own, which ends, with its hold on memory, when its prompts are answered.
Prompts are handed out in the batches that one process would form, so that a worker computes what that process would
have computed: the tokens and, on like devices with as many threads, every bit of the log-probabilities.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from optune.config import SamplingSettings
from optune.generate.prepare import in_batches, prepare
from optune.history import read_responses
from optune.types import Prompt, Response
from optune.utils.files import write_json, write_text
from optune.utils.worker_processes import free_memory, module_workers, run_workers, worker_threads

WORKER = "optune.generate.hf_worker"


def sample_in_processes(
    model: str | Path,
    prompts: Sequence[Prompt],
    settings: SamplingSettings,
    *,
    seed: int,
    iteration: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Response]:
    """What `hf` samples in one process, by `settings.workers` of them; the contract is in `optune.generate`."""
    shards = deal(in_batches(prepare(model, prompts, settings).ids, settings), settings.workers)
    rows = len(prompts) * settings.n
    with tempfile.TemporaryDirectory(prefix="optune-hf-") as temporary:
        folder = Path(temporary)
        commands, environments = module_workers(WORKER, len(shards), folder, "generation.workers")
        alone = settings.model_copy(update={"workers": None}).model_dump()
        job = {"model": str(model), "settings": alone, "seed": seed, "iteration": iteration}
        job["threads"] = worker_threads(len(shards))
        write_json(folder / "job.json", job)
        for rank, places in enumerate(shards):
            text = json.dumps([asdict(prompts[i]) for i in places], ensure_ascii=True)
            write_text(folder / f"prompts-{rank}.json", text)
        free_memory()

        def tell() -> None:
            if on_progress:
                on_progress(sum(int(path.read_text("utf-8")) for path in folder.glob("done-*")), rows)

        run_workers(commands, environments, folder, "hf worker", tell)
        answers = [read_responses(folder / f"responses-{rank}.parquet") for rank in range(len(shards))]
    return in_order(shards, answers, settings.n)


def deal(batches: Sequence[Sequence[int]], workers: int) -> list[list[int]]:
    """The places of whole batches, dealt to at most `workers` shards in turn, none of them empty."""
    shards = []
    for rank in range(min(workers, len(batches))):
        shards.append(list(chain.from_iterable(batches[rank::workers])))
    return shards


def in_order(shards: Sequence[Sequence[int]], answers: Sequence[Sequence[Response]], n: int) -> list[Response]:
    """The responses of all shards, `n` to a prompt, in the order of the prompts that were dealt."""
    by_place = {}
    for places, rows in zip(shards, answers, strict=True):
        for j, place in enumerate(places):
            by_place[place] = rows[j * n : (j + 1) * n]
    return list(chain.from_iterable(by_place[place] for place in sorted(by_place)))
