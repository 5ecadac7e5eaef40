"""OPTune: efficient online preference tuning. The names below are the public interface."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optune.config import RunConfig, load_config
    from optune.history import HistoryView
    from optune.loop.algorithm import run_optune
    from optune.pairs.pairing import make_pairs
    from optune.pipeline.trainer_data import preference_dataset
    from optune.selection.strategies import select_prompts
    from optune.training.losses import dpo_loss, wdpo_loss
    from optune.training.weighted_trainer import WeightedDPOTrainer

# Loaded on first use: importing optune must not import torch.
_HOME = {
    "HistoryView": "history",
    "RunConfig": "config",
    "dpo_loss": "training.losses",
    "load_config": "config",
    "make_pairs": "pairs.pairing",
    "preference_dataset": "pipeline.trainer_data",
    "run_optune": "loop.algorithm",
    "select_prompts": "selection.strategies",
    "WeightedDPOTrainer": "training.weighted_trainer",
    "wdpo_loss": "training.losses",
}
__all__ = [
    "HistoryView",
    "RunConfig",
    "WeightedDPOTrainer",
    "dpo_loss",
    "load_config",
    "make_pairs",
    "preference_dataset",
    "run_optune",
    "select_prompts",
    "wdpo_loss",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'optune' has no attribute {name!r}")
    return getattr(import_module(f"optune.{_HOME[name]}"), name)
