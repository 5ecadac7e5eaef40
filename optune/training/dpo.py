"""The preference step: Algorithm 1, line 22.

Where the reference is the policy itself at the iteration's start (Eq. 5-6), one model in memory is enough: its
log-probabilities are taken before the first update.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from peft import LoraConfig as PeftLoraConfig
from transformers import AutoModelForCausalLM, PrinterCallback, set_seed
from trl import DPOConfig

from optune.config import TrainingConfig
from optune.pairs.rows import PreferenceRows
from optune.training.common import LogTeller, OnLog, learner_arguments, save_policy, summary
from optune.training.distributed import gathered, this_process, whole_weights
from optune.training.grouped_trainer import GroupedDPOTrainer, UpdateCollator
from optune.training.job import TrainJob
from optune.training.pair_logprobs import add_pair_head, pair_reference_columns, shares_prompts
from optune.training.reference import from_sampler, reference_columns
from optune.training.weighted_trainer import WeightedDPOTrainer
from optune.types import UserError
from optune.utils.checkpoints import check_finite, load_model, load_tokenizer
from optune.utils.memory import release_memory
from optune.utils.quiet import quiet_libraries


def training_arguments(settings: TrainingConfig, beta_1: float, seed: int, folder: Path) -> DPOConfig:
    """TRL's arguments for the preference step.

    With `batching` the data loader hands over whole updates, and GroupedDPOTrainer cuts them into micro-batches itself.
    """
    at_once = settings.batch_size if settings.batching else settings.micro_batch_size
    return DPOConfig(
        **learner_arguments(settings, seed, folder),
        beta=beta_1,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=settings.batch_size // at_once,
        max_length=None,
    )


@contextlib.contextmanager
def _short_collections() -> Iterator[None]:
    """Keeps garbage collections from walking the imported libraries, which takes 0.3 s each time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@_short_collections()
def train_dpo(
    job: TrainJob,
    rows: Sequence[dict[str, Any]],
    out_dir: Path,
    on_log: OnLog | None = None,
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """One preference step as `job` says, on the pairs of `rows`; the policy is saved to `out_dir`.

    rows (PreferenceRows, or dicts): `prompt_ids`, `chosen_ids`, `rejected_ids`, `score_chosen`, `score_rejected`.
    `out_dir` becomes a `transformers` folder; with `job.settings.lora` it holds the merged weights, and the adapter
    lies in `out_dir/adapter`. `on_log` gets the metrics of each update. Returns TRL's metrics averaged over the
    updates, the first and the last loss, and `seconds` of the reference and of training.
    """
    quiet_libraries()
    release_memory()  # what sampling needed
    process, rows, settings = this_process(), PreferenceRows.of(rows), job.settings
    tokenizer = load_tokenizer(job.policy, trust_remote_code=job.trust_remote_code)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    load = partial(load_model, AutoModelForCausalLM, trust_remote_code=job.trust_remote_code)
    model = load(job.policy, dtype="float32")  # full-precision weights; `dtype: bfloat16` is mixed precision
    started = time.perf_counter()
    reference = model if str(job.reference) == str(job.policy) else load(job.reference, dtype="float32")
    mixed = settings.dtype == "bfloat16"
    with torch.autocast(reference.device.type, torch.bfloat16, enabled=mixed):  # as the policy's will be computed
        columns, grouping, counts = _reference(reference, rows, tokenizer.pad_token_id, settings, process)
    del reference  # a second model, where it is not the policy itself, is freed before training
    reference_s = time.perf_counter() - started
    data = Dataset(rows.with_columns(columns).table)
    trainer = (GroupedDPOTrainer if grouping else WeightedDPOTrainer)(
        model=model,
        data_collator=grouping,
        args=training_arguments(settings, job.loss.beta_1, job.seed, out_dir),
        train_dataset=data,
        processing_class=tokenizer,
        loss=job.loss.name,
        beta_2=job.beta_2,
        peft_config=_peft_config(settings, job.seed),
    )
    trainer.remove_callback(PrinterCallback)  # its log comes back as metrics instead
    if on_log:
        trainer.add_callback(LogTeller(on_log))
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.train()
    weights = whole_weights(trainer)
    if trainer.accelerator.is_main_process:
        check_finite(model, weights)
        base = Path(job.policy).name if Path(job.policy).is_dir() else str(job.policy)
        save_policy(trainer, tokenizer, out_dir, base, weights)
    trainer.accelerator.wait_for_everyone()
    metrics = summary(trainer.state.log_history)
    del trainer, model, weights
    release_memory()
    return {
        "beta_2": job.beta_2,
        **counts,
        **metrics,
        "seconds": {"reference_s": reference_s, "train_s": time.perf_counter() - started - reference_s},
    }


def _reference(
    reference: Any, rows: PreferenceRows, pad_id: int, settings: TrainingConfig, process: PartialState
) -> tuple[list[dict[str, float]], UpdateCollator | None, dict[str, Any]]:
    """Returns reference log-probabilities, the collator (None without batching), and metrics."""
    if settings.batching is None:
        if process.num_processes > 1:
            raise UserError("Training in several processes needs training.batching, such as length_grouped.")
        columns = partial(reference_columns, reference, pad_id=pad_id, batch_size=4 * settings.micro_batch_size)
        collator = None
    else:  # by the same forward pass as training, so that reference and policy round alike
        add_pair_head(reference)
        # All processes must pack pairs in the same way, so one that cannot share prompts decides for all.
        shared = all(gathered([shares_prompts(reference, rows, pad_id)]))
        columns = partial(_shared_out, reference, pad_id=pad_id, shared=shared, settings=settings, process=process)
        share = {"processes": process.num_processes, "process": process.process_index}
        collator = UpdateCollator(pad_id, **settings.limits, shared=shared, **share)
    if not settings.fresh_reference:
        return columns(rows), collator, {}
    of_rows, counts = from_sampler(rows, columns)
    return of_rows, collator, counts


def _shared_out(
    reference: Any,
    rows: PreferenceRows,
    *,
    pad_id: int,
    shared: bool,
    settings: TrainingConfig,
    process: PartialState,
) -> list[dict[str, float]]:
    """Reference columns of all rows; each process computes its share, and all get the whole."""
    forward_only = {name: limit and 4 * limit for name, limit in settings.limits.items()}  # no gradients to hold
    mine = range(process.process_index, len(rows), process.num_processes)
    columns = pair_reference_columns(reference, rows.select(mine), pad_id, shared, **forward_only)
    by_row = dict(gathered(list(zip(mine, columns, strict=True))))
    return [by_row[i] for i in range(len(rows))]


def _peft_config(settings: TrainingConfig, seed: int) -> PeftLoraConfig | None:
    """The LoRA adapter to train, or None. Its random start depends on `seed` alone."""
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
