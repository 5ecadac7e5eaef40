"""Time to ratio 1's final quality: read from `results/<preset>/time_to_quality.json`; nothing is computed here."""

from __future__ import annotations

from experiments.bench.rows import Row
from experiments.bench.worlds import World


def measure(world: World, repetitions: int) -> list[Row]:
    """The chosen arm's time over ratio 1's, on report seeds."""
    return []
