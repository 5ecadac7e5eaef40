"""One worker of the `vllm` engine, run by vLLM's own interpreter: `python -P vllm_worker.py FOLDER RANK OF`.

It imports nothing of ours. FOLDER holds `job.json` (arguments of vLLM's `LLM` and `SamplingParams`) and
`requests.parquet` (`id`, `prompt_token_ids`, `seed`, `temperature`); the worker takes every OF-th request from RANK on
and writes `part-<RANK>-<n>.parquet` (`id`, `token_ids`, `stopped`, `logprob`), each in one rename, so that parts show
progress.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from vllm import LLM, SamplingParams

SCHEMA = pa.schema(
    [("id", pa.int64()), ("token_ids", pa.list_(pa.int32())), ("stopped", pa.bool_()), ("logprob", pa.float64())]
)


def main(folder: Path, rank: int, of: int) -> None:
    """Answer this worker's share of the requests."""
    job = json.loads((folder / "job.json").read_text("utf-8"))
    requests = pq.read_table(folder / "requests.parquet").to_pylist()[rank::of]
    llm = LLM(**job["llm"])
    for start in range(0, len(requests), job["rows_per_part"]):
        asked = requests[start : start + job["rows_per_part"]]
        outputs = llm.generate(
            [{"prompt_token_ids": row["prompt_token_ids"]} for row in asked],
            [SamplingParams(seed=row["seed"], temperature=row["temperature"], **job["sampling"]) for row in asked],
            use_tqdm=False,
        )
        answers = [output.outputs[0] for output in outputs]
        rows = {
            "id": [row["id"] for row in asked],
            "token_ids": [list(answer.token_ids) for answer in answers],
            "stopped": [answer.finish_reason == "stop" for answer in answers],
            "logprob": [answer.cumulative_logprob for answer in answers],
        }
        part = folder / f"part-{rank}-{start}.parquet"
        pq.write_table(pa.table(rows, schema=SCHEMA), part.with_suffix(".tmp"))
        os.replace(part.with_suffix(".tmp"), part)  # artefacts.write_bytes would need our package and yaml here


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
