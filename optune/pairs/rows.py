"""What a preference step learns from: a row per pair, from an iteration's stored pairs, in an Arrow table.

48,000 pairs of 1,000 tokens take 0.2 GB there; as Python's numbers they take 2 GB, in each of several processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from optune.config import RunConfig
from optune.history import chunks
from optune.prompts.files import stored_prompts
from optune.prompts.tokens import encode_prompts
from optune.types import UserError

SIDES = ("chosen", "rejected")
SCORES = [f"score_{side}" for side in SIDES]
IDS = ["prompt_id", *(f"{side}_token_ids" for side in SIDES)]
SAMPLED = ["chosen_iteration", "chosen_logprob", "rejected_iteration", "rejected_logprob"]
AT_ONCE = 1024  # rows that iterating makes Python's


class PreferenceRows(Sequence[dict[str, Any]]):
    """Rows of `prompt_ids`, `chosen_ids`, `rejected_ids` and any other columns; each a dict only when it is read."""

    def __init__(self, table: pa.Table):
        self.table = table.combine_chunks()

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]]) -> PreferenceRows:
        """The rows themselves, or dicts as rows."""
        return rows if isinstance(rows, cls) else cls(pa.Table.from_pylist(list(rows)))

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return self.select(range(len(self))[place])
        return self.select([range(len(self))[place]]).table.to_pylist()[0]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.table.to_batches(max_chunksize=AT_ONCE):
            yield from batch.to_pylist()

    def select(self, places: Sequence[int]) -> PreferenceRows:
        """The rows at `places`, in their order."""
        return PreferenceRows(self.table.take(pa.array(places, pa.int64())))

    def lengths(self, column: str) -> list[int]:
        """Tokens of each row's `column`."""
        return pc.list_value_length(self.table[column]).to_pylist()

    def with_columns(self, values: Sequence[dict[str, float]]) -> PreferenceRows:
        """With further numbers beside each row; the same names in every one of `values`."""
        table = self.table
        for name in values[0] if values else ():
            table = table.append_column(name, pa.array([row[name] for row in values], pa.float64()))
        return PreferenceRows(table)


def preference_rows(config: RunConfig, tokenizer: Any, prompts: Path, pairs: Path, t: int) -> PreferenceRows:
    """Rows for `train_dpo` of the pairs of iteration `t`; `prompts` holds the prompts that they are of.

    Raises UserError where the loss weighs pairs by rewards that offline ones do not have.
    """
    table = pq.read_table(pairs, columns=IDS + SCORES + (SAMPLED if config.training.fresh_reference else []))
    scores = {name: table[name] for name in SCORES}
    if config.loss.name == "dpo":  # weighs all alike, so that offline pairs need no scores
        scores = {name: pc.fill_null(column, 0.0) for name, column in scores.items()}
    elif any(column.null_count for column in scores.values()):
        raise UserError(
            f"{config.pairs.offline}: loss {config.loss.name!r} needs score_chosen and score_rejected in "
            "every row; give them, or take loss dpo."
        )
    columns = {"prompt_ids": _prompt_ids(prompts, tokenizer, config.prompts.max_tokens, table["prompt_id"])}
    columns |= {f"{side}_ids": table[f"{side}_token_ids"] for side in SIDES} | scores
    if config.training.fresh_reference:
        columns |= {f"sampled_{side}_logps": _sampled_logprobs(table, side, t) for side in SIDES}
    return PreferenceRows(pa.table(columns))


def _prompt_ids(prompts: Path, tokenizer: Any, max_tokens: int, wanted: pa.ChunkedArray) -> pa.ChunkedArray:
    """The token ids of each prompt of `wanted` (prompt ids), as the policy sees it."""
    names: list[str] = []
    encoded = []
    for asked in chunks(stored_prompts(prompts), AT_ONCE):
        names += [prompt.prompt_id for prompt in asked]
        encoded.append(pa.array(encode_prompts(tokenizer, asked, max_tokens)[0], pa.list_(pa.int32())))
    return pa.chunked_array(encoded).take(pc.index_in(wanted, pa.array(names)))


def _sampled_logprobs(pairs: pa.Table, side: str, t: int) -> pa.ChunkedArray:
    """(pairs,) log pi(y|x) of one side as its sampler recorded it; null if of another iteration or unrecorded."""
    return pc.if_else(pc.equal(pairs[f"{side}_iteration"], t), pairs[f"{side}_logprob"], pa.scalar(None, pa.float64()))
