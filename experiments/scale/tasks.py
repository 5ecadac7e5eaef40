"""What `make bench-scale` measures: each task in a process of its own, with the method's own functions and stages.

    python -m experiments.scale.tasks TASK N FOLDER

prints one JSON object: `seconds` of processor time of the work alone (which others on the machine change little, unlike
the time on the clock, `wall_s`), `peak` bytes of memory of the whole process, and what else a task finds. `prepare`
writes what the stages read: N prompts, all sampled twice in iteration 0 and half of them again in iteration 1, with
responses of RESPONSE_TOKENS tokens and rewards. It is no stage, so it is timed by nobody.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from optune.config import parse_config
from optune.history import SCHEMA, History, write_rows
from optune.loop.stages import Stages
from optune.prompts.files import SCHEMA as PROMPTS
from optune.store import Artefact, content_hash
from optune.types import Prompt, Response
from optune.utils.ranking import lowest_set, ranking

RESPONSE_TOKENS = 32
TURNS = 5  # of what is short enough to be timed more than once, in turn with what it is compared with


# --- on arrays --------------------------------------------------------------------------------------------------------


def argpartition(n: int, folder: Path) -> dict[str, Any]:
    """numpy alone: the half of n scores that is lowest."""
    return {"seconds": min(_turns([_partition(_scores(n))])[0])}


def select_set(n: int, folder: Path) -> dict[str, Any]:
    """The same half by our function, whose ties break by a hash; timed in turn with numpy."""
    scores = _scores(n)
    alone, ours = _turns([_partition(scores), lambda: lowest_set(scores, n // 2, lambda places: places)])
    return {"seconds": min(ours), "beside_argpartition": float(np.median(np.array(ours) / np.array(alone)))}


def rank(n: int, folder: Path) -> dict[str, Any]:
    """All n scores in order, ties by a hash; timed in turn with numpy's sort, which is linear-log."""
    scores = _scores(n)
    alone, ours = _turns([lambda: np.argsort(scores), lambda: ranking(scores, lambda places: places)])
    return {"seconds": min(ours), "beside_argsort": float(np.median(np.array(ours) / np.array(alone)))}


