"""Every response ever sampled, append-only; the latest per prompt is a view.

One Parquet file per iteration, a row per response, written once by the scoring stage. A `History` is the tuple of
those files: appending makes a new one, and nothing is overwritten (Algorithm 1, lines 12-18: what is not regenerated
is reused).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from optune.types import Response
from optune.utils.ranking import lowest, ranking

T = TypeVar("T")

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

NUMBERS = ("prompt_id", "index", "iteration", "reward")

# Rows of a row group: what is held at a time. Part of a file's bytes, hence of its stage's digest.
ROWS = 1 << 16


def write_responses(path: Path, responses: Iterable[Response]) -> None:
    """One row per response, in the order given. At most ROWS responses are held in memory."""
    write_rows(path, SCHEMA, map(_table, chunks(responses, ROWS)))


def _table(responses: Sequence[Response]) -> pa.Table:
    columns = {}
    for name in SCHEMA.names:
        columns[name] = [getattr(response, name) for response in responses]
    return pa.table(columns, schema=SCHEMA)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one of what is left."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def write_rows(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Parquet in row groups of ROWS rows, whatever the sizes of `tables`. Memory holds one group and one table."""
    with pq.ParquetWriter(path, schema) as writer:
        waiting, written = schema.empty_table(), False
        for table in tables:
            waiting = pa.concat_tables([waiting, table])
            while len(waiting) >= ROWS:
                writer.write_table(waiting.slice(0, ROWS).combine_chunks())
                waiting, written = waiting.slice(ROWS), True
        if len(waiting) or not written:
            writer.write_table(waiting.combine_chunks())


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file, at most ROWS at a time."""
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(ROWS, columns=columns)


def iter_responses(path: Path) -> Iterator[Response]:
    """The rows of one iteration's file as `Response`s, one after the other."""
    for batch in read_rows(path):
        yield from (Response(**{**row, "token_ids": tuple(row["token_ids"])}) for row in batch.to_pylist())


def read_responses(path: Path) -> list[Response]:
    """The rows of one iteration's file as `Response`s."""
    return list(iter_responses(path))


@dataclass(frozen=True)
class Sampled:
    """Which prompts a file's rows answer.

    place: (rows,) int, each row's prompt as a place among the prompts asked for, -1 where it is none of them.
    iteration: (rows,) int, the iteration that sampled each row.
    """

    path: Path
    place: np.ndarray
    iteration: np.ndarray


