"""The machine that made a result, and why another machine's values may differ."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.compute.raw_result import RawResult


def processor() -> str:
    """The processor's model, or its architecture if the system does not tell the model."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(model, platform.processor() or platform.machine())


def machine() -> dict[str, Any]:
    """The machine's facts for a result: processor, the vector instructions that torch uses, cores."""
    import torch

    return {"cpu": processor(), "vectors": torch.backends.cpu.get_cpu_capability(), "cores": os.cpu_count()}


def why_results_differ(pairs: Sequence[tuple[RawResult, RawResult]], outside: bool) -> list[str]:
    """Lines that explain unequal pairs (this machine's result, the committed one) and name both machines.

    outside: whether some pairs are not even consistent. Committed results from before processors were recorded say only
    `x86_64`.
    """
    mine, theirs = ({machine_text(side["timing"]["machine"]) for side in sides} for sides in zip(*pairs, strict=True))
    meaning = [
        "Another processor rounds sums differently in their last bits. Once that changes a sampled token, a selected",
        "prompt or the sandbox's own models, the run is another draw by the same recipe: compare means and intervals,",
        "not digits. Consistent: this machine's mean over its seeds lies where 99.9% of such draws do, by the spread",
        "of the committed seeds (experiments/compute/consistency.py). On the committed results' own kind of processor",
        "and packages anything but `reproduced` is a fault.",
    ]
    if outside:
        meaning.append("Differs: more than another processor explains. It is a fault, or the work of other packages.")
    return [
        *meaning,
        f"  committed: {'; '.join(sorted(theirs))}",
        f"  here:      {'; '.join(sorted(mine))}",
        f"  packages:  {_packages(pairs)}",
    ]


def machine_text(facts: dict[str, Any]) -> str:
    """`AMD EPYC (AVX2), 2 cores`, as far as the result has these facts."""
    vectors = f" ({facts['vectors']})" if "vectors" in facts else ""
    return f"{facts['cpu']}{vectors}, {facts['cores']} cores"


def _packages(pairs: Sequence[tuple[RawResult, RawResult]]) -> str:
    unlike = set()
    for mine, theirs in pairs:
        for name, version in mine["packages"].items():
            there = theirs["packages"].get(name)
            if there != version:
                unlike.add(f"{name} {there} there, {version} here")
    return f"{'; '.join(sorted(unlike))} (that alone can change values)" if unlike else "the same"
