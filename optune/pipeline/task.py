"""What one of the commands is made of, and what all three share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from datasets import Dataset
from transformers import PrinterCallback

from optune.pipeline.settings import FitConfig, StartModelConfig
from optune.training.common import LogTeller, OnLog, learner_arguments, optimizer_of, summary
from optune.types import UserError
from optune.utils.checkpoints import check_finite

Counts = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One command.

    role: `policy` or `reward`, the section of a run and the folder that its model is for. check(config): lines on what
    fits. tokenizer(config). parse(row, where). encoder(config, tokenizer) -> the columns of a row. train(config, rows
    file, folder, seed, on_log) saves the model and returns counts; evaluate(config, model folder, held-out file,
    folder) returns what it measures.
    """

    name: str
    role: str
    check: Callable[[Any], list[str]]
    tokenizer: Callable[[Any], Any]
    parse: Callable[[dict[str, Any], str], Any]
    encoder: Callable[[Any, Any], Callable[[Any], dict[str, Any]]]
    train: Callable[[Any, Path, Path, int, OnLog | None], Counts]
    evaluate: Callable[[Any, Path, Path, Path], Counts]


def check_fit(settings: FitConfig) -> None:
    """Raises UserError for what the trainers of `fit` cannot use: an optimizer that is not there, several GPUs."""
    optimizer_of(settings)
    if torch.cuda.device_count() > 1:
        raise UserError("This training uses one GPU: set CUDA_VISIBLE_DEVICES to one of them.")


def fit_arguments(settings: FitConfig, seed: int, folder: Path) -> dict[str, Any]:
    """The arguments of TRL's SFT and reward trainers: rows of like lengths together, and nothing cut."""
    return {
        **learner_arguments(settings, seed, folder),
        "weight_decay": settings.weight_decay,
        "per_device_train_batch_size": settings.micro_batch_size,
        "gradient_accumulation_steps": settings.batch_size // settings.micro_batch_size,
        "train_sampling_strategy": "group_by_length",  # by the column `length`
        "max_length": None,
        "remove_unused_columns": False,
    }


def fit(trainer: Any, tokenizer: Any, folder: Path, on_log: OnLog | None) -> Counts:
    """Train, and save model and tokenizer; returns TRL's metrics, averaged over the updates."""
    trainer.remove_callback(PrinterCallback)
    if on_log:
        trainer.add_callback(LogTeller(on_log))
    trainer.train()
    check_finite(trainer.model)
    trainer.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return summary(trainer.state.log_history)


def rows_for(path: Path, names: list[str]) -> Dataset:
    """The named columns of the stored rows, as a trainer takes them."""
    return Dataset(pq.read_table(path, columns=names))


def mixed_precision(config: StartModelConfig) -> AbstractContextManager[Any]:
    """Autocast where training uses it, so that what is measured was computed as the training's was."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(device, torch.bfloat16, enabled=config.training.dtype == "bfloat16")
