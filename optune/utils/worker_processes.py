"""Worker processes of engines and rewards. Each leads its own session, so that its children end with it."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
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
    """Run every worker to its end, with its log in `folder`. `on_poll` is called while they run, and once after.

    If one fails, all are ended and UserError names its log. `what`: the workers' name in that sentence.
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
    """Runs workers for the length of a block and ends them with it; their logs are in `folder`.

    Yields a function that returns the workers still running, and raises UserError if one has failed.
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
                        start_new_session=True,  # so that its children are ended with it
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
    """This process's environment, in which a worker imports the package from the same place."""
    own = str(Path(__file__).resolve().parents[2])
    paths = [own, *filter(None, [os.environ.get("PYTHONPATH")])]
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(paths)}


def worker_devices(workers: int, each: int, what: str) -> list[dict[str, str]]:
    """Environment variables that give each worker `each` GPUs of its own; none if the machine has no GPU.

    Raises UserError if there are too few GPUs. `what`: the options that ask for them, for that sentence.
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
    """Commands and environments of workers `python -m module FOLDER RANK`, each with a GPU if the machine has any.

    Raises UserError if there are too few GPUs. `what`: the option that asks for them, for that sentence.
    """
    commands = [[sys.executable, "-m", module, str(folder), str(rank)] for rank in range(workers)]
    return commands, [package_environment() | own for own in worker_devices(workers, 1, what)]


def worker_threads(workers: int) -> int:
    """CPU threads per worker: as many as this process uses, for the same bits, but all together no more than cores."""
    import torch

    return max(1, min(torch.get_num_threads(), len(os.sched_getaffinity(0)) // workers))


def end_with_parent() -> Callable[[], None]:
    """A function for workers to call now and then. It ends the process once its parent has gone."""
    parent = os.getppid()

    def check() -> None:
        if os.getppid() != parent:
            sys.exit(1)

    return check


def free_memory() -> None:
    """Free torch's cache on the GPU, before other processes need the memory."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def keep_log(log: Path) -> Path:
    """Copy a log to where it outlives its folder, so that an error can name it."""
    kept = Path(tempfile.mkstemp(prefix="optune-engine-", suffix=".log")[1])
    shutil.copy(log, kept)
    return kept


def tail(log: Path) -> str:
    """The last line of a log."""
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"


def end_group(process: subprocess.Popen, patience: float = 30.0) -> None:
    """End a process that leads its own session, with its children: SIGTERM first, SIGKILL after `patience`."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
