"""Log-probabilities of pairs. Each prompt is computed once, and logits only for response tokens.

A pair is one row, `prompt | chosen | rejected`, in which the rejected response does not see the chosen one and both
have the positions that they would have alone. Models that cannot take such a row (anything but plain attention with
positions told apart from places) are found by `shares_prompts`; their pairs take two rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from trl.trainer.utils import FusedCausalLMOutput, add_fused_lm_head

from optune.pairs.rows import PreferenceRows
from optune.training.micro_batches import micro_batches
from optune.training.reference import sequence_logprobs

IGNORED = -100  # the label of a position that predicts no response token
PARTS = ("prompt_ids", "chosen_ids", "rejected_ids")
PROMPT, CHOSEN, REJECTED, PADDING = range(4)
OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1")
# A logit transformation that only TRL's head knows; see `trl.trainer.utils.add_fused_lm_head`.
TRANSFORMED = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")
CHUNK = 256  # tokens whose logits are in memory at once; fewer would turn the head's weights around more often


def place(row: dict[str, Any], shared: bool) -> tuple[int, int]:
    """Positions that a pair takes (its width) and fills, in one row or in two."""
    return _place(*(len(row[name]) for name in PARTS), shared)


def places(rows: PreferenceRows, shared: bool) -> list[tuple[int, int]]:
    """`place` of every row."""
    return [_place(*lengths, shared) for lengths in zip(*map(rows.lengths, PARTS), strict=True)]


def _place(prompt: int, chosen: int, rejected: int, shared: bool) -> tuple[int, int]:
    if shared:
        return (prompt - 1 + chosen + rejected,) * 2
    return 2 * (prompt - 1 + max(chosen, rejected)), 2 * (prompt - 1) + chosen + rejected


def pack(rows: Sequence[dict[str, Any]], pad_id: int, shared: bool) -> dict[str, Tensor]:
    """`input_ids`, `labels` (the next token, or IGNORED), `position_ids` and `part`, each (rows, width), int64.

    Shared: one row per pair. Otherwise two: first the rows of all chosen responses, then those of all rejected ones.
    The last token of a response is no input, because nothing is predicted from it. The last token of the prompt
    predicts the first token of both responses, so a shared row holds it twice.

    Prompt p q, chosen a b, rejected c d, shared:
        input_ids     p  q  a  q  c
        labels        -  a  b  c  d
        position_ids  0  1  2  1  2
        part          P  C  C  R  R
    """
    if shared:
        packed = [_row(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) for row in rows]
    else:
        packed = [_row(row["prompt_ids"], row["chosen_ids"]) for row in rows]
        packed += [_row(row["prompt_ids"], (), row["rejected_ids"]) for row in rows]
    width = max(len(ids) for ids, *_ in packed)
    fills = {"input_ids": pad_id, "labels": IGNORED, "position_ids": 0, "part": PADDING}
    tensors = {}
    for (name, fill), rows_of in zip(fills.items(), zip(*packed, strict=True), strict=True):
        tensors[name] = torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows_of])  # padded on the right
    return tensors


def _row(prompt: Sequence[int], chosen: Sequence[int], rejected: Sequence[int] = ()) -> tuple[list[int], ...]:
    """One row of `pack` before padding: input ids, labels, positions and parts."""
    ids, before = list(prompt[:-1]), len(prompt) - 1
    labels, places, parts = [IGNORED] * before, list(range(before)), [PROMPT] * before
    for part, answer in ((CHOSEN, chosen), (REJECTED, rejected)):
        if answer:
            ids += [prompt[-1], *answer[:-1]]
            labels += answer
            places += range(before, before + len(answer))
            parts += [part] * len(answer)
    return ids, labels, places, parts


@dataclass
class PairLogprobs:
    """The result of a forward pass over n pairs.

    chosen_logps, rejected_logps: (n,), log pi(y|x) in nats. chosen, rejected: (rows, width), bool. output: the fused
    head's OUTPUTS, (rows, width) each.
    """

    chosen_logps: Tensor
    rejected_logps: Tensor
    chosen: Tensor  # which positions predict a token of the chosen response
    rejected: Tensor
    output: Any


def pair_logprobs(model: Any, packed: dict[str, Tensor]) -> PairLogprobs:
    """Forward pass of a model with `add_pair_head`, possibly wrapped for several processes."""
    part = packed["part"]
    chosen, rejected = part == CHOSEN, part == REJECTED
    shared = bool((chosen.any(1) & rejected.any(1)).any())
    output = model(
        input_ids=packed["input_ids"],
        attention_mask=_attention(part) if shared else (part != PADDING).long(),
        position_ids=packed["position_ids"],
        shift_labels=packed["labels"],
        fused_lm_head=True,
        use_cache=False,
    )
    sums = [(output.log_probs * mask).sum(1) for mask in (chosen, rejected)]
    if not shared:
        half = len(part) // 2
        sums = [sums[0][:half], sums[1][half:]]
    return PairLogprobs(*sums, chosen, rejected, output)


def _attention(part: Tensor) -> Tensor:
    """The attention mask of shared rows, (rows, 1, query, key), bool.

    A position sees the earlier positions of the prompt and of its own part, so the rejected response never sees the
    chosen one. Padding sees the prompt and itself: a query without any key would give NaN.
    """
    width = part.size(1)
    before = torch.ones(width, width, dtype=torch.bool, device=part.device).tril()
    own = part[:, :, None] == part[:, None, :]  # (rows, query, key): both of one part
    return ((own | (part == PROMPT)[:, None, :]) & before)[:, None]


def add_pair_head(model: PreTrainedModel) -> None:
    """Let `model(..., shift_labels=..., fused_lm_head=True)` compute logits only where a response token is predicted.

    TRL's fused head does so on a GPU, but computes every position on a CPU; there this head takes its place. TRL's
    stays in use for models that transform their logits, or whose head is more than a matrix.
    """
    add_fused_lm_head(model, outputs=OUTPUTS)
    fused, config, head = model.forward, model.config.get_text_config(), model.get_output_embeddings()
    transformed = any(getattr(config, name, None) is not None for name in TRANSFORMED)
    plain = type(head) is torch.nn.Linear and head.bias is None and not transformed

    def forward(self: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
        labels = kwargs.get("shift_labels")
        if labels is None or not kwargs.get("fused_lm_head") or not plain or labels.device.type != "cpu":
            return fused(*args, **kwargs)
        kept = labels != IGNORED
        inputs = {name: value for name, value in kwargs.items() if name not in ("shift_labels", "fused_lm_head")}
        hidden = self.base_model(*args, **inputs).last_hidden_state
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype
        of_tokens = _TokenLogprobs.apply(hidden[kept].to(dtype), head.weight.to(dtype), labels[kept])
        values = {}
        for name, value in zip(OUTPUTS, of_tokens, strict=True):
            values[name] = value.new_zeros(kept.shape).masked_scatter(kept, value)  # 0 where no response is predicted
        return FusedCausalLMOutput(**values)

    model.forward = MethodType(forward, model)


class _TokenLogprobs(torch.autograd.Function):
    """OUTPUTS, (tokens,) each, of hidden states (tokens, size), the head's weight (vocabulary, size), labels (tokens,).

    Only the log-probabilities have a gradient. Logits are made CHUNK tokens at a time, in fp32, and made again on the
    way back: all of them at once would be the largest tensor of training, and slow to walk through. Their gradient is
    held whole, in the precision of the products: summing the weight's gradient chunk by chunk would need fp32 sums,
    which for SmolLM2 are as large (113 MB; the gradient of 16 pairs of 40 tokens a response is 126 MB in bf16).
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        chunks = []
        with torch.autocast(hidden.device.type, enabled=False):
            for states, targets in zip(hidden.split(CHUNK), labels.split(CHUNK), strict=True):
                logits = (states @ weight.T).float()  # (chunk, vocabulary)
                total = torch.logsumexp(logits, dim=-1)
                target = logits.gather(-1, targets[:, None])[:, 0]
                probabilities = torch.exp(logits - total[:, None])
                entropy = total - torch.linalg.vecdot(probabilities, logits)  # -sum p log p: log p = logits - total
                chunks.append((total, target - total, entropy, logits.mean(-1), logits.argmax(-1) == targets))
        total, logprob, entropy, mean, top = map(torch.cat, zip(*chunks, strict=True))
        ctx.save_for_backward(hidden, weight, labels, total)
        ctx.mark_non_differentiable(entropy, mean, top)
        return logprob, entropy, mean, top

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor, None]:
        hidden, weight, labels, total = ctx.saved_tensors
        of_logits = hidden.new_empty(len(hidden), len(weight))  # in the precision of the products
        parts = (hidden, labels, total, gradient, of_logits)
        for states, targets, totals, of_tokens, out in zip(*(part.split(CHUNK) for part in parts), strict=True):
            # d log p(label) / d logits = one_hot(label) - softmax(logits)
            of_chunk = torch.exp_((states @ weight.T).float() - totals[:, None]) * -of_tokens[:, None]
            of_chunk.scatter_add_(-1, targets[:, None], of_tokens[:, None])
            out.copy_(of_chunk)
        return of_logits @ weight, of_logits.T @ hidden, None


