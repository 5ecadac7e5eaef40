"""Seconds and tokens per phase of a run, from what its stages recorded (Table 1).

A stage that was reused keeps its original ledger: the seconds that it took in the arm that made it first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from experiments.compute.raw_result import LedgerRow
from optune.loop.manifest import StageEntry

# Of a stage's `timing` what is no part of its wall-clock.
NO_PART = ("wall_s", "memory_peak_gb", "gpu_memory_peak_gb")
PHASES = {"generate": "generation", "score": "rewarding", "train": "training"}


def ledger(stages: Iterable[StageEntry]) -> list[LedgerRow]:
    """One row per iteration: `generation_s`, `rewarding_s`, `training_s` (reference included), and tokens sampled.

    If a source spent tokens on prompts, training sampled its own responses, or policies were validated, the row also
    has `tokens_<name>` for each of these, `prompts_s` (making prompts) and `validation_s`.
    """
    rows: dict[int, dict[str, Any]] = {}
    for entry in stages:
        row = rows.setdefault(
            entry["iteration"],
            {"iteration": entry["iteration"], "generation_s": 0.0, "rewarding_s": 0.0, "training_s": 0.0, "tokens": 0},
        )
        if entry["stage"] in PHASES:
            row[f"{PHASES[entry['stage']]}_s"] += entry["timing"]["wall_s"]
        if entry["stage"] == "generate":
            row["tokens"] += entry["counts"]["tokens"]
        spent = {name: count for name, count in entry["counts"].items() if name.startswith("tokens_")}
        for name, count in spent.items():
            row[name] = row.get(name, 0) + count
        if entry["stage"] == "prompts" and spent:
            row["prompts_s"] = sum(s for name, s in entry["timing"].items() if name not in NO_PART)
        if entry["stage"] == "validate":
            row["validation_s"] = row.get("validation_s", 0.0) + entry["timing"]["wall_s"]
    return list(rows.values())
