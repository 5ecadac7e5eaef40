"""One process of `optune.reward.workers`: loads the reward model once and answers parts until its caller is gone.

python -m optune.reward.worker FOLDER RANK
"""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path

from optune.config import RewardConfig
from optune.reward.workers import answer_file, asked_file, take, wait_for
from optune.utils.files import read_json, write_text
from optune.utils.worker_processes import end_with_parent


def main(folder: Path, rank: int) -> None:
    """One worker: answer part after part of `rank`, until it is ended or its caller is gone."""
    import torch

    from optune.reward.sequence_classifier import Network
    from optune.utils.checkpoints import load_tokenizer

    check_parent = end_with_parent()
    job = read_json(folder / "job.json")
    torch.set_num_threads(job["threads"])
    settings = RewardConfig(**job["settings"])
    network = Network(settings, load_tokenizer(settings.model, trust_remote_code=settings.trust_remote_code))
    for part in count():
        asked = folder / asked_file(part, rank)
        wait_for(asked, check_parent)
        answers = []
        for values in network(take(asked)):
            check_parent()
            answers.append(values)
        write_text(folder / answer_file(part, rank), json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
