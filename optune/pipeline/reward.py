"""`optune reward`: a Bradley-Terry reward model (Eq. 1) on preferences, with TRL's RewardTrainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from optune.config import RewardConfig
from optune.loop.checks import check_vocabulary, read_checkpoint
from optune.pipeline.measures import preference_measures
from optune.pipeline.rows import Preference, answered, as_stored, preference_of, response_of
from optune.pipeline.settings import RewardModelConfig
from optune.pipeline.task import Task, check_fit, fit, fit_arguments, mixed_precision, rows_for
from optune.reward.sequence_classifier import SequenceClassifier, encode_rows
from optune.training.common import OnLog
from optune.training.reward_model import load_classifier, reward_trainer
from optune.types import UserError
from optune.utils.checkpoints import UNREADABLE, load_tokenizer
from optune.utils.quiet import quiet_libraries


def check(config: RewardModelConfig) -> list[str]:
    """A language model, or a reward model to train further, whose tokenizer and weights fit its config."""
    check_fit(config.training)
    classifies = _is_classifier(config)
    auto_class = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
    model = read_checkpoint("reward", config.model, auto_class, config.trust_remote_code)
    if classifies and model.config.num_labels != 1:
        raise UserError(f"{model.title} has {model.config.num_labels} labels; a reward model has one.")
    return [check_vocabulary(model)]


def _is_classifier(config: RewardModelConfig) -> bool:
    """Whether the start model says that it is a reward model; one that cannot be read is told by `read_checkpoint`."""
    try:
        found = AutoConfig.from_pretrained(config.model, trust_remote_code=config.trust_remote_code)
    except UNREADABLE:
        return False
    return any(name.endswith("ForSequenceClassification") for name in found.architectures or ())


def tokenizer_of(config: RewardModelConfig) -> Any:
    """The start model's. A missing padding token becomes one that is not the end token, where there is such a one.

    A reward is read at a row's last token that is not padding.
    """
    tokenizer = load_tokenizer(config.model, trust_remote_code=config.trust_remote_code)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.bos_token or tokenizer.eos_token
    return tokenizer


def encoder(config: RewardModelConfig, tokenizer: Any) -> Callable[[Preference], dict[str, Any]]:
    """Prompt and answer together, as a run's reward model reads them."""

    def encode(row: Preference) -> dict[str, Any]:
        responses = [response_of(row.prompt, text) for text in (row.chosen, row.rejected)]
        chosen, rejected = encode_rows(tokenizer, [row.prompt] * 2, responses)
        ids = {"chosen_ids": np.asarray(chosen, np.int32), "rejected_ids": np.asarray(rejected, np.int32)}
        return {**as_stored(row), **ids, "length": max(len(chosen), len(rejected))}

    return encode


def train(config: RewardModelConfig, rows: Path, folder: Path, seed: int, on_log: OnLog | None) -> dict[str, Any]:
    """The loss is -log sigma(r(x, y_w) - r(x, y_l))."""
    quiet_libraries()
    tokenizer = tokenizer_of(config)
    # Weights in full precision, whatever the checkpoint's: an update of 1e-5 would be lost in 16 bits.
    options = {"dtype": torch.float32, "trust_remote_code": config.trust_remote_code}
    model = load_classifier(config.model, seed % 2**32, **options)
    arguments = fit_arguments(config.training, seed, folder)
    data = rows_for(rows, ["chosen_ids", "rejected_ids", "length"])
    return fit(reward_trainer(model, tokenizer, arguments, data, None), tokenizer, folder, on_log)


def evaluate(config: RewardModelConfig, model: Path, held_out: Path, folder: Path) -> dict[str, Any]:
    """Rewards of the held-out answers as a run computes them, and how they agree with the preferences."""
    table = pq.read_table(held_out).drop_columns(["chosen_ids", "rejected_ids"])
    rows = table.to_pylist()
    at_once = 2 * config.training.micro_batch_size
    settings = RewardConfig(
        model=str(model),
        batch_size=at_once,
        max_length=config.data.max_length,
        trust_remote_code=config.trust_remote_code,
    )
    reward, of_side = SequenceClassifier(settings), {}
    with mixed_precision(config):
        for side in ("chosen", "rejected"):
            of_side[side] = reward.score(*answered(rows, side), seed=0)
    for side, rewards in of_side.items():
        table = table.append_column(f"reward_{side}", pa.array(rewards))
    pq.write_table(table, folder / "held_out.parquet")
    gaps = [c - r for c, r in zip(of_side["chosen"], of_side["rejected"], strict=True)]
    return preference_measures(gaps, rows)


TASK = Task("reward", "reward", check, tokenizer_of, preference_of, encoder, train, evaluate)
