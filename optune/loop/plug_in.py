"""What is passed to `run_optune` in the place of the configuration's sections: prompts, rewards, a policy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optune.config import RunConfig, complete_config
from optune.reward.functions import Function, name_of
from optune.types import UserError
from optune.utils.files import write_text
from optune.utils.hashing import stable_hash

Prompts = str | Path | Iterable[Mapping[str, Any]]
Reward = str | Function | Sequence[Function]
PASSED = "python:"  # how a configuration names functions that were passed: they are not in it


def plugged_in(
    config: RunConfig | dict[str, Any] | str | Path | None,
    store: Path,
    prompts: Prompts | None,
    reward: Reward | None,
    reward_weights: Sequence[float] | None,
    policy: str | Path | None,
    validation: Prompts | None = None,
    outcome: str | Function | None = None,
) -> tuple[RunConfig, dict[Function, float] | None]:
    """The configuration with what was passed, and the reward functions with their weights (None: the configured one).

    Prompts that are rows are written to a file below `store` named by their content. Raises UserError. An outcome that
    is a function stays the caller's: the configuration has its name.
    """
    given: dict[str, Any] = {"policy": {"model": str(policy)}} if policy is not None else {}
    if prompts is not None:
        given["prompts"] = {"path": _path(prompts, store)}
    held_out = {} if validation is None else {"path": _path(validation, store)}
    if outcome is not None:
        held_out["outcome"] = outcome if isinstance(outcome, str) else f"{PASSED}{name_of(outcome)}"
    if held_out:
        given["validation"] = held_out
    functions = None
    if isinstance(reward, str):
        given["reward"] = {"kind": reward}
    elif reward is not None:
        functions = _weighted([reward] if callable(reward) else list(reward), reward_weights)
        kind = "+".join(f"{weight:g}*{name_of(f)}" for f, weight in functions.items())
        given["reward"] = {"kind": f"{PASSED}{kind}", "model": None, "weights": None, "template": None, "workers": None}
    if isinstance(config, RunConfig) and not given:
        return config, functions
    return complete_config(config, given), functions


def with_early_stop(config: RunConfig, callbacks: Sequence[Any]) -> tuple[RunConfig, list[Any]]:
    """transformers' EarlyStoppingCallback among `callbacks` as `validation.patience`; and the other callbacks.

    A run is evaluated once an iteration, not within a training. Raises UserError without validation prompts.
    """
    if not callbacks:
        return config, []
    from transformers import EarlyStoppingCallback

    others = []
    for callback in callbacks:
        stop = callback() if callback is EarlyStoppingCallback else callback
        if type(stop) is not EarlyStoppingCallback:
            others.append(callback)
            continue
        if config.validation is None:
            raise UserError("EarlyStoppingCallback stops by validation prompts: pass validation=... as well.")
        if stop.early_stopping_threshold:
            raise UserError("EarlyStoppingCallback: early_stopping_threshold is not supported here; leave it out.")
        config = config.with_overrides({"validation.patience": stop.early_stopping_patience})
    return config, others


def _path(prompts: Prompts, store: Path) -> str:
    return str(prompts if isinstance(prompts, str | Path) else _written(prompts, store / "given"))


def _weighted(functions: list[Function], weights: Sequence[float] | None) -> dict[Function, float]:
    for function in functions:
        if not callable(function):
            raise UserError(f"reward: {function!r} is no function; pass functions f(prompts, completions, **columns).")
    if not functions:
        raise UserError("reward: an empty list; pass a function, or several.")
    weights = [1.0] * len(functions) if weights is None else list(weights)
    if len(weights) != len(functions):
        raise UserError(f"reward_weights: {len(weights)} weights for {len(functions)} rewards; give one for each.")
    return dict(zip(functions, map(float, weights), strict=True))


def _written(rows: Iterable[Mapping[str, Any]], folder: Path) -> Path:
    """A JSON-lines file of the rows, named by their hash: the same rows are the same file. Raises UserError."""
    lines = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise UserError(f"prompts, row {number}: expected a dict with `prompt` or `messages`, not {row!r}.")
        try:
            lines.append(json.dumps(dict(row), ensure_ascii=False))
        except TypeError as error:
            raise UserError(
                f"prompts, row {number}: cannot be written as JSON ({error}); leave that column out."
            ) from None
    path = folder / f"prompts-{stable_hash(lines)[:16]}.jsonl"
    if not path.exists():
        write_text(path, "\n".join(lines) + "\n")
    return path
