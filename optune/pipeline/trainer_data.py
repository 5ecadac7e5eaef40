"""Plain preferences as WeightedDPOTrainer takes them, for a training script of one's own."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datasets import Dataset

from optune.pairs.rows import SCORES, PreferenceRows
from optune.pipeline.preference import IDS, encode_preference
from optune.pipeline.rows import encoded, preference_of
from optune.training.reference import reference_columns
from optune.types import UserError
from optune.utils.checkpoints import load_model, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

COLUMNS = [*IDS, *SCORES]


def preference_dataset(
    rows: Iterable[Mapping[str, Any]],
    reference: PreTrainedModel | str | Path,
    tokenizer: Any = None,
    *,
    loss: str = "wdpo",
    max_length: int = 1024,
    batch_size: int = 8,
) -> Dataset:
    """The rows tokenized, with the reference's log-probabilities (nats): the data set of a WeightedDPOTrainer.

    rows: dicts or a `datasets.Dataset` in TRL's preference format: `prompt`, `chosen`, `rejected` (texts or chats),
    `score_chosen`, `score_rejected`; the loss `dpo` needs no scores. A text prompt is one user turn and goes through
    the chat template, as in a run. reference: the policy at its start, as a model (before a trainer has it), a folder
    or a hub name. max_length: tokens of prompt and answer. Rows that are longer, and those with an empty answer or two
    equal ones, are left out and counted on stderr. Raises UserError naming the row that cannot be used.
    """
    name = reference if isinstance(reference, str | Path) else reference.name_or_path
    tokenizer = tokenizer or load_tokenizer(name)
    offered = [preference_of(dict(row), f"row {number}") for number, row in enumerate(rows, start=1)]
    left_out: Counter[str] = Counter()
    encode = partial(encode_preference, tokenizer, loss, max_length)
    kept = [columns for _, columns in encoded(offered, encode, max_length, left_out)]
    told = ", ".join(f"{number} {reason}" for reason, number in left_out.items())
    if not kept:
        raise UserError(f"No row is left to train on (left out: {told or 'none'}; max_length={max_length}).")
    if told:
        print(f"{len(offered) - len(kept)} of {len(offered)} rows are left out: {told}.", file=sys.stderr)
    if isinstance(reference, str | Path):
        from transformers import AutoModelForCausalLM

        reference = load_model(AutoModelForCausalLM, name, dtype="float32")
    table = {}
    for column in COLUMNS:
        values = [row[column] for row in kept]
        table[column] = [value or 0.0 for value in values] if column in SCORES else values  # none: dpo weighs all alike
    pairs = PreferenceRows(pa.table(table))
    pad_id = tokenizer.pad_token_id or 0
    return Dataset(pairs.with_columns(reference_columns(reference, pairs, pad_id, batch_size)).table)
