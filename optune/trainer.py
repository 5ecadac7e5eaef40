"""The preference step: Algorithm 1, line 22.

Where the reference is the policy itself at the iteration's start (Eq. 5-6), one model in memory is enough: its
log-probabilities are taken before the first update.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel
from transformers import AutoModelForCausalLM, PrinterCallback, TrainerCallback, set_seed
from trl import DPOConfig, DPOTrainer

from optune.config import LossConfig, TrainingConfig
from optune.grouped_trainer import GroupedDPOTrainer, UpdateCollator
from optune.pair_scoring import add_pair_head, pair_reference_columns, shares_prompts
from optune.pairs.rows import PreferenceRows
from optune.processes import gathered, this_process, whole_weights
from optune.reference import from_sampler, reference_columns
from optune.types import UserError
from optune.utils.checkpoints import check_finite, load_model, load_tokenizer
from optune.utils.quiet import quiet_libraries
from optune.weighted_trainer import WeightedDPOTrainer

EIGHT_BIT = {"rmsprop_8bit": "rmsprop_bnb_8bit", "adamw_8bit": "adamw_bnb_8bit"}
OnLog = Callable[[dict[str, Any]], None]  # one update's metrics, by TRL's names


def optimizer_of(settings: TrainingConfig) -> str:
    """transformers' name of the optimizer. Raises UserError where the package that it comes from is missing."""
    if settings.optimizer in EIGHT_BIT and find_spec("bitsandbytes") is None:
        raise UserError(f"training.optimizer={settings.optimizer} needs bitsandbytes: pip install bitsandbytes.")
    return EIGHT_BIT.get(settings.optimizer, settings.optimizer)


def training_arguments(settings: TrainingConfig, beta_1: float, seed: int, folder: Path) -> DPOConfig:
    """Our options for the preference step in TRL's words."""
    at_once = settings.batch_size if settings.batching else settings.micro_batch_size
    return DPOConfig(
        **common_arguments(settings, seed, folder),
        beta=beta_1,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=settings.batch_size // at_once,
        max_length=None,
    )


def common_arguments(settings: TrainingConfig, seed: int, folder: Path) -> dict[str, Any]:
    """What every learner's trainer is told alike; nothing is saved, evaluated or reported on the way."""
    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(folder),
        "learning_rate": settings.learning_rate,
        "optim": optimizer_of(settings),
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup_ratio,  # below 1 it is a ratio
        "num_train_epochs": settings.epochs,
        "max_grad_norm": settings.max_grad_norm,
        "bf16": settings.dtype == "bfloat16",
        "use_cpu": not gpu,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "seed": seed % 2**32,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "logging_steps": 1,
        "disable_tqdm": True,
        "dataloader_pin_memory": gpu,
    }


