"""Times functions by turns, and turns the seconds into rates, ratios and shares."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

Found = dict[str, Any]  # `seconds`, and what the thing timed returned
Spread = dict[str, float]


def synchronize() -> None:
    """Wait until a GPU has done what it was told; nothing on a CPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(thing: Callable[[], Found]) -> Found:
    """What `thing` returns, with the `seconds` that it took unless it returns its own."""
    gc.collect()
    synchronize()
    started = time.perf_counter()
    counts = thing()
    synchronize()
    return {"seconds": time.perf_counter() - started, **counts}


def in_turn(things: Mapping[str, Callable[[], Found]], repetitions: int, warm_up: int = 1) -> dict[str, list[Found]]:
    """Run all things by turns, `repetitions` times each, after `warm_up` turns that do not count."""
    turns: dict[str, list[Found]] = {name: [] for name in things}
    for turn in range(warm_up + repetitions):
        for name, thing in things.items():
            result = timed(thing)
            if turn >= warm_up:
                turns[name].append(result)
    return turns


def spread(values: Sequence[float]) -> Spread:
    """Median, smallest and largest value, and how many there were."""
    return {"median": median(values), "low": min(values), "high": max(values), "n": len(values)}


def rates(turns: Sequence[Found], count: str) -> list[float]:
    """Of each turn, `count` per second."""
    return [turn[count] / turn["seconds"] for turn in turns]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The spread of ours over theirs, turn by turn."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def shares_of(thing: Callable[[], Found], kinds: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """By kind, the share of a run's time inside operations whose names have one of the kind's parts."""
    on_gpu = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as seen:
        whole = timed(thing)["seconds"]
    own = {e.key: (e.self_device_time_total if on_gpu else e.self_cpu_time_total) / 1e6 for e in seen.key_averages()}
    shares = {}
    for kind, parts in kinds.items():
        inside = [seconds for key, seconds in own.items() if _has_one_of(key, parts)]
        shares[kind] = min(1.0, sum(inside) / whole)
    return shares


def _has_one_of(key: str, parts: Sequence[str]) -> bool:
    return any(part in key for part in parts)
