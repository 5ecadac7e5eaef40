"""The preference step in a worker: `python -m optune.training.worker JOB`, where JOB is a folder that `launch.py` made.

It runs alone, or as one of several processes under `accelerate launch`. The main process writes the policy, the result
and the updates' metrics.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from optune.types import UserError
from optune.utils import quiet  # noqa: F401  (before any library that phones home)
from optune.utils.command import gave_out
from optune.utils.files import write_json


def main(job_dir: Path) -> int:
    """Returns 0, or 1 after an error. `error.json` then holds the error of the first process that had one."""
    job = json.loads((job_dir / "job.json").read_text("utf-8"))
    if job["host"] == socket.gethostname():
        threading.Thread(target=_end_with_parent, args=(job_dir / "alive",), daemon=True).start()
    try:
        _train(job_dir, job)
    except UserError as error:
        return _failed(job_dir, str(error), known=True)
    except Exception as error:
        traceback.print_exc()
        reason = gave_out(error)
        text = f"{reason} in the training process" if reason else f"{type(error).__name__}: {error}"
        return _failed(job_dir, text, known=False)
    return 0


def _train(job_dir: Path, job: dict[str, Any]) -> None:
    import pyarrow.parquet as pq
    import torch

    from optune.pairs.rows import PreferenceRows
    from optune.training.distributed import this_process
    from optune.training.dpo import train_dpo
    from optune.training.job import TrainJob

    torch.set_num_threads(job["threads"])
    main_process = this_process().is_main_process
    rows = PreferenceRows(pq.read_table(job_dir / "rows.parquet"))
    with open(job_dir / "updates.jsonl" if main_process else os.devnull, "a", encoding="utf-8") as updates:

        def on_log(metrics: dict[str, Any]) -> None:
            updates.write(json.dumps(metrics) + "\n")
            updates.flush()

        result = train_dpo(TrainJob.from_json(job["job"]), rows, job_dir / "policy", on_log)
    if main_process:
        write_json(job_dir / "result.json", result)


def _failed(job_dir: Path, text: str, known: bool) -> int:
    own = job_dir / f"error-{socket.gethostname()}-{os.getpid()}.json"
    with suppress(OSError):  # whole or not at all: the launcher may end this process while it writes
        own.write_text(json.dumps({"text": text, "known": known}), encoding="utf-8")
        os.link(own, job_dir / "error.json")
    return 1


def _end_with_parent(alive: Path) -> None:
    """End this process once nobody holds the lock: what it would still compute, nobody waits for."""
    while True:
        time.sleep(1.0)
        try:
            with open(alive) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        except OSError:  # the folder is gone
            pass
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
