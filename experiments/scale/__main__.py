"""`make bench-scale`: how time and memory of selection, history, pairs and resume grow with the number of prompts.

Every task runs at every size in a process of its own; seconds are of processor time. Growth is the exponent between the
two largest sizes: 1 is linear. Writes results/bench/scale-<machine>.json and figures/bench/scale.{pdf,png}.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.bench import machine
from experiments.compute.results import ROOT
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.files import read_json, write_json

ARRAYS, STAGES = ("argpartition", "select_set", "rank"), ("score", "select", "pair", "rows", "resume")
WHAT = {
    "argpartition": "numpy.argpartition alone",
    "select_set": "the lowest half, as a set on arrays",
    "rank": "full ranking on arrays",
    "score": "stage score (history), without a model",
    "select": "stage select (history, view, order)",
    "pair": "stage pairs",
    "rows": "rows of the preference step",
    "resume": "finding these stages finished",
}
SIZES = {"arrays": (10**4, 10**5, 10**6, 10**7), "stages": (10**4, 10**5, 10**6)}
TIMES_NUMPY, SET_BYTES, EXPONENT = 3.0, 10**9, 1.1


def measure(sizes: dict[str, Sequence[int]], scratch: Path) -> list[dict[str, Any]]:
    """A row per task and size: seconds, peak bytes of the process, and what else the task found."""
    rows = []
    for n in sizes["arrays"]:
        rows += [_one(task, n, scratch) for task in ARRAYS]
    for n in sizes["stages"]:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            _one("prepare", n, Path(folder))
            rows += [_one(task, n, Path(folder)) for task in STAGES]
    return rows


def _one(task: str, n: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "experiments.scale.tasks", task, str(n), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{task} at {n:,} failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    return {"task": task, "n": n, **json.loads(done.stdout.splitlines()[-1])}


def growth(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each task the exponents of time and memory, and bytes per further prompt, between its two largest sizes."""
    exponents = []
    for task in (*ARRAYS, *STAGES):
        small, large = sorted((row for row in rows if row["task"] == task), key=lambda row: row["n"])[-2:]
        more = math.log(large["n"] / small["n"])
        exponents.append(
            {
                "task": task,
                "seconds_exponent": math.log(large["seconds"] / small["seconds"]) / more,
                "peak_exponent": math.log(large["peak"] / small["peak"]) / more,
                "bytes_per_prompt": (large["peak"] - small["peak"]) / (large["n"] - small["n"]),
            }
        )
    return exponents


def goals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is asked of growth, what was found, and whether it holds."""
    chosen, ranked = (
        max((row for row in rows if row["task"] == task), key=lambda row: row["n"]) for task in ("select_set", "rank")
    )
    stages = {row["task"]: row["seconds_exponent"] for row in growth(rows) if row["task"] in STAGES}
    checks = [
        ("the set against argpartition, times", chosen["beside_argpartition"], TIMES_NUMPY),
        ("the set, bytes of its process", chosen["peak"], SET_BYTES),
        ("the ranking against argsort (linear-log), times", ranked["beside_argsort"], TIMES_NUMPY),
        *((f"{WHAT[task]}, exponent of time", exponent, EXPONENT) for task, exponent in stages.items()),
    ]
    return [{"goal": what, "found": value, "at_most": limit, "holds": value <= limit} for what, value, limit in checks]


def table(data: dict[str, Any]) -> list[str]:
    """Lines to print: seconds and peak memory by size, growth, goals."""
    lines = []
    for task, group in ((task, [r for r in data["rows"] if r["task"] == task]) for task in WHAT):
        (grown,) = (g for g in data["growth"] if g["task"] == task)
        cells = "; ".join(f"{r['n']:,}: {r['seconds']:.3g} s, {r['peak'] / 1e6:,.0f} MB" for r in group)
        lines.append(f"{WHAT[task]}: {cells}; time grows as n^{grown['seconds_exponent']:.2f}")
    for goal in data["goals"]:
        state = "holds" if goal["holds"] else "does not hold"
        lines.append(f"{goal['goal']}: {goal['found']:.3g}, at most {goal['at_most']:.3g}: {state}")
    return lines


def draw(data: dict[str, Any], path: Path) -> list[str]:
    """Time and memory against the number of prompts, both axes logarithmic, with a line of slope 1 for time."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    from experiments.figures.style import grid, save, stamp

    figure, both = plt.subplots(1, 2, figsize=(7.2, 4.2))
    colours = ("#999999", "#56B4E9", "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#000000")
    for axes, name, unit in ((both[0], "seconds", 1.0), (both[1], "peak", 1e-6)):
        for (task, label), colour, marker in zip(WHAT.items(), colours, "xos^DvP*", strict=True):
            rows = [row for row in data["rows"] if row["task"] == task]
            axes.plot(
                [r["n"] for r in rows], [r[name] * unit for r in rows], color=colour, marker=marker, ms=4, label=label
            )
        axes.set(xscale="log", yscale="log", xlabel="prompts")
        grid(axes)
    low, high = both[0].get_xlim()
    bottom = min(row["seconds"] for row in data["rows"])
    both[0].plot([low, high], [bottom, bottom * high / low], ls=":", color="#000000", lw=0.8, label="linear")
    both[0].set_title("seconds of processor time")
    both[1].set_title("peak memory of the process, MB")
    both[1].yaxis.set_major_locator(LogLocator(subs=(1, 2, 4, 6, 8)))
    both[1].yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    both[1].yaxis.set_minor_formatter(NullFormatter())
    figure.legend(
        *both[0].get_legend_handles_labels(),
        loc="lower center",
        bbox_to_anchor=(0.5, 0.045),
        ncols=3,
        fontsize=7,
        frameon=False,
    )
    stamp(figure, f"{data['machine']['cpu']}, {data['machine']['cores']} cores; make bench-scale", preview=False)
    figure.tight_layout(rect=(0, 0.17, 1, 1))
    return save(figure, path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a tenth of the sizes, into runs/: a trial")
    parser.add_argument("--draw-only", action="store_true", help="redraw from the committed results")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _bench(options.small, options.draw_only))


def _bench(small: bool, draw_only: bool) -> None:
    here = machine.facts() | {"load": os.getloadavg()[0], "python": platform.python_version()}
    base = ROOT / "runs" / "bench" if small else ROOT / "results" / "bench"
    file = base / f"scale-{machine.name(here)}.json"
    if draw_only:
        data = read_json(max(base.glob("scale-*.json"), key=lambda path: path.stat().st_mtime, default=file))
    else:
        started = time.monotonic()
        sizes = {kind: tuple(n // 10 for n in counts) if small else counts for kind, counts in SIZES.items()}
        with tempfile.TemporaryDirectory(prefix="optune-scale-") as scratch:
            rows = measure(sizes, Path(scratch))
        data = {"command": "make bench-scale", "machine": here, "seconds": time.monotonic() - started, "rows": rows}
        data |= {"growth": growth(rows), "goals": goals(rows)}
        write_json(file, data)
    print("\n".join(table(data)))
    picture = base / "scale" if small else ROOT / "figures" / "bench" / "scale"
    for written in draw(data, picture):
        print(f"Wrote {Path(written).relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
