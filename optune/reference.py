"""Log-probabilities of whole responses under a policy: the reference's, before the first update (Eq. 5-6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel
from trl.trainer.utils import selective_log_softmax


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


def reference_columns(
    reference: PreTrainedModel, rows: Sequence[dict[str, Any]], pad_id: int, batch_size: int
) -> list[dict[str, float]]:
    """log pi_ref(y_w|x) and log pi_ref(y_l|x) of each pair, in the columns that TRL's trainer reads."""
    sides = [[(row["prompt_ids"], row[f"{side}_ids"]) for row in rows] for side in ("chosen", "rejected")]
    both = sequence_logprobs(reference, [*sides[0], *sides[1]], pad_id, batch_size)
    pairs = zip(both[: len(rows)], both[len(rows) :], strict=True)
    return [{"ref_chosen_logps": chosen, "ref_rejected_logps": rejected} for chosen, rejected in pairs]
