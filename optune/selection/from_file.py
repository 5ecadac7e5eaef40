"""Selection alone: from a file of rewards to the prompts to regenerate, for other people's training loops."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_scalar

from optune.history import HistoryView
from optune.selection.strategies import STRATEGIES, select_prompts
from optune.types import UserError
from optune.utils.files import read_jsonl

# The strategies that need no more than one reward per prompt: no second response, and no earlier iteration.
BY_ONE_REWARD = ("lowest_reward", "highest_reward", "lowest_mean_reward", "lowest_rejected_reward", "random")
FROM_FILE = (*BY_ONE_REWARD, "all", "none")


def strategies_told() -> str:
    """Every strategy with the first line of its docstring: those that a file of rewards suffices for come first."""
    others = [name for name in STRATEGIES if name not in FROM_FILE]
    lines = ["strategies that a file of rewards suffices for:", *map(_told, FROM_FILE)]
    return "\n".join([*lines, "", "strategies that need a whole run (selection.strategy):", *map(_told, others)])


def _told(name: str) -> str:
    return f"  {name:24s}{inspect.getdoc(STRATEGIES[name]).splitlines()[0]}"


def select_from_file(path: Path, ratio: str | float, strategy: str, seed: int) -> list[str]:
    """The ids to regenerate in rank order. Rows are prompts; `reward` is the preferred response's.

    Raises UserError for a strategy of ours that would rank by what the file does not hold, and so by ties alone.
    """
    if strategy in STRATEGIES and strategy not in FROM_FILE:
        raise UserError(
            f"Strategy {strategy!r} ranks by more than one reward per prompt, which a file of rewards does not hold; "
            f"choose one of {', '.join(BY_ONE_REWARD)}, or run the whole loop."
        )
    ids, rewards = read_rewards(path)
    view = HistoryView(
        prompt_ids=np.asarray(ids, dtype=object),
        rewards=np.asarray(rewards, dtype=float)[:, None],
        sampled_at=np.zeros(len(ids), dtype=int),
        gains=np.full((len(ids), 1), np.nan),
        iteration=1,
        seed=seed,
    )
    return select_prompts(view, ratio, strategy)


def read_rewards(path: Path) -> tuple[list[str], list[float]]:
    """Ids and rewards of a JSONL, CSV or Parquet file; raises UserError naming the row that is wrong."""
    ids, rewards, seen = [], [], set()
    for number, row in _rows(path):
        where = f"{path}, row {number}"
        missing = [name for name in ("prompt_id", "reward") if _is_empty(row.get(name))]
        if not missing and (not is_scalar(row["prompt_id"]) or pd.isna(row["prompt_id"])):
            missing = ["prompt_id"]
        if missing:
            given = ", ".join(map(str, row)) or "nothing"
            raise UserError(
                f"{where}: no value for `{missing[0]}`; each row needs `prompt_id` and `reward` (it has {given})."
            )
        prompt_id, reward = str(row["prompt_id"]), _number(row["reward"])
        if any("\ud800" <= character <= "\udfff" for character in prompt_id):
            raise UserError(f"{where}: the prompt_id holds a lone surrogate, which is not text.")
        if not math.isfinite(reward):
            comma = "; write decimals with a point" if "," in str(row["reward"]) else ""
            raise UserError(
                f"{where}: the reward of prompt {prompt_id!r} is {row['reward']!r}, not a finite number{comma}."
            )
        if prompt_id in seen:
            raise UserError(f"{where}: prompt_id {prompt_id!r} was given before; give one row per prompt.")
        seen.add(prompt_id)
        ids.append(prompt_id)
        rewards.append(reward)
    if not ids:
        raise UserError(f"{path}: holds no rows.")
    return ids, rewards


def _is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: 0 is something."""
    return value is None or (isinstance(value, str) and not value)


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool | np.bool_) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Rows with their numbers; of a JSONL file the line's number."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file.")
    if path.suffix == ".jsonl":
        return [(n, _object(row, f"{path}, row {n}")) for n, row in read_jsonl(path)]
    try:
        if path.suffix == ".csv":
            as_text = {"dtype": str, "keep_default_na": False, "skip_blank_lines": False}
            frame = pd.read_csv(path, sep=_separator(path), **as_text)
            numbered = enumerate(frame.fillna("").to_dict("records"), start=1)
            # Spreadsheets leave empty rows at the end.
            return [(number, row) for number, row in numbered if not all(map(_is_empty, row.values()))]
        if path.suffix == ".parquet":
            return list(enumerate(pd.read_parquet(path).to_dict("records"), start=1))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())}).") from None
    raise UserError(f"{path}: rewards are read from .jsonl, .csv or .parquet files.")


def _separator(path: Path) -> str:
    """What parts the columns: spreadsheets save what their locale uses."""
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline()
    return next((mark for mark in ",;\t" if mark in header), ",")


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object with `prompt_id` and `reward`.")
    return row
