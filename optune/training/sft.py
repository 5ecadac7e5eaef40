"""Supervised fine-tuning on TRL's SFTTrainer, and what all training on TRL's trainers here has in common."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optune.types import Message, UserError
from optune.utils.quiet import quiet_libraries

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How to train; names as in transformers' TrainingArguments where it has them.

    warmup_ratio: share of the steps. max_length: tokens of prompt and completion together; longer rows are left out and
    counted. held_out: share of the *prompts* kept from training for the reported figures. bf16: mixed precision.
    """

    learning_rate: float
    num_train_epochs: float = 1.0
    batch_size: int = 64
    warmup_ratio: float = 0.1
    lr_scheduler_type: str = "cosine"
    weight_decay: float = 0.0
    adam_beta2: float = 0.999
    max_length: int = 1024
    held_out: float = 0.02
    bf16: bool = False
    seed: int = 0


def train_sft(
    model: PreTrainedModel | str | Path,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    settings: TrainingSettings,
    out_dir: Path,
) -> dict[str, Any]:
    """Train `model` on the completions of `rows` and save it with its tokenizer as a transformers folder.

    rows: columns `prompt` (a text, taken as one user turn, or chat messages) and `completion` (a text). The loss covers
    the completion, its end token included. Returns rows used and left out, losses in nats per token on training and
    held-out rows, and seconds under `timing`.
    """
    from transformers import AutoModelForCausalLM

    from optune.utils.checkpoints import unmask_end_token

    quiet_libraries()
    if isinstance(model, str | Path):
        model = AutoModelForCausalLM.from_pretrained(model, use_safetensors=True)
    unmask_end_token(model)  # else its embedding gets no gradient where it is the padding
    train_rows, held_out_rows = hold_out(rows, settings)
    datasets = []
    for part in (train_rows, held_out_rows):
        labelled = [with_labels(*pair, tokenizer.eos_token_id) for pair in encode(tokenizer, part, "completion")]
        datasets.append(as_dataset(labelled, ["input_ids"], settings))
    trainer = sft_trainer(model, tokenizer, model_arguments(settings, out_dir), *datasets)
    return train_and_save(trainer, tokenizer, len(rows), out_dir)


def sft_trainer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, arguments: dict[str, Any], train: Any, held_out: Any
) -> Any:
    """TRL's SFTTrainer on data sets of `input_ids` and `labels`, as they are. arguments: those of SFTConfig."""
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer(
        model=model,
        args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
    )


def encode(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], column: str) -> list[tuple[list[int], list[int]]]:
    """Token ids of each row's prompt, and of its prompt with `column` as the assistant's turn, by the chat template."""
    if not tokenizer.chat_template:
        raise UserError("The tokenizer has no chat template; set tokenizer.chat_template before training.")
    prompts = [_conversation(row["prompt"]) for row in rows]
    full = [[*prompt, {"role": "assistant", "content": row[column]}] for prompt, row in zip(prompts, rows, strict=True)]
    if not rows:
        return []
    texts = [
        *tokenizer.apply_chat_template(prompts, tokenize=False, add_generation_prompt=True),
        *tokenizer.apply_chat_template(full, tokenize=False),
    ]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]  # the template has written them
    return list(zip(ids[: len(rows)], ids[len(rows) :], strict=True))


def hold_out(rows: Sequence[Row], settings: TrainingSettings) -> tuple[list[Row], list[Row]]:
    """Rows to train on, and rows of other prompts held out (at least one prompt)."""
    import numpy as np

    if not rows:
        raise UserError("There are no rows to train on.")
    prompts = list(dict.fromkeys(str(row["prompt"]) for row in rows))
    if len(prompts) < 2:
        raise UserError("Training needs rows of at least two prompts, because one is held out.")
    # By prompt, not by row: other answers to a held-out prompt would tell about it.
    order = np.random.default_rng(settings.seed).permutation(len(prompts))
    held = {prompts[i] for i in order[: max(1, round(settings.held_out * len(prompts)))]}
    return [row for row in rows if str(row["prompt"]) not in held], [row for row in rows if str(row["prompt"]) in held]


def as_dataset(rows: list[dict[str, Any]], sequence_columns: list[str], settings: TrainingSettings) -> Any:
    """The rows whose sequences all fit into `max_length` tokens, as a `datasets.Dataset`."""
    from datasets import Dataset

    fitting = []
    for row in rows:
        lengths = [len(row[column]) for column in sequence_columns]
        if max(lengths) <= settings.max_length:
            fitting.append(row)
    if not fitting:
        raise UserError(f"Each of the {len(rows)} rows is longer than max_length = {settings.max_length} tokens.")
    return Dataset.from_list(fitting)


def model_arguments(settings: TrainingSettings, out_dir: Path) -> dict[str, Any]:
    """`trainer_arguments`, and what SFT and the reward model share beyond them."""
    from optune.training.common import trainer_arguments

    return {
        **trainer_arguments(out_dir, settings.seed, settings.learning_rate, settings.warmup_ratio),
        "num_train_epochs": settings.num_train_epochs,
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": settings.batch_size,
        "lr_scheduler_type": settings.lr_scheduler_type,
        "weight_decay": settings.weight_decay,
        "adam_beta2": settings.adam_beta2,
        "max_length": settings.max_length,
        "bf16": settings.bf16,
        "gradient_checkpointing": False,
        "remove_unused_columns": False,
        "logging_strategy": "no",
    }


def train_and_save(trainer: Any, tokenizer: PreTrainedTokenizerBase, n_rows: int, out_dir: Path) -> dict[str, Any]:
    """Run a prepared trainer, measure it on its held-out rows, and save model and tokenizer (nothing else).

    Every `eval_*` figure of the trainer is returned as `held_out_*`.
    """
    from transformers import PrinterCallback

    from optune.utils.checkpoints import check_finite

    trainer.remove_callback(PrinterCallback)
    start = time.perf_counter()
    train_loss = trainer.train().training_loss
    check_finite(trainer.model)
    held_out = trainer.evaluate()
    trainer.model.save_pretrained(out_dir)
    tokenizer.save_pretrained(out_dir)
    used, held = len(trainer.train_dataset), len(trainer.eval_dataset)
    skip = ("runtime", "per_second")
    return {
        "rows": {"train": used, "held_out": held, "too_long": n_rows - used - held},
        "train_loss": train_loss,
        **{
            f"held_out_{key.removeprefix('eval_')}": value
            for key, value in held_out.items()
            if key.startswith("eval_") and not key.endswith(skip)
        },
        "timing": {"seconds": time.perf_counter() - start},
    }


def _conversation(prompt: str | Sequence[Message]) -> list[Message]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def with_labels(prompt_ids: list[int], ids: list[int], end_id: int | None) -> dict[str, list[int]]:
    """The loss covers the answer and its end token; -100 leaves out the prompt and what a template writes after it."""
    # The prompt ends where its ids and those of the conversation first differ: a template may end the two otherwise.
    start = next((i for i, (a, b) in enumerate(zip(prompt_ids, ids, strict=False)) if a != b), len(prompt_ids))
    answer = ids[start:]
    # Tokens after the last end token, such as a line break of the template.
    after = answer[::-1].index(end_id) if end_id in answer else 0
    return {"input_ids": ids, "labels": [-100] * start + answer[: len(answer) - after] + [-100] * after}
