"""Bradley-Terry reward models (Eq. 1) on TRL's RewardTrainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optune.training.sft import Row, TrainingSettings, as_dataset, encode, hold_out, model_arguments, train_and_save
from optune.utils.quiet import quiet_libraries

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def train_reward_model(
    base: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    preference_rows: Sequence[Row],
    settings: TrainingSettings,
    out_dir: Path,
    *,
    prepare: Callable[[PreTrainedModel], None] | None = None,
    each_answer_once: bool = False,
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """Train a sequence classifier with one output on preferences, by the loss -log sigmoid(r(x, y_w) - r(x, y_l)).

    base: folder or hub name of the model to start from (a causal language model gets a fresh head). preference_rows:
    columns `prompt` (text or chat messages), `chosen`, `rejected` (texts). Saves model and tokenizer as a transformers
    folder. Returns rows used and left out, `held_out_accuracy` (share of held-out rows whose chosen response gets the
    higher reward), losses, and seconds under `timing`.

    prepare: changes the fresh model in place before it is trained. each_answer_once: rows are taken in their order, and
    answers that the rows of a batch have in common are computed once; give a prompt's rows one after the other, and the
    prompts in an order that is already random. callbacks: of the trainer.
    """
    quiet_libraries()
    model = load_classifier(base, settings.seed)
    if prepare:
        prepare(model)
    datasets = [
        as_dataset(_pairs(tokenizer, rows), ["chosen_ids", "rejected_ids"], settings)
        for rows in hold_out(preference_rows, settings)
    ]
    trainer = reward_trainer(model, tokenizer, model_arguments(settings, out_dir), *datasets, each_answer_once)
    for callback in callbacks:
        trainer.add_callback(callback)
    return train_and_save(trainer, tokenizer, len(preference_rows), out_dir)


def load_classifier(base: str | Path, seed: int, **options: Any) -> PreTrainedModel:
    """A sequence classifier with one output from `base`; a causal language model gets a fresh head, drawn by `seed`.

    options: of `from_pretrained`.
    """
    from transformers import AutoModelForSequenceClassification, set_seed
    from trl.trainer.reward_trainer import suppress_seqcls_warning

    from optune.utils.checkpoints import unmask_end_token

    set_seed(seed)
    with suppress_seqcls_warning():
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, use_safetensors=True, **options)
    unmask_end_token(model)
    return model


def reward_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    arguments: dict[str, Any],
    train: Any,
    held_out: Any,
    each_answer_once: bool = False,
) -> Any:
    """TRL's RewardTrainer on data sets of `chosen_ids` and `rejected_ids`. arguments: those of RewardConfig."""
    from trl import RewardConfig, RewardTrainer

    trainer_class = RewardTrainer
    if each_answer_once:
        from optune.training.comparisons_trainer import ComparisonsTrainer as trainer_class
    return trainer_class(
        model=model,
        args=RewardConfig(**arguments),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
    )


def _pairs(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> list[dict[str, list[int]]]:
    chosen, rejected = (encode(tokenizer, rows, column) for column in ("chosen", "rejected"))
    return [{"chosen_ids": c, "rejected_ids": r} for (_, c), (_, r) in zip(chosen, rejected, strict=True)]