@torch.no_grad()
def pair_reference_columns(
    reference: PreTrainedModel, rows: Sequence[dict[str, Any]], pad_id: int, shared: bool, **limits: int | None
) -> list[dict[str, float]]:
    """`reference.reference_columns` by the same forward pass as training; `limits` are those of `micro_batches`."""
    rows = PreferenceRows.of(rows)
    taken = places(rows, shared)
    columns: list[dict[str, float]] = [{}] * len(rows)
    for batch in micro_batches([width for width, _ in taken], [size for _, size in taken], **limits):
        packed = pack(list(rows.select(batch)), pad_id, shared)
        logprobs = pair_logprobs(reference, {name: value.to(reference.device) for name, value in packed.items()})
        of_pairs = zip(batch, logprobs.chosen_logps.tolist(), logprobs.rejected_logps.tolist(), strict=True)
        for i, chosen, rejected in of_pairs:
            columns[i] = {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
    return columns


@torch.no_grad()
def shares_prompts(model: PreTrainedModel, rows: Sequence[dict[str, Any]], pad_id: int) -> bool:
    """Whether a pair in one row gets the log-probabilities that it has in two; tried on the shortest and longest pair.

    False for models that cannot mask freely (recurrent ones, a sliding window shorter than the row, an attention
    kernel without masks), and where a prompt is empty. It is tried in the precision of the weights: in 16 bits,
    rounding may differ by more than a wrong mask would.
    """
    with torch.autocast(model.device.type, enabled=False):
        return _shares_prompts(model, rows, pad_id)


def _shares_prompts(model: PreTrainedModel, rows: Sequence[dict[str, Any]], pad_id: int) -> bool:
    rows = PreferenceRows.of(rows)
    if model.config.get_text_config()._attn_implementation != "sdpa" or 0 in rows.lengths("prompt_ids"):
        return False
    taken = places(rows, True)
    by_size = sorted(range(len(rows)), key=lambda i: taken[i])
    tried = [rows[by_size[0]], rows[by_size[-1]]]
    alone = [(row["prompt_ids"], row["chosen_ids"]) for row in tried]
    alone += [(row["prompt_ids"], row["rejected_ids"]) for row in tried]
    expected = torch.tensor(sequence_logprobs(model, alone, pad_id, 1))
    packed = {name: value.to(model.device) for name, value in pack(tried, pad_id, shared=True).items()}
    try:
        logprobs = pair_logprobs(model, packed)
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError):
        return False
    in_one_row = torch.cat([logprobs.chosen_logps, logprobs.rejected_logps]).cpu().float()
    return bool(torch.allclose(in_one_row, expected, rtol=1e-4, atol=1e-2))
