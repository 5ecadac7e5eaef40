"""The preference step: Algorithm 1, line 22.

`WeightedDPOTrainer` is TRL's DPOTrainer with a loss from `losses.py` and with reference log-probabilities that come as
columns of the data. Where the reference is the policy itself at the iteration's start (Eq. 5-6), one model in memory
is enough: its log-probabilities are taken before the first update.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel, PrinterCallback, TrainerCallback, set_seed
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import selective_log_softmax

from optune.checkpoints import check_finite, load_model, load_tokenizer
from optune.config import LossConfig, TrainingConfig
from optune.losses import LOSSES, wdpo_weight
from optune.quiet import quiet_libraries
from optune.registry import resolve
from optune.types import UserError

OnLog = Callable[[dict[str, Any]], None]  # one update's metrics, by TRL's names
SCORES = ("score_chosen", "score_rejected")
# Options of TRL's loss that ours does not have, with the value that leaves them out.
UNSUPPORTED = {
    "loss_type": ["sigmoid"],
    "loss_weights": None,
    "label_smoothing": 0.0,
    "ld_alpha": None,
    "use_weighting": False,
    "f_divergence_type": "reverse_kl",
    "sync_ref_model": False,
}


@dataclass
class ScoreCollator(DataCollatorForPreference):
    """TRL's collator, which drops columns it does not know, with both rewards kept: (batch,) float32 each."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        for name in SCORES:
            batch[name] = torch.tensor([example[name] for example in examples], dtype=torch.float32)
        return batch


class _Recorder:
    """A model that remembers its last output, so that TRL's metrics and our loss share one forward pass."""

    def __init__(self, model: PreTrainedModel):
        self.model = model

    def __call__(self, **inputs: Any) -> Any:
        self.output = self.model(**inputs)
        return self.output


class WeightedDPOTrainer(DPOTrainer):
    """TRL's DPOTrainer with Eq. 6 in the place of its loss; every metric of TRL's keeps its name.

    The data set has `prompt_ids`, `chosen_ids`, `rejected_ids` (the sampled ids as they are), `ref_chosen_logps`,
    `ref_rejected_logps`, `score_chosen` and `score_rejected`. `args.beta` is beta_1. With weight 1 (`dpo`) it is bit
    for bit TRL's own trainer. Raises UserError for options of TRL's loss that it would silently drop, and when a loss
    is not finite.
    """

    def __init__(self, *args: Any, loss: str = "wdpo", beta_2: float = 1.0, **kwargs: Any):
        config: DPOConfig = kwargs["args"]
        for name, value in UNSUPPORTED.items():
            if getattr(config, name) != value:
                raise UserError(f"WeightedDPOTrainer does not support {name}={getattr(config, name)!r}; leave it out.")
        config.precompute_ref_log_probs = True  # no second model; `_precompute_ref_logps` keeps the columns given
        self.pair_loss = partial(resolve(LOSSES, loss, "loss"), beta=config.beta, beta_2=beta_2)
        self.beta_2 = beta_2
        if kwargs.get("data_collator") is None:
            tokenizer = kwargs["processing_class"]
            pad_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
            kwargs["data_collator"] = ScoreCollator(pad_token_id=pad_id)
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = list(dict.fromkeys([*self._signature_columns, *SCORES]))

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        scores = [inputs.pop(name) for name in SCORES]  # a key the model does not know would pass silently
        recorder = _Recorder(model)
        super()._compute_loss(recorder, inputs, return_outputs=False)  # TRL's metrics; its loss is not used
        length = inputs["completion_mask"].size(1) - 1
        policy_logps = recorder.output.log_probs[:, -length:].sum(dim=1).chunk(2)
        losses = self.pair_loss(*policy_logps, inputs["ref_chosen_logps"], inputs["ref_rejected_logps"], *scores)
        loss = losses.mean()
        if not torch.isfinite(loss):
            raise UserError("The loss is not finite: training stopped, and nothing of it is saved. Lower the rate.")
        mode = "train" if self.model.training else "eval"
        weight = wdpo_weight(*scores, self.beta_2).mean()
        self._metrics[mode]["weights/mean"].append(self.accelerator.gather(weight).mean().item())
        return (loss, recorder.output) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As TRL's, once per update; a gradient that is not finite stops training, as a loss does."""
        if not math.isfinite(logs.get("grad_norm", 0.0)):
            raise UserError("The gradient is not finite: training stopped, and nothing of it is saved. Lower the rate.")
        super().log(logs, *args, **kwargs)


@torch.no_grad()
def sequence_logprobs(
    model: PreTrainedModel, rows: Sequence[tuple[list[int], list[int]]], pad_id: int, batch_size: int
) -> list[float]:
    """log pi(y|x) for (prompt ids, response ids) rows: sums over the response's tokens, in nats, in row order.

    Rows are sorted by length, so that little is padded; padding is on the right and masked.
    """
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    sums = [0.0] * len(rows)
    was_training = model.training
    model.eval()
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        width = max(len(rows[i][0]) + len(rows[i][1]) for i in batch)
        ids = torch.full((len(batch), width), pad_id)
        attention, response = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, i in enumerate(batch):
            prompt, answer = rows[i]
            end = len(prompt) + len(answer)
            ids[row, :end] = torch.tensor([*prompt, *answer])
            attention[row, :end] = 1
            response[row, len(prompt) : end] = 1
        ids, attention, response = (t.to(model.device) for t in (ids, attention, response))
        logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1]
        # A row at a time in fp32: a batch of it would not fit beside a vocabulary of 150,000.
        rows_of = zip(logits, ids[:, 1:], strict=True)
        per_token = torch.cat([selective_log_softmax(row[None].float(), i[None]) for row, i in rows_of])
        for i, total in zip(batch, (per_token * response[:, 1:]).sum(dim=1).tolist(), strict=True):
            sums[i] = total
    model.train(was_training)
    return sums