def _scores(n: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(n)


def _partition(scores: np.ndarray) -> Callable[[], Any]:
    return lambda: np.argpartition(scores, len(scores) // 2)[: len(scores) // 2]


def _turns(works: Sequence[Callable[[], Any]]) -> list[list[float]]:
    """Seconds of each work, TURNS times, one after the other."""
    by_work: list[list[float]] = [[] for _ in works]
    for _ in range(TURNS):
        for seconds, work in zip(by_work, works, strict=True):
            started = time.process_time()
            work()
            seconds.append(time.process_time() - started)
    return by_work


# --- stages of a run --------------------------------------------------------------------------------------------------


def prepare(n: int, folder: Path) -> dict[str, Any]:
    """Prompts, responses without rewards, and the history of two iterations."""
    step = 1 << 16
    prompts = folder / "prompts"
    for path in (prompts, folder / "responses", folder / "0", folder / "1"):
        path.mkdir(parents=True)
    starts = range(0, n, step)
    write_rows(prompts / "prompts.parquet", PROMPTS, (_prompts(s, min(s + step, n)) for s in starts))
    write_rows(
        folder / "responses" / "responses.parquet", SCHEMA, (_rows(s, min(s + step, n), 0, False) for s in starts)
    )
    for t, count in ((0, n), (1, n // 2)):
        tables = (_rows(s, min(s + step, count), t, True) for s in range(0, count, step))
        write_rows(folder / str(t) / "history.parquet", SCHEMA, tables)
    return {"seconds": 0.0}


def _ids(start: int, end: int) -> list[str]:
    return [f"prompt-{i:010d}" for i in range(start, end)]


def _prompts(start: int, end: int) -> pa.Table:
    ids = _ids(start, end)
    columns = {"prompt_id": ids, "prompt": [f"what is said of {i}?" for i in ids]}
    return pa.table({**columns, "messages": pa.nulls(len(ids), pa.string()), "category": [""] * len(ids)}, PROMPTS)


def _rows(start: int, end: int, iteration: int, scored: bool) -> pa.Table:
    rng = np.random.default_rng((start, iteration))
    count = 2 * (end - start)
    tokens = rng.integers(2, 30000, size=(count, RESPONSE_TOKENS), dtype=np.int32)
    lists = pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * RESPONSE_TOKENS, tokens.ravel())
    columns = {
        "prompt_id": np.repeat(np.array(_ids(start, end), dtype=object), 2),
        "index": np.tile(np.arange(2, dtype=np.int32), end - start),
        "iteration": np.full(count, iteration, dtype=np.int32),
        "token_ids": lists,
        "text": [f"answer {number} of {iteration} " + "word " * RESPONSE_TOKENS for number in tokens[:, 0]],
        "finish_reason": ["stop"] * count,
        "logprob": rng.normal(size=count),
        "reward": rng.normal(size=count) if scored else pa.nulls(count, pa.float64()),
        "retokenized": np.zeros(count, dtype=bool),
    }
    return pa.table(columns, schema=SCHEMA)


def select(n: int, folder: Path) -> dict[str, Any]:
    """The stage `select` of iteration 2: history, view, the lower half, in rank order."""
    stages, prompts, history = _run(folder)
    made, seconds = _timed(lambda: stages.select(2, prompts, history))
    return {**seconds, "selected": made.counts["selected"]}


def score(n: int, folder: Path) -> dict[str, Any]:
    """The stage `score` of iteration 0, with a reward that takes no time: reading, rewarding, writing."""
    stages, prompts, _ = _run(folder)
    made, seconds = _timed(lambda: stages.score(0, prompts, _artefact(folder / "responses")))
    return {**seconds, "rewards": made.counts["rewards"]}


def pair(n: int, folder: Path) -> dict[str, Any]:
    """The stage `pairs` of iteration 1: half of the pairs fresh, half reused."""
    stages, prompts, history = _run(folder)
    made, seconds = _timed(lambda: stages.pairs(1, prompts, history))
    return {**seconds, "pairs": made.counts["pairs"], "reused": made.counts["reused"]}


def rows(n: int, folder: Path) -> dict[str, Any]:
    """What the preference step of iteration 1 learns from: prompts encoded, every row read once."""
    from optune.pairs.rows import preference_rows
    from optune.sandbox.parts.models import word_tokenizer

    stages, prompts, history = _run(folder)
    pairs, tokenizer = stages.pairs(1, prompts, history), word_tokenizer()

    def read() -> int:
        table = preference_rows(stages.config, tokenizer, prompts / "prompts.parquet", pairs / "pairs.parquet", 1)
        return sum(1 for _ in table)

    made, seconds = _timed(read)
    return {**seconds, "rows": made}


def resume(n: int, folder: Path) -> dict[str, Any]:
    """Finding `score`, `select` and `pairs` finished: their inputs' and their own files are hashed."""
    stages, prompts, history = _run(folder)

    def again() -> list[Artefact]:
        artefacts = [stages.score(0, prompts, _artefact(folder / "responses"))]
        return [*artefacts, stages.select(2, prompts, history), stages.pairs(1, prompts, history)]

    artefacts, seconds = _timed(again)
    return {**seconds, "reused": all(artefact.reused for artefact in artefacts)}


class Reward:
    """The length of a text: no model."""

    def __init__(self, settings: Any):
        pass

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Response], seed: int) -> list[float]:
        return [float(len(r.text)) for r in responses]


def engine(*_: Any, **__: Any) -> list[Response]:
    """Samples nothing: no stage that is measured asks for it."""
    raise NotImplementedError


def _run(folder: Path) -> tuple[Stages, Artefact, History]:
    settings = {
        "policy": {"model": "none"},
        "reward": {"kind": f"{MODULE}:Reward"},
        "prompts": {"path": str(folder / "prompts" / "prompts.parquet")},
        "generation": {"engine": f"{MODULE}:engine"},
    }
    stages = Stages(parse_config(settings, "bench-scale"), folder / "run", folder / "stages")
    history = History((folder / "0" / "history.parquet", folder / "1" / "history.parquet"))
    return stages, _artefact(folder / "prompts"), history


def _artefact(folder: Path) -> Artefact:
    return Artefact(folder, folder.name, content_hash(folder), {}, {}, reused=True)


def _timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    wall, processor = time.perf_counter(), time.process_time()
    made = work()
    return made, {"seconds": time.process_time() - processor, "wall_s": time.perf_counter() - wall}


MODULE = "experiments.scale.tasks"
TASKS = {f.__name__: f for f in (argpartition, select_set, rank, prepare, select, score, pair, rows, resume)}


def peak_bytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    answer = TASKS[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps(answer | {"peak": peak_bytes()}))
