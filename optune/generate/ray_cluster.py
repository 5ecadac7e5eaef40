"""Prompts sharded over a Ray cluster: the `hf` or the `vllm` engine on the GPUs of several machines.

`ray start` makes the cluster (`python -m optune plan --nodes 2` prints the commands). Every worker is a Ray task with
GPUs of its own that ends with its process, so that memory is free before training. Nodes see the policy, this package
and its interpreter under the same paths, as on a shared file system. Ray itself is imported only here.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optune.config import RayConfig, SamplingSettings
from optune.generate import ENGINES
from optune.generate.prepare import in_batches, options_of, prepare
from optune.generate.shards import deal, in_order
from optune.types import Prompt, Response, UserError
from optune.utils.registry import resolve
from optune.utils.worker_processes import free_memory, package_environment


def sample(
    model: str | Path,
    prompts: Sequence[Prompt],
    settings: SamplingSettings,
    *,
    seed: int,
    iteration: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Response]:
    """`settings.n` responses per prompt; the contract is in `optune.generate`."""
    if not prompts:
        return []
    options = options_of(settings)
    shards = deal(in_batches(prepare(model, prompts, settings).ids, settings), options.workers)
    model = str(Path(model).resolve()) if Path(model).exists() else str(model)
    alone = settings.model_copy(update={"engine": options.engine, "ray": None})
    if alone.vllm:
        python = Path(alone.vllm.python)  # tasks run in a folder of Ray's
        own = {"data_parallel_size": 1, "python": str(Path.cwd() / python) if len(python.parts) > 1 else str(python)}
        alone = alone.model_copy(update={"vllm": alone.vllm.model_copy(update=own)})
    free_memory()
    with _cluster(options) as ray:
        # max_calls: a worker's process ends with its task, and its memory is free.
        task = ray.remote(num_cpus=1, num_gpus=_gpus_each(ray, settings, len(shards)), max_calls=1)(_answer)
        dumped = alone.model_dump()
        asked = []
        for places in shards:
            asked.append(task.remote(model, [prompts[i] for i in places], dumped, seed, iteration))
        left = list(asked)
        while left:
            done, left = ray.wait(left)
            try:
                ray.get(done)
            except ray.exceptions.RayError as error:
                raise UserError(f"A worker on the Ray cluster failed: {str(error).strip().splitlines()[-1]}") from None
            if on_progress:
                answered = [len(places) for places, one in zip(shards, asked, strict=True) if one not in left]
                on_progress(sum(answered) * settings.n, len(prompts) * settings.n)
        answers = ray.get(asked)
    return in_order(shards, answers, settings.n)


def _answer(model: str, prompts: Sequence[Prompt], settings: dict[str, Any], seed: int, iteration: int) -> list[Any]:
    """One task: a shard's responses, by an engine in Ray's worker process."""
    from optune.config import SamplingSettings

    own = SamplingSettings(**settings)
    return resolve(ENGINES, own.engine, "engine")(model, prompts, own, seed=seed, iteration=iteration)


def _gpus_each(ray: Any, settings: SamplingSettings, workers: int) -> int:
    """GPUs of one worker; 0 on a cluster without any. Raises UserError where it has too few for all at once."""
    there = int(ray.cluster_resources().get("GPU", 0))
    if not there:
        return 0
    options = options_of(settings)
    each = settings.vllm.tensor_parallel_size if options.engine == "vllm" and settings.vllm else 1
    if workers * each > there:
        raise UserError(f"generation.ray.workers: {workers} x {each} GPUs are more than the {there} of the cluster.")
    return each


@contextmanager
def _cluster(options: RayConfig) -> Iterator[Any]:
    """Ray, connected to its cluster for the length of a block. Raises UserError without Ray or without cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it phones home
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError("generation.engine=ray needs the package ray: pip install ray, on every node.") from None
    if options.address:
        _check_reachable(options.address)
    passed = {name: value for name, value in package_environment().items() if name in PASSED}
    handler = signal.getsignal(signal.SIGTERM)  # Ray puts one of its own in its place
    try:
        ray.init(options.address, runtime_env={"env_vars": passed}, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError) as error:
        raise _no_cluster(options.address, str(error).strip().splitlines()[0]) from None
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raises UserError where nothing listens at a `host:port`: Ray itself would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return  # a name that Ray knows, such as auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise _no_cluster(address, error.strerror or "no answer") from None


def _no_cluster(address: str | None, reason: str) -> UserError:
    return UserError(
        f"There is no Ray cluster at {address!r} ({reason}): start one with `ray start --head`, and name it in "
        "generation.ray.address."
    )


# What a task takes from this process's environment: where the package is, and how its libraries behave.
PASSED = ("PYTHONPATH", "HF_HOME", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "OMP_NUM_THREADS")