def training_arguments(settings: TrainingConfig, beta_1: float, seed: int, folder: Path) -> DPOConfig:
    """Our options in TRL's words; nothing is saved, evaluated or reported on the way."""
    return DPOConfig(
        output_dir=str(folder),
        beta=beta_1,
        learning_rate=settings.learning_rate,
        optim=settings.optimizer,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_ratio,  # below 1 it is a ratio
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.batch_size // settings.micro_batch_size,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.dtype == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=settings.gradient_checkpointing,
        max_length=None,
        seed=seed % 2**32,
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        logging_steps=1,
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


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

    rows: `prompt_ids`, `chosen_ids`, `rejected_ids`, `score_chosen`, `score_rejected`. With `settings.lora` the weights
    are the merged ones, and the adapter lies in `out_dir/adapter`. `on_log` is told each update's metrics. Returns
    TRL's metrics averaged over the step's updates (`first` and `last` loss too) and `seconds` for reference and
    training.
    """
    quiet_libraries()
    tokenizer = load_tokenizer(policy, trust_remote_code=trust_remote_code)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    load = partial(load_model, AutoModelForCausalLM, trust_remote_code=trust_remote_code)
    model = load(policy, dtype="float32")  # full-precision weights; `dtype: bfloat16` is mixed precision
    started = time.perf_counter()
    arguments = training_arguments(settings, loss.beta_1, seed, out_dir)
    if arguments.n_gpu > 1:
        raise UserError("Training in one process uses one GPU: set CUDA_VISIBLE_DEVICES to one of them.")
    judge = model if str(reference) == str(policy) else load(reference, dtype="float32")
    with torch.autocast(judge.device.type, torch.bfloat16, enabled=arguments.bf16):  # as the policy will be scored
        columns = reference_columns(judge, rows, tokenizer.pad_token_id, 4 * settings.micro_batch_size)
    del judge
    reference_s = time.perf_counter() - started
    data = Dataset.from_list([{**row, **extra} for row, extra in zip(rows, columns, strict=True)])
    trainer = WeightedDPOTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        processing_class=tokenizer,
        loss=loss.name,
        beta_2=beta_2,
        peft_config=_peft_config(settings, arguments.seed),
    )
    trainer.remove_callback(PrinterCallback)  # its log comes back as metrics instead
    if on_log:
        trainer.add_callback(_LogTeller(on_log))
    trainer.train()
    check_finite(model)
    save_policy(trainer, tokenizer, out_dir, Path(policy).name if Path(policy).is_dir() else str(policy))
    metrics = _summary(trainer.state.log_history)
    del trainer, model
    gc.collect()
    return {
        "beta_2": beta_2,
        **metrics,
        "seconds": {"reference_s": reference_s, "train_s": time.perf_counter() - started - reference_s},
    }


def reference_columns(
    reference: PreTrainedModel, rows: Sequence[dict[str, Any]], pad_id: int, batch_size: int
) -> list[dict[str, float]]:
    """log pi_ref(y_w|x) and log pi_ref(y_l|x) of each pair, in the columns that TRL's trainer reads."""
    sides = [[(row["prompt_ids"], row[f"{side}_ids"]) for row in rows] for side in ("chosen", "rejected")]
    both = sequence_logprobs(reference, [*sides[0], *sides[1]], pad_id, batch_size)
    pairs = zip(both[: len(rows)], both[len(rows) :], strict=True)
    return [{"ref_chosen_logps": chosen, "ref_rejected_logps": rejected} for chosen, rejected in pairs]


def save_policy(trainer: DPOTrainer, tokenizer: Any, out_dir: Path, base: str) -> None:
    """A folder that `transformers` loads, with safetensors weights; a LoRA's adapter to `base` lies in `adapter`."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(model, PeftModel):
        model.peft_config["default"].base_model_name_or_path = base  # by name: what a policy is says not where it lies
        model.save_pretrained(out_dir / "adapter", save_embedding_layers=False)  # else it asks the hub about them
        (out_dir / "adapter" / "README.md").unlink(missing_ok=True)
        model = model.merge_and_unload()
    model.save_pretrained(out_dir)
    tokenizer.save_pretrained(out_dir)


def _peft_config(settings: TrainingConfig, seed: int) -> PeftLoraConfig | None:
    """The adapter to train, if any; it starts at random, from `seed`."""
    if settings.lora is None:
        return None
    set_seed(seed)
    lora = settings.lora
    return PeftLoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )


class _LogTeller(TrainerCallback):
    """Tells each update's metrics on."""

    def __init__(self, on_log: OnLog):
        self.tell = on_log

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.tell(logs)


def _summary(log: list[dict[str, Any]]) -> dict[str, Any]:
    steps = [entry for entry in log if "loss" in entry]
    names = sorted({name for entry in steps for name in entry if name not in ("epoch", "step", "learning_rate")})
    means = {name: sum(e[name] for e in steps if name in e) / len(steps) for name in names}
    return {"updates": len(steps), "loss_first": steps[0]["loss"], "loss_last": steps[-1]["loss"], **means}
