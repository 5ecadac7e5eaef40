"""Which machine this is, by what matters for speed and never by its name; and what it can do at best."""

from __future__ import annotations

import os
import re
from typing import Any

import torch

from experiments.bench.timing import in_turn, spread
from experiments.compute.machine import machine


def facts() -> dict[str, Any]:
    """Processor, its vector instructions, cores, memory, accelerator."""
    gpu = torch.cuda.is_available()
    return {
        **machine(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "accelerator": torch.cuda.get_device_name(0) if gpu else None,
    }


def name(facts: dict[str, Any]) -> str:
    """`amd-epyc-avx512-2-cores`, `intel-xeon-platinum-8480c-avx512-16-cores-nvidia-h100`.

    One name stands for processors with and without AVX-512, which are machines of their own.
    """
    said = f"{facts['cpu']} {facts.get('vectors', '')} {facts['cores']} cores {facts['accelerator'] or ''}"
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", said.lower())).strip("-")


def limits(size: int, repetitions: int) -> dict[str, dict[str, float]]:
    """Spreads of GFLOP/s of a matrix product (size x size) in fp32 and bf16, and of GB/s of copying memory.

    A copy reads and writes: both count.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    things = {f"matmul_{dtype}": _product(size, getattr(torch, dtype), device) for dtype in ("float32", "bfloat16")}
    turns_by_name = in_turn({**things, "copy": _copy(64 * size * size, device)}, repetitions)
    work = dict.fromkeys(things, 2 * size**3 * PRODUCTS) | {"copy": 2 * 4 * 64 * size * size}
    speeds = {}
    for name, turns in turns_by_name.items():
        speeds[name] = spread([work[name] / turn["seconds"] / 1e9 for turn in turns])
    return speeds


PRODUCTS = 8  # in a row, so that a call's own cost does not count


def _product(size: int, dtype: torch.dtype, device: str) -> Any:
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)

    def run() -> dict[str, Any]:
        for _ in range(PRODUCTS):
            torch.mm(a, b, out=out)
        return {}

    return run


def _copy(count: int, device: str) -> Any:
    a, b = torch.ones(count, device=device), torch.zeros(count, device=device)

    def run() -> dict[str, Any]:
        b.copy_(a)
        return {}

    return run
