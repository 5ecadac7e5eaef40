"""The pluggable parts that a run is made of: which stage uses which, and the functions behind their names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optune.config import RunConfig
from optune.generate import ENGINES
from optune.loop.steps import STEPS, VALIDATE
from optune.pairs.pairing import PAIRINGS
from optune.prompts.sources import SOURCES
from optune.reward import REWARDS
from optune.selection.strategies import STRATEGIES
from optune.training.learners import DEFAULT, LEARNERS
from optune.training.losses import LOSSES
from optune.utils.hashing import sha256_of
from optune.utils.registry import resolve


@dataclass(frozen=True)
class Part:
    """A pluggable part: its registry and that registry's name, the option that chooses, and what it is called."""

    registry: Mapping[str, Any]
    registry_name: str
    option: str
    title: str
    default: str | None = None  # where the option is left alone

    def chosen(self, config: RunConfig) -> str | None:
        """What the option says; None where it is left alone."""
        section, _, name = self.option.partition(".")
        return getattr(getattr(config, section), name)


PARTS = {
    "source": Part(SOURCES, "SOURCES", "prompts.source", "prompt source"),
    "strategy": Part(STRATEGIES, "STRATEGIES", "selection.strategy", "selection strategy"),
    "engine": Part(ENGINES, "ENGINES", "generation.engine", "engine"),
    "reward": Part(REWARDS, "REWARDS", "reward.kind", "reward"),
    "pairing": Part(PAIRINGS, "PAIRINGS", "pairs.pairing", "pairing"),
    "loss": Part(LOSSES, "LOSSES", "loss.name", "loss"),
    "learner": Part(LEARNERS, "LEARNERS", "training.learner", "learner", DEFAULT),
}
PARTS_OF = {step.name: step.parts for step in (*STEPS, VALIDATE) if step.parts}  # stage -> keys of PARTS


def parts_of(config: RunConfig) -> dict[str, Any]:
    """The configured parts by name. Raises UserError for an unknown one, before anything is computed."""
    chosen = {}
    for name, part in PARTS.items():
        chosen[name] = resolve(part.registry, part.chosen(config) or part.default, part.title)
    return chosen


def source_hashes(stage: str, parts: dict[str, Any]) -> dict[str, str]:
    """The SHA-256 of the source files of a stage's parts from outside the package: an edit changes the stage's key."""
    hashes = {name: _source_hash(parts[name]) for name in PARTS_OF.get(stage, ())}
    return {name: source for name, source in hashes.items() if source}


def _source_hash(part: Any) -> str | None:
    module = inspect.getmodule(part)
    if module is None or module.__name__.split(".")[0] == "optune" or not getattr(module, "__file__", None):
        return None
    return sha256_of(Path(module.__file__))
