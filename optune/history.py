"""Every response ever sampled, append-only; the latest per prompt is a view.

One Parquet file per iteration, a row per response, written once by the scoring stage. A `History` is the tuple of
those files: appending makes a new one, and nothing is overwritten (Algorithm 1, lines 12-18: what is not regenerated
is reused).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from optune.types import Response

SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("index", pa.int32()),
        ("iteration", pa.int32()),
        ("token_ids", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("logprob", pa.float64()),
        ("reward", pa.float64()),
        ("retokenized", pa.bool_()),
    ]
)


def write_responses(path: Path, responses: Iterable[Response]) -> None:
    """One row per response, in the order given."""
    columns = {name: [] for name in SCHEMA.names}
    for response in responses:
        for name, values in columns.items():
            values.append(getattr(response, name))
    pq.write_table(pa.table(columns, schema=SCHEMA), path)


def read_responses(path: Path) -> list[Response]:
    """The rows of one iteration's file as `Response`s."""
    rows = pq.read_table(path).to_pylist()
    return [Response(**{**row, "token_ids": tuple(row["token_ids"])}) for row in rows]


@dataclass(frozen=True)
class History:
    """The scored files of iterations 0..t, in order."""

    files: tuple[Path, ...] = ()

    def append(self, scored: Path) -> History:
        """The history with one more iteration's file."""
        return History((*self.files, scored))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All rows ever sampled, without token ids and text: prompt_id, index, iteration and reward."""
        columns = ["prompt_id", "index", "iteration", "reward"]
        tables = [pq.read_table(path, columns=columns).to_pandas() for path in self.files]
        if not tables:
            return pd.DataFrame({name: [] for name in columns})
        return pd.concat(tables, ignore_index=True)

    def latest(self) -> pd.DataFrame:
        """For each prompt the rows of the last iteration that sampled it."""
        last = self.frame.groupby("prompt_id")["iteration"].transform("max")
        return self.frame[self.frame["iteration"] == last]

    def view(
        self,
        prompt_ids: Sequence[str],
        iteration: int,
        seed: int,
        prompt_texts: Sequence[str] | None = None,
        offsets: Sequence[float] | None = None,
    ) -> HistoryView:
        """What a selection strategy may look at before iteration `iteration` samples."""
        latest = self.latest()
        rewards = latest.pivot(index="prompt_id", columns="index", values="reward").reindex(prompt_ids)
        sampled_at = latest.groupby("prompt_id")["iteration"].max().reindex(prompt_ids)
        best = self.frame.groupby(["prompt_id", "iteration"])["reward"].max().unstack()
        gains = best.ffill(axis=1).diff(axis=1).where(best.notna()).reindex(prompt_ids)
        return HistoryView(
            prompt_ids=np.asarray(prompt_ids, dtype=object),
            rewards=rewards.to_numpy(dtype=float),
            sampled_at=sampled_at.fillna(-1).to_numpy(dtype=int),
            gains=gains.to_numpy(dtype=float),
            iteration=iteration,
            seed=seed,
            prompt_texts=None if prompt_texts is None else np.asarray(prompt_texts, dtype=object),
            offsets=None if offsets is None else np.asarray(offsets, dtype=float),
            history=self,
        )

    def latest_texts(self) -> dict[str, list[str]]:
        """The texts of each prompt's latest responses, in order of their index; reads every file."""
        tables = [pq.read_table(path, columns=["prompt_id", "index", "text"]).to_pylist() for path in self.files]
        texts: dict[str, dict[int, str]] = {}
        for rows in tables:
            newer = {row["prompt_id"]: {} for row in rows}
            for row in rows:
                newer[row["prompt_id"]][row["index"]] = row["text"]
            texts |= newer
        return {prompt_id: [by_index[i] for i in sorted(by_index)] for prompt_id, by_index in texts.items()}


@dataclass(frozen=True)
class HistoryView:
    """The history as columns, one entry per prompt: all that a selection strategy sees.

    prompt_ids: (n,) str. rewards: (n, responses), of the latest responses, NaN where there are fewer.
    sampled_at: (n,) the iteration that sampled them, -1 for never. gains: (n, iterations), change of the preferred
    response's reward against the last time the prompt was sampled, NaN where it was not regenerated. prompt_texts:
    (n,) str. offsets: (n,) mean reward of `selection.offset_samples` responses of the start policy, or None.
    """

    prompt_ids: np.ndarray
    rewards: np.ndarray
    sampled_at: np.ndarray
    gains: np.ndarray
    iteration: int
    seed: int
    prompt_texts: np.ndarray | None = None
    offsets: np.ndarray | None = None
    history: History = History()

    def __len__(self) -> int:
        return len(self.prompt_ids)

    @property
    def preferred_reward(self) -> np.ndarray:
        """(n,) reward of the preferred response, max over the latest ones: what the paper ranks by (line 21)."""
        return np.nanmax(self.rewards, axis=1)

    @cached_property
    def preferred_text(self) -> np.ndarray:
        """(n,) text of the preferred response."""
        texts, best = self.history.latest_texts(), np.nanargmax(self.rewards, axis=1)
        return np.array([texts[i][b] for i, b in zip(self.prompt_ids, best, strict=True)], dtype=object)

    @property
    def age(self) -> np.ndarray:
        """(n,) iterations since the prompt was last sampled."""
        return self.iteration - self.sampled_at

    @cached_property
    def tie_break(self) -> np.ndarray:
        """(n,) uint64: a stable hash of (seed, iteration, id), so that ties don't depend on the prompts' order."""
        hash_key = f"{self.seed % 10**8:08d}{self.iteration % 10**8:08d}"
        return pd.util.hash_array(self.prompt_ids, hash_key=hash_key, categorize=False)

    def ranked_by(self, score: np.ndarray) -> np.ndarray:
        """Prompt ids in ascending order of `score` (n,), ties broken by `tie_break`."""
        return self.prompt_ids[np.lexsort((self.tie_break, score))]

    def where(self, mask: np.ndarray) -> HistoryView:
        """The view of the prompts in a boolean mask (n,)."""
        columns = ("prompt_ids", "rewards", "sampled_at", "gains", "prompt_texts", "offsets")
        given = {name: getattr(self, name) for name in columns if getattr(self, name) is not None}
        return replace(self, **{name: values[mask] for name, values in given.items()})
