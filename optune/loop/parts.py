"""The pluggable parts that a run is made of: which stage uses which, and the functions behind their names."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from optune.config import RunConfig
from optune.generate import ENGINES
from optune.pairs.pairing import PAIRINGS
from optune.prompts.sources import SOURCES
from optune.reward import REWARDS
from optune.selection.strategies import STRATEGIES
from optune.training.learners import DEFAULT, LEARNERS
from optune.training.losses import LOSSES
from optune.utils.hashing import sha256_of
from optune.utils.registry import resolve

PARTS_OF = {
    "prompts": ("source",),
    "select": ("strategy",),
    "generate": ("engine",),
    "kl": ("engine",),
    "score": ("reward",),
    "pairs": ("pairing",),
    "train": ("loss", "learner"),
    "validate": ("engine", "reward"),
}


def parts_of(config: RunConfig) -> dict[str, Any]:
    """The parts by their names; a name that stands for nothing fails here, before anything is computed."""
    named = {
        "source": (SOURCES, config.prompts.source, "prompt source"),
        "strategy": (STRATEGIES, config.selection.strategy, "selection strategy"),
        "engine": (ENGINES, config.generation.engine, "engine"),
        "reward": (REWARDS, config.reward.kind, "reward"),
        "pairing": (PAIRINGS, config.pairs.pairing, "pairing"),
        "loss": (LOSSES, config.loss.name, "loss"),
        "learner": (LEARNERS, config.training.learner or DEFAULT, "learner"),
    }
    return {part: resolve(*where) for part, where in named.items()}


def source_hashes(stage: str, parts: dict[str, Any]) -> dict[str, str]:
    """What a stage's parts from outside the package consist of, so that an edited one is not taken for the old one."""
    hashes = {name: _source_hash(parts[name]) for name in PARTS_OF.get(stage, ())}
    return {name: source for name, source in hashes.items() if source}


def _source_hash(part: Any) -> str | None:
    module = inspect.getmodule(part)
    if module is None or module.__name__.split(".")[0] == "optune" or not getattr(module, "__file__", None):
        return None
    return sha256_of(Path(module.__file__))
