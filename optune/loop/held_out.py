"""What the answers to validation prompts say of a run: its best policy, a warning, and whether it should end.

An *outcome* is a function that nothing is trained on. Where one is given it decides which policy is the best; else the
reward does. All of this follows from finished stages, so that a continued run, the audit and the page say the same.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

BEST = "best"  # the link in a run's directory
Find = Callable[[int, str, str], Path]  # (iteration, stage, name) -> the stage's file


@dataclass(frozen=True)
class HeldOut:
    """Means over the validation answers of the policies of iterations 0, 1, ..., as far as they are measured.

    policies: their folders. outcomes: none where no outcome is given. find: where a stage's file lies.
    """

    policies: tuple[str, ...]
    rewards: tuple[float, ...]
    outcomes: tuple[float, ...]
    name: str | None
    patience: int | None
    find: Find

    @classmethod
    def of(cls, entries: Iterable[Mapping[str, Any]], validation: Any, find: Find | None = None) -> HeldOut | None:
        """From a manifest's lines and its section `validation`; None where nothing was measured."""
        by_name = {(entry["stage"], entry["iteration"]): entry for entry in entries}
        options = validation if isinstance(validation, dict) or validation is None else validation.model_dump()
        outcome = (options or {}).get("outcome")
        last = "outcome" if outcome or ("outcome", 0) in by_name else "validate"
        iterations = sorted(t for stage, t in by_name if stage == last)
        if not iterations:
            return None
        return cls(
            tuple(by_name["train", t]["path"] for t in iterations),
            tuple(by_name["validate", t]["counts"]["reward_mean"] for t in iterations),
            tuple(by_name["outcome", t]["counts"]["outcome_mean"] for t in iterations if last == "outcome"),
            outcome and outcome_name(outcome),
            (options or {}).get("patience"),
            find or (lambda t, stage, name: Path(by_name[stage, t]["path"]) / name),
        )

    @property
    def by(self) -> str:
        """What decides: `outcome` or `reward`."""
        return "outcome" if self.outcomes else "reward"

    @property
    def values(self) -> tuple[float, ...]:
        """What decides, by iteration."""
        return self.outcomes or self.rewards

    @property
    def best(self) -> int:
        """The iteration with the highest value, the first of equals."""
        return self.values.index(max(self.values))

    @property
    def policy(self) -> str:
        """The folder of the best policy."""
        return self.policies[self.best]

    @property
    def stops(self) -> bool:
        """Whether `patience` iterations have passed without a better value."""
        return self.patience is not None and len(self.values) - 1 - self.best >= self.patience

    def as_json(self) -> dict[str, Any]:
        """The best policy as the manifest lists it."""
        return {"iteration": self.best, "policy": self.policy, "by": self.by, "value": self.values[self.best]}

    def sentences(self, iterations: int) -> list[str]:
        """What the newest measured iteration, of those up to `iterations`, has to tell the user."""
        newest = len(self.values) - 1
        told = []
        if self.outcomes and self.rewards[newest] > self.rewards[self.best] and newest != self.best:
            told.append(
                f"Iteration {newest}: held-out reward rose from {self.rewards[self.best]:.4g} to "
                f"{self.rewards[newest]:.4g} since iteration {self.best}, while the outcome {self.name} fell from "
                f"{self.outcomes[self.best]:.4g} to {self.outcomes[newest]:.4g} ({self._change(newest)}). The best "
                f"policy so far is that of iteration {self.best}."
            )
        if self.stops and newest < iterations:
            what = f"the outcome {self.name}" if self.outcomes else "the held-out reward"
            told.append(
                f"The run ends after iteration {newest} of {iterations}: {what} has not risen above "
                f"{self.values[self.best]:.4g}, its value at iteration {self.best}, for {self.patience} iterations "
                "(validation.patience)."
            )
        return told

    def _change(self, newest: int) -> str:
        """The outcome's paired change since the best iteration with its 95% interval over prompts, in words."""
        before, after = (self._by_prompt(t) for t in (self.best, newest))
        change = (after - before).dropna().to_numpy()
        if len(change) < 2:
            return "one prompt: this may be chance"
        error = 1.96 * np.std(change, ddof=1) / np.sqrt(len(change))
        low, high = change.mean() - error, change.mean() + error
        verdict = "; this may be chance" if high >= 0 else ""
        return f"95% interval of the change [{low:+.3g}, {high:+.3g}] over {len(change)} prompts{verdict}"

    def _by_prompt(self, t: int) -> pd.Series:
        """Mean outcome of each prompt's answers, by prompt id."""
        return pd.read_parquet(self.find(t, "outcome", "outcomes.parquet")).groupby("prompt_id")["outcome"].mean()


def best_policy(entries: Iterable[Mapping[str, Any]]) -> str | None:
    """The folder of the best policy by outcome, or else by reward; None without validation."""
    held_out = HeldOut.of(entries, None)
    return held_out.policy if held_out else None


def told_of(
    entries: Iterable[Mapping[str, Any]], validation: Any, iterations: int, find: Find | None = None
) -> list[str]:
    """All sentences of a run so far."""
    entries, told = list(entries), []
    whole = HeldOut.of(entries, validation, find)
    for t in range(len(whole.values) if whole else 0):
        upto = HeldOut.of([entry for entry in entries if entry["iteration"] <= t], validation, find)
        told += upto.sentences(iterations)
    return told


def outcome_name(outcome: str) -> str:
    """`my_file.py:correct` -> `correct`."""
    return outcome.rpartition(":")[2]


def link_best(run_dir: Path, policy: str) -> None:
    """`run_dir/best`, a link to the folder of the best policy so far. Left out where the file system has no links."""
    link, folder = run_dir / BEST, Path(policy).resolve()
    if link.exists() and not link.is_symlink():
        return  # a folder of the user's
    inside = folder.is_relative_to(run_dir.resolve())
    target = folder.relative_to(run_dir.resolve()) if inside else folder
    unfinished = run_dir / f".{BEST}.tmp"
    with contextlib.suppress(OSError):
        unfinished.unlink(missing_ok=True)
        unfinished.symlink_to(target, target_is_directory=True)
        os.replace(unfinished, link)
