"""Peak memory of a preference step against TRL's DPOTrainer, each in its own process, without what imports take.

On a CPU this is the largest resident set of the process (reset after the imports if the system allows it), on a GPU the
most that torch allocated.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from experiments.bench.rows import Row, compared
from experiments.bench.steps import AS_SHIPPED, BEST, our_rows, our_step, pairs_of, trl_step
from experiments.bench.timing import in_turn
from experiments.bench.worlds import World, variants, world
from experiments.compute.results import ROOT
from optune.types import UserError
from optune.utils.threads import cpu_threads

GOAL = 0.75
GOAL_REAL = 0.6
WHY = (
    "at this size weights and optimizer state are a few MiB; what the process holds is activations of a batch and the "
    "libraries' own buffers, which both sides have"
)
WHY_REAL = (
    "weights, gradients and the optimizer's state in fp32 are {state:,.0f} MiB of it; most of the rest is activations "
    "of the largest micro-batch ({pairs} pairs), which the preset's training.micro_batch_size sets"
)
STATE = 3 * 4  # bytes a parameter: weight, gradient and RMSprop's one average
PEERS = {"as shipped": AS_SHIPPED, "our settings": BEST}


def measure(of: World, repetitions: int) -> list[Row]:
    """Against TRL as shipped (the goal), and in our settings; MiB."""
    with cpu_threads(of.config.threads):
        pairs_of(of)  # made before, so that no process makes it
    ours = variants(of)
    things = {who: lambda w=who: _in_a_process(of, w) for who in (*ours, *PEERS)}
    turns_by_name = in_turn(things, repetitions, warm_up=0)
    peak = {who: [turn["mib"] for turn in turns] for who, turns in turns_by_name.items()}
    return [
        compared(
            f"peak memory of training{name}",
            f"TRL DPOTrainer, {peer}",
            "MiB",
            peak[name],
            peak[peer],
            (GOAL_REAL if of.real else GOAL) if peer == "as shipped" else None,
            side="at most",
            settings={"ours": "one model; reference log-probabilities as columns", "peer": settings},
            note="above what the process held after its imports",
            why=why(of),
        )
        for name in ours
        for peer, settings in PEERS.items()
    ]


def why(of: World) -> str:
    """Why the goal may be missed in this world."""
    pairs = of.config.training.micro_batch_size
    return WHY_REAL.format(state=STATE * of.parameters / 2**20, pairs=pairs) if of.real else WHY


def _in_a_process(of: World, who: str) -> dict[str, float]:
    command = [sys.executable, "-m", "experiments.bench.memory", of.name, str(of.config.threads), who]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"The process that measures memory ended ({(done.stderr.strip().splitlines() or ['?'])[-1]}).")
    return json.loads(done.stdout.splitlines()[-1])


def peak_of_one(name: str, threads: int, who: str) -> dict[str, float]:
    """In a process of its own: everything is imported and the data is there before the count starts."""
    import torch
    import trl  # noqa: F401

    import optune.training.dpo  # noqa: F401

    of = world(name, threads)
    with cpu_threads(threads):
        pairs = pairs_of(of)
        rows = our_rows(of)
        before = _resident()
        _reset_peak()
        if who in PEERS:
            trl_step(of, pairs, who == "as shipped")
        else:
            our_step(variants(of)[who], rows)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _peak() - before
    return {"mib": peak / 2**20}


def _status(field: str) -> int | None:
    """Bytes of a field of /proc/self/status, None on other systems."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def _resident() -> int:
    return _status("VmRSS") or _peak()


def _peak() -> int:
    """The largest resident set so far, or since the reset."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _reset_peak() -> None:
    """Possible on Linux only."""
    import contextlib

    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    print(json.dumps(peak_of_one(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
