"""`python -m experiments.bench [--model 10m] [--only sampling ...] [--quick]`: measure, write, update docs/speed.md.

Every measure is written as it finishes, into what is there: a bench that is stopped keeps what it has done, and
`--only` replaces a part. `--quick` is a try: the smallest model, one repetition, and results in `runs/bench/`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments import documents
from experiments.bench import (
    alternatives,
    distance,
    machine,
    memory,
    optune_iteration,
    outside,
    sampling,
    sampling_server,
    sampling_vllm,
    time_to_quality,
    training,
    vanilla_iteration,
)
from experiments.bench.rows import Row, row_text
from experiments.bench.table import RESULTS, whole
from experiments.bench.worlds import PRESETS, REAL, SANDBOXES, SIZES, World, world
from experiments.compute.setting import RUNS
from optune.utils.command import exit_status
from optune.utils.files import read_json, write_json
from optune.utils.quiet import quiet_libraries

Measure = Callable[[World, int], list[Row]]
# Repetitions, and the seconds that a measure took with them on two cores (for the first estimate).
MEASURES: dict[str, tuple[Measure, int, float]] = {
    "distance": (distance.measure, 5, 60),
    "sampling": (sampling.measure, 7, 40),
    "sampling_vllm": (sampling_vllm.measure, 7, 180),
    "sampling_server": (sampling_server.measure, 5, 90),
    "training": (training.measure, 5, 90),
    "memory": (memory.measure, 3, 150),
    "vanilla_iteration": (vanilla_iteration.measure, 3, 150),
    "outside": (outside.measure, 3, 90),
    "optune_iteration": (optune_iteration.measure, 5, 80),
    "alternatives": (alternatives.measure, 5, 600),
}
# What is measured of which model, unless one is named.
OF_REAL_MODELS = ("sampling_server", "outside")  # these need a packaged model
SANDBOX_MEASURES = tuple(name for name in MEASURES if name not in OF_REAL_MODELS)
REAL_MEASURES = tuple(name for name in MEASURES if name not in ("distance", "optune_iteration"))
DEFAULT = {"tiny": SANDBOX_MEASURES, "10m": ("sampling", "sampling_vllm")}
ON_REQUEST = ("alternatives",)  # and only if named: compiling takes minutes
MINUTES, MINUTES_REAL = 19, 80
LARGER = 3  # repetitions of anything with a larger model, which takes longer and varies less
PACKAGES = ("torch", "transformers", "trl")


def bench(model: str, names: list[str], quick: bool, threads: int, until: float) -> Path:
    """Measure `names` of a model, in order, as far as they fit before `until` (monotonic); returns the result file."""
    quiet_libraries()
    of = world(model, threads)
    here = machine.facts()
    path = (RUNS / "bench" / "quick" if quick else RESULTS) / f"{machine.name(here)}.json"
    record = read_json(path) if path.exists() else {"models": {}}
    record |= {"machine": here, "packages": {name: version(name) for name in PACKAGES}}
    mine = record["models"].setdefault(model, {"measures": {}})
    mine["facts"] = of.facts
    for place, name in enumerate(names):
        if time.monotonic() + _estimate(mine, model, name) > until:
            print(f"{model}: {name} is left out, it would take too long; ARGS='--model {model} --only {name}'")
            continue
        left = sum(_estimate(mine, model, name) for name in names[place:])
        print(
            f"{model}: {name} ({place + 1} of {len(names)}; about {max(1, round(left / 60))} min left) ...", flush=True
        )
        started = time.perf_counter()
        measure, repetitions, _ = MEASURES[name]
        rows = measure(of, 1 if quick else repetitions if model in SANDBOXES else min(repetitions, LARGER))
        mine["measures"][name] = {"seconds": round(time.perf_counter() - started, 1), "rows": rows}
        mine["measures"] = {name: mine["measures"][name] for name in MEASURES if name in mine["measures"]}
        write_json(path, record)
        print("\n".join(map(row_text, rows)), flush=True)
    return path


def _estimate(mine: dict[str, Any], model: str, name: str) -> float:
    """Seconds: what it took here the last time, else on the machine it was written on; a larger model takes longer."""
    usual = MEASURES[name][2] * (1 if model in SANDBOXES else 2)
    return mine["measures"].get(name, {}).get("seconds") or usual


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=[*PRESETS, *SIZES], help="this one alone (default: tiny, then 10m)")
    known = [*MEASURES, time_to_quality.NAME]
    parser.add_argument("--only", nargs="+", choices=known, metavar="MEASURE", help=", ".join(known))
    parser.add_argument("--quick", action="store_true", help="a try: nano, one repetition, nothing of it is kept")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of everybody (default: all cores)")
    usual = f"default: {MINUTES}; of a real model {MINUTES_REAL}"
    parser.add_argument("--minutes", type=float, help=f"what does not fit is left out, and said ({usual})")
    options = parser.parse_args(arguments)

    def run() -> None:
        model = options.model or ("nano" if options.quick else None)
        until = time.monotonic() + 60 * (options.minutes or (MINUTES_REAL if model in REAL else MINUTES))
        asked = options.only or [name for name in MEASURES if name not in ON_REQUEST]
        for of, names in ({model: REAL_MEASURES if model in REAL else SANDBOX_MEASURES} if model else DEFAULT).items():
            if wanted := [name for name in names if name in asked]:
                print(f"Written: {bench(of, wanted, options.quick, options.threads, until)}")
        if not options.quick:
            time_to_quality.refresh()  # costs nothing, and follows the committed results
            documents.update({"bench": whole()})
            print(f"Written: {documents.path_of('bench')}")

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
