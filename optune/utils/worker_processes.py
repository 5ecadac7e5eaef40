"""Processes that engines and rewards start: each leads a session of its own, so that it ends with all it started."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from optune.types import UserError


def run_workers(
    commands: Sequence[Sequence[str | Path]],
    environments: Sequence[Mapping[str, str]],
    folder: Path,
    what: str,
    on_poll: Callable[[], None],
) -> None:
    """Every worker to its end, its log in `folder`; `on_poll` is called meanwhile, and once after.

    Raises UserError where one fails, naming its log; all are ended in any case. `what` they are, for that sentence.
    """
    with started(commands, environments, folder, what) as running:
        while left := running():
            on_poll()
            try:
                left[0].wait(0.5)
            except subprocess.TimeoutExpired:
                continue
        on_poll()


@contextmanager
def started(
    commands: Sequence[Sequence[str | Path]], environments: Sequence[Mapping[str, str]], folder: Path, what: str
) -> Iterator[Callable[[], list[subprocess.Popen]]]:
    """Workers for the length of a block, their logs in `folder`; all are ended with it.

    The block gets a function that gives those still running, and raises UserError where one has failed.
    """
    logs = [folder / f"worker-{rank}.log" for rank in range(len(commands))]
    processes: list[subprocess.Popen] = []

    def running() -> list[subprocess.Popen]:
        left = [process for process in processes if process.poll() is None]
        _check(processes, logs, what)
        return left

    try:
        for command, environment, log in zip(commands, environments, logs, strict=True):
            with open(log, "w", encoding="utf-8") as file:
                processes.append(
                    subprocess.Popen(
                        command,
                        env=environment,
                        stdout=file,
                        stderr=file,
                        start_new_session=True,  # it is ended with all that it starts
                    )
                )
        yield running
    finally:
        for process in processes:
            end_group(process)


def _check(processes: Sequence[subprocess.Popen], logs: Sequence[Path], what: str) -> None:
    for process, log in zip(processes, logs, strict=True):
        if process.poll():
            raise UserError(
                f"The {what} ended with status {process.returncode} ({tail(log)}); its log is {keep_log(log)}."
            )


def package_environment() -> dict[str, str]:
    """This process's environment, with the package where this process found it."""
    own = str(Path(__file__).resolve().parents[2])
    paths = [own, *filter(None, [os.environ.get("PYTHONPATH")])]
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(paths)}


def worker_devices(workers: int, each: int, what: str) -> list[dict[str, str]]:
    """What each worker's environment says of its GPUs, `each` of them; nothing where the machine has none.

    Raises UserError where there are too few; `what` says which options ask for them.
    """
    import torch

    count = torch.cuda.device_count()
    if not count:
        return [{}] * workers
    known = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))).split(",")
    if workers * each > len(known):
        raise UserError(f"{what}: {workers} x {each} GPUs are more than the {len(known)} here.")
    return [{"CUDA_VISIBLE_DEVICES": ",".join(known[r * each : (r + 1) * each])} for r in range(workers)]


def module_workers(module: str, workers: int, folder: Path, what: str) -> tuple[list[list[str]], list[dict[str, str]]]:
    """Commands and environments of workers `python -m module FOLDER RANK`, each with a GPU where there are some.

    Raises UserError where there are too few; `what` says which option asks for them.
    """
    commands = [[sys.executable, "-m", module, str(folder), str(rank)] for rank in range(workers)]
    return commands, [package_environment() | own for own in worker_devices(workers, 1, what)]


def worker_threads(workers: int) -> int:
    """CPU threads of a worker: as many as this process has, so that sums have the same bits, but no more than cores."""
    import torch

    return max(1, min(torch.get_num_threads(), len(os.sched_getaffinity(0)) // workers))


def end_with_parent() -> Callable[[], None]:
    """A function that a worker calls now and then: it ends the process once nobody is there to read its answers."""
    parent = os.getppid()

    def check() -> None:
        if os.getppid() != parent:
            sys.exit(1)

    return check


def free_memory() -> None:
    """Give back what this process has left in torch's cache on the GPU, before others need it."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def keep_log(log: Path) -> Path:
    """A copy of a log that outlives its folder: what a failure is told with."""
    kept = Path(tempfile.mkstemp(prefix="optune-engine-", suffix=".log")[1])
    shutil.copy(log, kept)
    return kept


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
