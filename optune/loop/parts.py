"""The pluggable parts that a run is made of: which stage uses which, and the functions behind their names."""

from __future__ import annotations

import inspect
import sys
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
from optune.reward.functions import WEIGHTED, Function, PythonReward, is_function, weighted_functions
from optune.selection.strategies import STRATEGIES
from optune.training.learners import DEFAULT, LEARNERS
from optune.training.losses import LOSSES
from optune.types import UserError
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


def parts_of(config: RunConfig, functions: Mapping[Function, float] | PythonReward | None = None) -> dict[str, Any]:
    """The configured parts by name. Raises UserError for an unknown one, before anything is computed.

    functions: rewards that were passed as Python functions, with their weights, in the place of the configured one; or
    these as a part already.
    """
    chosen = {}
    for name, part in PARTS.items():
        if name == "reward":
            chosen[name] = _reward(config, functions)
            continue
        chosen[name] = resolve(part.registry, part.chosen(config) or part.default, part.title)
    return chosen


def _reward(config: RunConfig, functions: Mapping[Function, float] | PythonReward | None) -> Any:
    """The reward's factory; plain functions are wrapped into one."""
    settings = config.reward
    if isinstance(functions, PythonReward):
        return functions
    if functions is None and settings.kind == WEIGHTED:
        functions = weighted_functions(settings)
    if functions is None:
        part = resolve(REWARDS, settings.kind, PARTS["reward"].title)
        if not (":" in settings.kind and is_function(part)):
            return part
        functions = {part: 1.0}
    return PythonReward.of(functions, config)


def outcome_of(config: RunConfig, function: Function | PythonReward | None = None) -> PythonReward | None:
    """`validation.outcome`, or the function that was passed in its place; None without one. Raises UserError."""
    asked = config.validation
    if isinstance(function, PythonReward):
        return function
    if asked is None or asked.outcome is None:
        return None
    part = function or resolve({}, asked.outcome, "outcome")
    if not is_function(part):
        raise UserError(f"validation.outcome: {asked.outcome!r} is no function f(prompts, completions, **columns).")
    return PythonReward({part: 1.0}, ((asked.path, asked.split, None),), "outcome")


def source_hashes(stage: str, parts: dict[str, Any]) -> dict[str, str]:
    """The SHA-256 of the source files of a stage's parts from outside the package: an edit changes the stage's key."""
    hashes = {name: _source_hash(parts[name]) for name in PARTS_OF.get(stage, ())}
    return {name: source for name, source in hashes.items() if source}


def callback_key(callback: Any) -> list[Any]:
    """What of a callback can change a training: its class, that class's source file, and its plain settings."""
    kind = callback if inspect.isclass(callback) else type(callback)
    file = getattr(sys.modules[kind.__module__], "__file__", None)  # a notebook has none
    source = sha256_of(Path(file)) if file else None
    plain = {} if inspect.isclass(callback) else vars(callback)
    plain = {name: value for name, value in plain.items() if isinstance(value, bool | int | float | str)}
    return [kind.__qualname__, source, plain]


def _source_hash(part: Any) -> str | None:
    module = inspect.getmodule(part)
    if module is None or module.__name__.split(".")[0] == "optune" or not getattr(module, "__file__", None):
        return None
    return sha256_of(Path(module.__file__))
