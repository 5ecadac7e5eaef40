"""One process of `optune.generate.shards`: answers its shard of the prompts with the `hf` engine.

python -m optune.generate.hf_worker FOLDER RANK
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from optune.history import write_responses
from optune.types import Prompt
from optune.utils.files import read_json, write_text
from optune.utils.worker_processes import end_with_parent

TELL_EVERY_S = 0.5


def main(folder: Path, rank: int) -> None:
    """One worker: answer `prompts-<rank>.json` as `job.json` says, into `responses-<rank>.parquet`."""
    import torch

    from optune.config import SamplingSettings
    from optune.generate.hf import sample

    job, check_parent, told = read_json(folder / "job.json"), end_with_parent(), 0.0
    torch.set_num_threads(job["threads"])
    rows = read_json(folder / f"prompts-{rank}.json")
    prompts = [Prompt(**row | {"messages": tuple(row["messages"])}) for row in rows]

    def tell(done: int, of: int) -> None:
        nonlocal told
        check_parent()
        if time.monotonic() - told > TELL_EVERY_S or done == of:
            told = time.monotonic()
            write_text(folder / f"done-{rank}", str(done))

    settings = SamplingSettings(**job["settings"])
    responses = sample(job["model"], prompts, settings, seed=job["seed"], iteration=job["iteration"], on_progress=tell)
    write_responses(folder / f"responses-{rank}.parquet", responses)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
