"""Run by vLLM's own interpreter: `python -P vllm_repeats.py JOB`. It answers all of JOB's prompts once for every line
that it reads, and says in a line of JSON how many tokens it sampled in how many seconds. It imports nothing of ours.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from vllm import LLM, SamplingParams


def main(job: dict) -> None:
    """Start, say so, and answer until there is no line left."""
    llm = LLM(**job["llm"])
    prompts = [{"prompt_token_ids": ids} for ids in job["prompts"]]
    settings = SamplingParams(**job["sampling"])
    print("{}", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        outputs = llm.generate(prompts, settings, use_tqdm=False)
        seconds = time.perf_counter() - started
        tokens = sum(len(answer.token_ids) for output in outputs for answer in output.outputs)
        print(json.dumps({"seconds": seconds, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text("utf-8")))
