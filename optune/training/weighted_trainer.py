"""TRL's DPOTrainer with a loss from `losses.py`, and with reference log-probabilities as columns of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from optune.pairs.rows import SCORES
from optune.training.losses import LOSSES, wdpo_weight
from optune.types import UserError
from optune.utils.registry import resolve

REFERENCES = ("ref_chosen_logps", "ref_rejected_logps")
COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids", *REFERENCES, *SCORES)
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
    """Wraps a model and keeps its last output, so that TRL's metrics and our loss share one forward pass."""

    def __init__(self, model: PreTrainedModel):
        self.model = model

    def __call__(self, **inputs: Any) -> Any:
        self.output = self.model(**inputs)
        return self.output


class WeightedDPOTrainer(DPOTrainer):
    """TRL's DPOTrainer with Eq. 6 in the place of its loss; every metric of TRL's keeps its name.

    Data sets, `eval_dataset` too, have `COLUMNS`: `prompt_ids`, `chosen_ids`, `rejected_ids` (the sampled ids as they
    are, never cut), the reference's log-probabilities and both rewards; `optune.preference_dataset` makes one of texts.
    `args.beta` is beta_1. With weight 1 (`dpo`) it is bit for bit TRL's own trainer. Raises UserError for options of
    TRL's loss that it would silently drop, for missing columns, and when a loss is not finite.
    """

    def __init__(self, *args: Any, loss: str = "wdpo", beta_2: float = 1.0, **kwargs: Any):
        for name in ("args", "processing_class"):
            if kwargs.get(name) is None:
                raise UserError(
                    f"WeightedDPOTrainer needs {name}=...: a DPOConfig as args, a tokenizer as processing_class."
                )
        config: DPOConfig = kwargs["args"]
        for name, value in UNSUPPORTED.items():
            if getattr(config, name) != value:
                raise UserError(f"WeightedDPOTrainer does not support {name}={getattr(config, name)!r}; leave it out.")
        config.precompute_ref_log_probs = True  # no second model; `_precompute_ref_logps` keeps the columns given
        self.pair_loss = partial(resolve(LOSSES, loss, "loss"), beta=config.beta, beta_2=beta_2)
        self.beta_2 = beta_2
        self.whole_update = getattr(self.pair_loss.func, "reads_whole_update", False)
        if kwargs.get("data_collator") is None:
            tokenizer = kwargs["processing_class"]
            pad_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
            kwargs["data_collator"] = ScoreCollator(pad_token_id=pad_id)
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        missing = [name for name in COLUMNS if name not in (dataset.column_names or COLUMNS)]
        if missing:
            raise UserError(
                f"WeightedDPOTrainer: the data set has no {', '.join(missing)}; optune.preference_dataset makes these "
                "columns of prompt, chosen, rejected and their scores."
            )
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = list(dict.fromkeys([*self._signature_columns, *SCORES]))

    def get_batch_samples(self, *args: Any) -> Any:
        """TRL's micro-batches of an update; the rewards of all its pairs are kept, (pairs,) each, for their weights."""
        batches, items = super().get_batch_samples(*args)
        if batches and SCORES[0] in batches[0]:
            self.update_scores = []
            for name in SCORES:
                self.update_scores.append(torch.cat([batch[name] for batch in batches]))
        return batches, items

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        scores = [inputs.pop(name) for name in SCORES]  # a key the model does not know would pass silently
        recorder = _Recorder(model)
        super()._compute_loss(recorder, inputs, return_outputs=False)  # TRL's metrics; its loss is not used
        length = inputs["completion_mask"].size(1) - 1
        # (2 * pairs, length) log-probabilities of the response tokens, 0 elsewhere; TRL stacks chosen above rejected.
        policy_logps = recorder.output.log_probs[:, -length:].sum(dim=1).chunk(2)
        training = self.model.training
        read = self.update_scores if training and self.whole_update else scores
        # policy_logps, references and rewards are (pairs,) each, and so are the losses.
        losses = self.pair_loss(*policy_logps, inputs["ref_chosen_logps"], inputs["ref_rejected_logps"], *read)
        loss = losses.mean()
        if training and (share := self._share(len(losses))) != 1:
            loss = loss * share
        if not torch.isfinite(loss):
            raise UserError("The loss is not finite: training stopped, and nothing of it is saved. Lower the rate.")
        mode = "train" if training else "eval"
        weight = wdpo_weight(*scores, self.beta_2).mean()
        self._metrics[mode]["weights/mean"].append(self.accelerator.gather(weight).mean().item())
        return (loss, recorder.output) if return_outputs else loss

    def _share(self, pairs: int) -> float:
        """A micro-batch's pairs divided by their mean over its update's micro-batches; 1 where all are full."""
        return pairs * self.current_gradient_accumulation_steps / len(self.update_scores[0])

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As TRL's, once per update; a gradient that is not finite stops training, as a loss does."""
        if not math.isfinite(logs.get("grad_norm", 0.0)):
            raise UserError("The gradient is not finite: training stopped, and nothing of it is saved. Lower the rate.")
        super().log(logs, *args, **kwargs)
