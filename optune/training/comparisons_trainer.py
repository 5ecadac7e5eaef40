"""TRL's RewardTrainer on many comparisons of few answers: every answer of a batch goes through the model once.

All comparisons among the answers to a prompt stand side by side in the data, as in InstructGPT; with six answers and
fifteen comparisons that is a fifth of the rows. The loss is the same, to the last bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import SequentialSampler
from trl import RewardTrainer


class ComparisonsTrainer(RewardTrainer):
    """Takes its rows in their order: shuffle prompts, not rows, beforehand."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(_EachRowOnce(model), inputs, *args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)


class _EachRowOnce:
    """A model that is asked about each different row of a batch once, and answers for all of them."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: Any) -> Any:
        # rows (different rows, 2 * width); place (rows,): which of them each row of the batch is. The mask belongs to a
        # row, since the padding's id may also be a token.
        rows, place = torch.unique(torch.cat([input_ids, attention_mask], dim=1), dim=0, return_inverse=True)
        ids, mask = rows.chunk(2, dim=1)
        output = self.model(input_ids=ids, attention_mask=mask, **options)
        output.logits = output.logits[place]  # (rows, 1): the gradients of equal rows add up in the one computed
        return output