@dataclass(frozen=True)
class History:
    """The scored files of iterations 0..t, in order."""

    files: tuple[Path, ...] = ()

    def append(self, scored: Path) -> History:
        """The history with one more iteration's file."""
        return History((*self.files, scored))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All rows ever sampled, with their texts: prompt_id, index, iteration, reward and text."""
        return self._columns([*NUMBERS, "text"])

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """`frame` without the texts, which may be gigabytes."""
        return self._columns(NUMBERS)

    def _columns(self, names: Sequence[str]) -> pd.DataFrame:
        tables = [pq.read_table(path, columns=list(names)).to_pandas() for path in self.files]
        if not tables:
            return pd.DataFrame({name: [] for name in names})
        return pd.concat(tables, ignore_index=True)

    def sampled(self, prompt_ids: Sequence[str] | pa.Array) -> Iterator[Sampled]:
        """Who was sampled when, file by file; of prompt ids and iterations alone."""
        ids = pa.array(prompt_ids, pa.string())
        for path in self.files:
            rows = pq.read_table(path, columns=["prompt_id", "iteration"])
            place = pc.fill_null(pc.index_in(rows["prompt_id"], value_set=ids), -1)
            yield Sampled(path, place.to_numpy(), rows["iteration"].to_numpy())

    def latest(self, prompt_ids: Sequence[str] | pa.Array) -> Iterator[tuple[Sampled, np.ndarray]]:
        """For each file, a mask (rows,) of the rows that are the newest responses to their prompts."""
        files = list(self.sampled(prompt_ids))
        newest = np.full(len(prompt_ids) + 1, -1)  # the last place stands for all others
        for rows in files:
            known = rows.place >= 0
            np.maximum.at(newest, rows.place[known], rows.iteration[known])
        for rows in files:
            yield rows, (rows.place >= 0) & (rows.iteration == newest[rows.place])

    def view(
        self,
        prompt_ids: Sequence[str],
        iteration: int,
        seed: int,
        prompt_texts: Sequence[str] | None = None,
        offsets: Sequence[float] | None = None,
    ) -> HistoryView:
        """What a selection strategy may look at before iteration `iteration` samples."""
        n = len(prompt_ids)
        sampled_at, rewards = np.full(n, -1), np.full((n, 0), np.nan)
        gains, before = [], np.full(n, np.nan)  # the preferred response's reward when last sampled
        for rows in self.sampled(prompt_ids):
            values = pq.read_table(rows.path, columns=["index", "reward"])
            index, reward = values["index"].to_numpy(), values["reward"].to_numpy()
            for t in np.unique(rows.iteration):
                here = np.flatnonzero((rows.iteration == t) & (rows.place >= 0))
                place, best = rows.place[here], np.full(n, np.nan)
                np.fmax.at(best, place, reward[here])  # `at`, since a prompt has several rows
                gains.append(best - before)
                before = np.where(np.isnan(best), before, best)
                sampled_at[place] = t
                rewards[place] = np.nan
                missing = max(0, int(index.max(initial=-1)) + 1 - rewards.shape[1])  # columns for more responses
                rewards = np.hstack([rewards, np.full((n, missing), np.nan)])
                rewards[place, index[here]] = reward[here]
        return HistoryView(
            prompt_ids=np.asarray(prompt_ids, dtype=object),
            rewards=rewards,
            sampled_at=sampled_at,
            gains=np.array(gains).T.reshape(n, len(gains)),
            iteration=iteration,
            seed=seed,
            prompt_texts=None if prompt_texts is None else np.asarray(prompt_texts, dtype=object),
            offsets=None if offsets is None else np.asarray(offsets, dtype=float),
            history=self,
        )

    def latest_texts(self, prompt_ids: Sequence[str]) -> list[list[str]]:
        """Of each prompt the texts of its latest responses, in order of their index."""
        texts: list[dict[int, str]] = [{} for _ in prompt_ids]
        for rows, newest in self.latest(prompt_ids):
            start = 0
            for batch in read_rows(rows.path, ["index", "text"]):
                here = start + np.flatnonzero(newest[start : start + len(batch)])
                for place, row in zip(rows.place[here], batch.take(here - start).to_pylist(), strict=True):
                    texts[place][row["index"]] = row["text"]
                start += len(batch)
        in_order = []
        for by_index in texts:
            in_order.append([by_index[index] for index in sorted(by_index)])
        return in_order


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
        texts, best = self.history.latest_texts(self.prompt_ids), np.nanargmax(self.rewards, axis=1)
        return np.array([by_index[b] for by_index, b in zip(texts, best, strict=True)], dtype=object)

    @property
    def age(self) -> np.ndarray:
        """(n,) iterations since the prompt was last sampled."""
        return self.iteration - self.sampled_at

    @cached_property
    def samplings(self) -> pd.DataFrame:
        """Each time that one of the prompts was sampled, oldest first: place (in `prompt_ids`), iteration, `mean`
        and `spread` (highest minus lowest) of its rewards."""
        rows = self.history.numbers
        rows = rows.assign(place=pd.Index(self.prompt_ids).get_indexer(rows["prompt_id"]))
        reward = rows[rows["place"] >= 0].groupby(["iteration", "place"])["reward"]
        spread = reward.max() - reward.min()
        return pd.DataFrame({"mean": reward.mean(), "spread": spread}).reset_index()

    def tie_break(self, places: np.ndarray) -> np.ndarray:
        """(places,) uint64: a stable hash of (seed, iteration, id), so that ties don't depend on the prompts' order."""
        hash_key = f"{self.seed % 10**8:08d}{self.iteration % 10**8:08d}"
        return pd.util.hash_array(self.prompt_ids[places], hash_key=hash_key, categorize=False)

    def ranked_by(self, score: np.ndarray) -> np.ndarray:
        """Prompt ids in ascending order of `score` (n,), ties broken by `tie_break`."""
        return self.prompt_ids[ranking(score, self.tie_break)]

    def lowest(self, score: np.ndarray, k: int) -> np.ndarray:
        """The first `k` ids of `ranked_by`, found without ranking the others."""
        return self.prompt_ids[lowest(score, k, self.tie_break)]

    def where(self, mask: np.ndarray) -> HistoryView:
        """The view of the prompts in a boolean mask (n,)."""
        columns = ("prompt_ids", "rewards", "sampled_at", "gains", "prompt_texts", "offsets")
        given = {name: getattr(self, name) for name in columns if getattr(self, name) is not None}
        return replace(self, **{name: values[mask] for name, values in given.items()})
