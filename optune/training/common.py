"""What the trainers share: optimizers, arguments, saving a policy, and the metrics of an update."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import TrainerCallback
from trl import DPOTrainer

from optune.config import TrainingConfig
from optune.types import UserError

EIGHT_BIT = {"rmsprop_8bit": "rmsprop_bnb_8bit", "adamw_8bit": "adamw_bnb_8bit"}
OnLog = Callable[[dict[str, Any]], None]  # one update's metrics, by TRL's names
OnProgress = Callable[[int, int], None]  # what is done, and of how much


def optimizer_of(settings: TrainingConfig) -> str:
    """transformers' name of the optimizer. Raises UserError where the package that it comes from is missing."""
    if settings.optimizer in EIGHT_BIT and find_spec("bitsandbytes") is None:
        raise UserError(f"training.optimizer={settings.optimizer} needs bitsandbytes: pip install bitsandbytes.")
    return EIGHT_BIT.get(settings.optimizer, settings.optimizer)


def trainer_arguments(out_dir: Path, seed: int, learning_rate: float, warmup_ratio: float) -> dict[str, Any]:
    """The arguments that all trainers share, SFT's and the reward model's too. None saves or reports by itself."""
    return {
        "output_dir": str(out_dir),
        "learning_rate": learning_rate,
        "warmup_steps": warmup_ratio,  # below 1, transformers 5 takes it as the ratio
        "use_cpu": not torch.cuda.is_available(),  # mixed precision on a CPU must be asked for
        "seed": seed % 2**32,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def learner_arguments(settings: TrainingConfig, seed: int, out_dir: Path) -> dict[str, Any]:
    """`trainer_arguments` and what all learners of an iteration share."""
    return {
        **trainer_arguments(out_dir, seed, settings.learning_rate, settings.warmup_ratio),
        "optim": optimizer_of(settings),
        "lr_scheduler_type": settings.schedule,
        "num_train_epochs": settings.epochs,
        "max_grad_norm": settings.max_grad_norm,
        "bf16": settings.dtype == "bfloat16",
        "gradient_checkpointing": settings.gradient_checkpointing,
        "eval_strategy": "no",
        "logging_steps": 1,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def save_policy(
    trainer: DPOTrainer, tokenizer: Any, out_dir: Path, base: str, weights: dict[str, torch.Tensor] | None = None
) -> None:
    """A folder that `transformers` loads, with safetensors weights; a LoRA's adapter to `base` lies in `adapter`."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(model, PeftModel):
        model.peft_config["default"].base_model_name_or_path = base  # by name: what a policy is says not where it lies
        model.save_pretrained(out_dir / "adapter", save_embedding_layers=False)  # else it asks the hub about them
        (out_dir / "adapter" / "README.md").unlink(missing_ok=True)
        model = model.merge_and_unload()
    model.save_pretrained(out_dir, state_dict=weights)
    tokenizer.save_pretrained(out_dir)


class LogTeller(TrainerCallback):
    """Passes the metrics of each update to `on_log`."""

    def __init__(self, on_log: OnLog):
        self.tell = on_log

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.tell(logs)


class StepTeller(TrainerCallback):
    """Passes the number of updates done, and of all, to `on_progress` after each."""

    def __init__(self, on_progress: OnProgress):
        self.tell = on_progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.tell(state.global_step, state.max_steps)


def summary(log: list[dict[str, Any]]) -> dict[str, Any]:
    """A trainer's metrics, averaged over its updates, and the first and the last loss."""
    steps = [entry for entry in log if "loss" in entry]  # the last entry of TRL's log sums up the whole training
    names = set().union(*steps) - {"epoch", "step", "learning_rate"}
    means = {}
    for name in sorted(names):
        measured = [entry[name] for entry in steps if name in entry]
        means[name] = sum(measured) / len(steps)
    return {"updates": len(steps), "loss_first": steps[0]["loss"], "loss_last": steps[-1]["loss"], **means}
