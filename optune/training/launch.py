"""Training in processes of its own: one, which gives all its memory back, or several under `accelerate launch`.

The job goes out and the policy comes back as files below the stage's own folder, which the parent alone publishes: a
worker that dies leaves nothing that could be taken for a result, and one whose parent died ends itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
import yaml

from optune.config import PRESETS, LaunchConfig, TrainingConfig
from optune.pairs.rows import PreferenceRows
from optune.training.job import TrainJob
from optune.types import UserError
from optune.utils.command import one_line
from optune.utils.files import write_json
from optune.utils.hashing import sha256_of
from optune.utils.worker_processes import end_group, free_memory, free_port, keep_log, package_environment, tail

READY = PRESETS / "accelerate"  # ddp.yaml, fsdp.yaml, zero3.yaml
SHARDED = ("FSDP", "DEEPSPEED")
POLL = 0.2  # seconds between two looks at the workers


def train(
    launch: LaunchConfig,
    job: TrainJob,
    rows: Sequence[dict[str, Any]],
    out_dir: Path,
    on_log: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """`train_dpo` in workers; raises UserError, in one sentence, whatever ends them."""
    check(launch, job.settings)
    job_dir = out_dir / ".job"
    job_dir.mkdir(parents=True)
    machine = {"host": socket.gethostname(), "threads": max(1, torch.get_num_threads() // launch.processes)}
    write_json(job_dir / "job.json", {"job": job.to_json(), **machine})
    pq.write_table(PreferenceRows.of(rows).table, job_dir / "rows.parquet")
    free_memory()  # of this process, which may have held a reward model where the workers will train
    try:
        with _alive(job_dir / "alive"):
            _run(command(launch, job_dir), job_dir, on_log)
        for path in (job_dir / "policy").iterdir():
            os.replace(path, out_dir / path.name)
        return json.loads((job_dir / "result.json").read_text("utf-8"))
    finally:
        shutil.rmtree(job_dir, ignore_errors=True)


def check(launch: LaunchConfig, settings: TrainingConfig) -> None:
    """Raises UserError for what cannot run together, before anything is started."""
    if launch.mode == "process":
        return
    if settings.batching is None:
        raise UserError(
            "launch.mode=accelerate shares each update out among its processes: set training.batching=length_grouped."
        )
    if launch.processes > settings.batch_size:
        raise UserError(
            f"launch.processes={launch.processes} are more than the {settings.batch_size} pairs of an update "
            "(training.batch_size): some would have nothing to do."
        )
    if settings.lora and kind(launch) in SHARDED:
        raise UserError(f"training.lora needs the whole policy in each process, so not launch.config={launch.config}.")
    devices = torch.cuda.device_count()
    if not devices and kind(launch) in SHARDED:
        raise UserError(
            f"launch.config={launch.config} spreads a policy over GPUs, and there is none here: use launch.config=ddp."
        )
    if devices and not launch.command and launch.processes > devices:
        raise UserError(f"launch.processes={launch.processes} are more than the {devices} GPUs here.")


def command(launch: LaunchConfig, job_dir: Path | str = "JOB") -> list[str]:
    """What starts the workers; `plan` prints it."""
    module = ["-m", "optune.training.worker", str(job_dir)]
    if launch.mode == "process":
        return [sys.executable, *module]
    if launch.command:
        return [*launch.command.split(), *module]
    starter = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config_file(launch))]
    starter += ["--num_processes", str(launch.processes), "--main_process_port", str(free_port())]
    return [*starter, *module]


def config_file(launch: LaunchConfig) -> Path:
    """The configuration for `accelerate launch`; raises UserError where there is none."""
    for path in (READY / f"{launch.config}.yaml", Path(launch.config)):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in READY.glob("*.yaml")))
    raise UserError(f"launch.config: {launch.config!r} is neither a file nor one of ours ({known}).")


def kind(launch: LaunchConfig) -> str | None:
    """accelerate's `distributed_type`: MULTI_GPU, FSDP, DEEPSPEED."""
    return yaml.safe_load(config_file(launch).read_text("utf-8")).get("distributed_type")


def launch_key(launch: LaunchConfig | None) -> dict[str, Any]:
    """The launch options that can change a policy's last bits: none where one process trains, here or elsewhere."""
    if launch is None or launch.mode == "process":
        return {}
    return {"launch": {"processes": launch.processes, "config": sha256_of(config_file(launch))}}


def _run(starter: list[str], job_dir: Path, on_log: Callable[[dict[str, Any]], None] | None) -> None:
    """Start the workers and wait for them; whatever happens, none is left running."""
    log = job_dir / "log"
    with open(log, "w", encoding="utf-8") as file:
        try:
            process = subprocess.Popen(
                starter,
                env=package_environment(),
                stdout=file,
                stderr=file,
                start_new_session=True,  # it is ended with all that it starts
            )
        except OSError as error:
            raise UserError(f"launch: {starter[0]!r} cannot be started ({error.strerror}).") from None
    told = 0
    try:
        while process.poll() is None:
            time.sleep(POLL)
            told = _tell(job_dir / "updates.jsonl", told, on_log)
        _tell(job_dir / "updates.jsonl", told, on_log)
    finally:
        end_group(process)
    if not (job_dir / "result.json").exists():
        raise UserError(_reason(process.returncode, job_dir))


def _reason(status: int, job_dir: Path) -> str:
    error = job_dir / "error.json"
    if error.exists():
        told = json.loads(error.read_text("utf-8"))
        if told["known"]:
            return told["text"]
        return f"Training failed in its process ({one_line(told['text'])}); its log is {keep_log(job_dir / 'log')}."
    ended = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    last = one_line(tail(job_dir / "log"))
    return f"The training process {ended} ({last}); its log is {keep_log(job_dir / 'log')}."


def _tell(path: Path, told: int, on_log: Callable[[dict[str, Any]], None] | None) -> int:
    """Pass on what complete lines have come since byte `told`; returns where they end."""
    if on_log is None or not path.exists():
        return told
    with open(path, "rb") as file:
        file.seek(told)
        new = file.read()
    complete = new[: new.rfind(b"\n") + 1]
    for line in complete.splitlines():
        on_log(json.loads(line))
    return told + len(complete)


@contextmanager
def _alive(path: Path) -> Iterator[None]:
    """Hold a lock that is free as soon as this process is gone: workers look at it."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