@contextlib.contextmanager
def _short_collections() -> Iterator[None]:
    """Garbage collections pass over what was there before: walking all imported libraries takes 0.3 s each time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@_short_collections()
def train_dpo(
    policy: str | Path,
    reference: str | Path,
    rows: Sequence[dict[str, Any]],
    loss: LossConfig,
    beta_2: float,
    settings: TrainingConfig,
    seed: int,
    out_dir: Path,
    trust_remote_code: bool = False,
    on_log: OnLog | None = None,
) -> dict[str, Any]:
    """One preference step from `policy`, against `reference`, saved to `out_dir` as a `transformers` folder.

    rows (PreferenceRows, or dicts): `prompt_ids`, `chosen_ids`, `rejected_ids`, `score_chosen`, `score_rejected`. With
    `settings.lora` the weights are the merged ones, and the adapter lies in `out_dir/adapter`. `on_log` is told each
    update's metrics. Returns TRL's metrics averaged over the step's updates (`first` and `last` loss too) and `seconds`
    for reference and training.
    """
    quiet_libraries()
    process, rows = this_process(), PreferenceRows.of(rows)
    tokenizer = load_tokenizer(policy, trust_remote_code=trust_remote_code)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    load = partial(load_model, AutoModelForCausalLM, trust_remote_code=trust_remote_code)
    model = load(policy, dtype="float32")  # full-precision weights; `dtype: bfloat16` is mixed precision
    started = time.perf_counter()
    judge = model if str(reference) == str(policy) else load(reference, dtype="float32")
    mixed = settings.dtype == "bfloat16"
    with torch.autocast(judge.device.type, torch.bfloat16, enabled=mixed):  # as the policy will be scored
        columns, grouping, told = _reference(judge, rows, tokenizer.pad_token_id, settings, process)
    del judge
    reference_s = time.perf_counter() - started
    data = Dataset(rows.with_columns(columns).table)
    trainer = (GroupedDPOTrainer if grouping else WeightedDPOTrainer)(
        model=model,
        data_collator=grouping,
        args=training_arguments(settings, loss.beta_1, seed, out_dir),
        train_dataset=data,
        processing_class=tokenizer,
        loss=loss.name,
        beta_2=beta_2,
        peft_config=_peft_config(settings, seed),
    )
    trainer.remove_callback(PrinterCallback)  # its log comes back as metrics instead
    if on_log:
        trainer.add_callback(LogTeller(on_log))
    trainer.train()
    weights = whole_weights(trainer)
    if trainer.accelerator.is_main_process:
        check_finite(model, weights)
        save_policy(trainer, tokenizer, out_dir, Path(policy).name if Path(policy).is_dir() else str(policy), weights)
    trainer.accelerator.wait_for_everyone()
    metrics = summary(trainer.state.log_history)
    del trainer, model, weights
    gc.collect()
    return {
        "beta_2": beta_2,
        **told,
        **metrics,
        "seconds": {"reference_s": reference_s, "train_s": time.perf_counter() - started - reference_s},
    }


def _reference(
    judge: Any, rows: PreferenceRows, pad_id: int, settings: TrainingConfig, process: PartialState
) -> tuple[list[dict[str, float]], UpdateCollator | None, dict[str, Any]]:
    """The reference columns of `rows`, how updates are cut, where that is asked, and what there is to tell of both."""
    if settings.batching is None:
        if process.num_processes > 1:
            raise UserError("Training in several processes needs training.batching, such as length_grouped.")
        columns = partial(reference_columns, judge, pad_id=pad_id, batch_size=4 * settings.micro_batch_size)
        collator = None
    else:
        add_pair_head(judge)
        shared = all(gathered([shares_prompts(judge, rows, pad_id)]))
        columns = partial(_shared_out, judge, pad_id=pad_id, shared=shared, settings=settings, process=process)
        share = {"processes": process.num_processes, "process": process.process_index}
        collator = UpdateCollator(pad_id, **settings.limits, shared=shared, **share)
    if not settings.fresh_reference:
        return columns(rows), collator, {}
    found, told = from_sampler(rows, columns)
    return found, collator, told


def _shared_out(
    judge: Any,
    rows: PreferenceRows,
    *,
    pad_id: int,
    shared: bool,
    settings: TrainingConfig,
    process: PartialState,
) -> list[dict[str, float]]:
    """Reference columns, each computed by one of the processes."""
    forward_only = {name: limit and 4 * limit for name, limit in settings.limits.items()}
    mine = range(process.process_index, len(rows), process.num_processes)
    columns = pair_reference_columns(judge, rows.select(mine), pad_id, shared, **forward_only)
    by_row = dict(gathered(list(zip(mine, columns, strict=True))))
    return [by_row[i] for i in range(len(rows))]


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


def _peft_config(settings: TrainingConfig, seed: int) -> PeftLoraConfig | None:
    """The adapter to train, if any; it starts at random, from `seed`."""
    if settings.lora is None:
        return None
    set_seed(seed % 2**32)
    lora = settings.lora
    return PeftLoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )


class LogTeller(TrainerCallback):
    """Tells each update's metrics on."""

    def __init__(self, on_log: OnLog):
        self.tell = on_log

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.tell(logs)


def summary(log: list[dict[str, Any]]) -> dict[str, Any]:
    """A trainer's metrics, averaged over its updates; of the loss the first and the last one, too."""
    steps = [entry for entry in log if "loss" in entry]
    names = sorted({name for entry in steps for name in entry if name not in ("epoch", "step", "learning_rate")})
    means = {name: sum(e[name] for e in steps if name in e) / len(steps) for name in names}
    return {"updates": len(steps), "loss_first": steps[0]["loss"], "loss_last": steps[-1]["loss"], **means}
