"""Log-probabilities of whole responses under a fixed policy.

Training needs them of the reference (Eq. 5-6), before the first update. The KL estimate needs them of the SFT policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from trl.trainer.utils import selective_log_softmax

from optune.config import RunConfig
from optune.pairs.rows import SIDES, PreferenceRows
from optune.prompts.tokens import encode_prompts
from optune.types import Prompt, Response
from optune.utils.checkpoints import load_model

TRIED = 64  # pairs whose sampler's log-probabilities are computed again


def sequence_logprobs(
    model: PreTrainedModel, rows: Sequence[tuple[list[int], list[int]]], pad_id: int, batch_size: int
) -> list[float]:
    """log pi(y|x) for (prompt ids, response ids) rows: sums over the response's tokens, in nats, in row order."""
    lengths = [len(prompt) + len(answer) for prompt, answer in rows]
    return _logprobs(model, lengths, lambda batch: [rows[i] for i in batch], pad_id, batch_size)


@torch.no_grad()
def _logprobs(
    model: PreTrainedModel,
    lengths: Sequence[int],
    read: Callable[[list[int]], list[tuple[list[int], list[int]]]],
    pad_id: int,
    batch_size: int,
) -> list[float]:
    """`sequence_logprobs` of rows with these lengths (prompt and response); `read(places)` gives the rows of a batch.

    Batches are of similar lengths, so that little is padded; padding is on the right and masked.
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    sums = [0.0] * len(lengths)
    was_training = model.training
    model.eval()
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        width = max(lengths[i] for i in batch)
        # (batch, width) each: token ids, what is not padding, and which tokens are the response's.
        ids = torch.full((len(batch), width), pad_id)
        attention, response = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, (prompt, answer) in enumerate(read(batch)):
            end = len(prompt) + len(answer)
            ids[row, :end] = torch.tensor([*prompt, *answer])
            attention[row, :end] = 1
            response[row, len(prompt) : end] = 1
        ids, attention, response = (t.to(model.device) for t in (ids, attention, response))
        logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1]
        # A row at a time in fp32: a batch of it would not fit beside a vocabulary of 150,000.
        rows_of = zip(logits, ids[:, 1:], strict=True)
        per_token = torch.cat([selective_log_softmax(row[None].float(), i[None]) for row, i in rows_of])
        # Position j of the logits predicts token j + 1, so ids and mask are read from 1 on; (batch, width - 1) each.
        for i, total in zip(batch, (per_token * response[:, 1:]).sum(dim=1).tolist(), strict=True):
            sums[i] = total
    model.train(was_training)
    return sums


def from_sampler(
    rows: Sequence[dict[str, Any]], compute: Callable[[Sequence[dict[str, Any]]], list[dict[str, float]]]
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Reference columns, taken from the sampler where it recorded `sampled_chosen_logps` and `sampled_rejected_logps`.

    `compute` gives them for all other pairs, and for TRIED of the recorded ones, to measure how far sampler and trainer
    disagree on a response (nats). They differ because the sampler decodes token by token, perhaps in another precision.
    """
    rows = PreferenceRows.of(rows)
    names = {f"ref_{side}_logps": f"sampled_{side}_logps" for side in SIDES}
    sampled = rows.table.select(list(names.values())).to_pylist()
    known = [i for i, row in enumerate(sampled) if None not in row.values()]
    tried = known[:: max(1, len(known) // TRIED)][:TRIED]
    wanted = sorted({*range(len(rows))} - {*known} | {*tried})
    computed = dict(zip(wanted, compute(rows.select(wanted)), strict=True))
    recorded = {}
    for i in known:
        recorded[i] = {ours: sampled[i][theirs] for ours, theirs in names.items()}
    gaps = []
    for i in tried:
        gaps += [abs(computed[i][name] - recorded[i][name]) for name in names]
    counts: dict[str, Any] = {"reference_sampled": len(known), "reference_computed": len(rows) - len(known)}
    if gaps:
        counts |= {"reference_mismatch_mean": sum(gaps) / len(gaps), "reference_mismatch_max": max(gaps)}
    return [recorded.get(i) or computed[i] for i in range(len(rows))], counts


def reference_columns(
    reference: PreTrainedModel, rows: Sequence[dict[str, Any]], pad_id: int, batch_size: int
) -> list[dict[str, float]]:
    """log pi_ref(y_w|x) and log pi_ref(y_l|x) of each pair, in the columns that TRL's trainer reads."""
    rows = PreferenceRows.of(rows)
    prompts = rows.lengths("prompt_ids")
    lengths: list[int] = []
    for side in SIDES:
        lengths += [a + b for a, b in zip(prompts, rows.lengths(f"{side}_ids"), strict=True)]

    def read(places: list[int]) -> list[tuple[list[int], list[int]]]:
        """All chosen responses come before all rejected ones."""
        of_pairs = rows.select([i % len(rows) for i in places])
        sides = [f"{SIDES[i // len(rows)]}_ids" for i in places]
        return [(row["prompt_ids"], row[side]) for row, side in zip(of_pairs, sides, strict=True)]

    both = _logprobs(reference, lengths, read, pad_id, batch_size)
    pairs = zip(both[: len(rows)], both[len(rows) :], strict=True)
    return [{"ref_chosen_logps": chosen, "ref_rejected_logps": rejected} for chosen, rejected in pairs]


def log_ratios(
    config: RunConfig, reference: str, tokenizer: Any, measured: list[tuple[Prompt, Response]]
) -> list[float]:
    """log pi(y|x) - log reference(y|x) in nats, for responses drawn from pi with their log-probabilities under it.

    Their mean estimates KL(pi || reference).
    """
    ids, _ = encode_prompts(tokenizer, [prompt for prompt, _ in measured], config.prompts.max_tokens)
    remote = config.policy.trust_remote_code
    model = load_model(AutoModelForCausalLM, reference, dtype=config.generation.dtype, trust_remote_code=remote)
    rows = [(prompt, list(response.token_ids)) for prompt, (_, response) in zip(ids, measured, strict=True)]
    logprobs = sequence_logprobs(model, rows, tokenizer.pad_token_id or 0, 4 * config.training.micro_batch_size)
    return [r.logprob - logprob for (_, r), logprob in zip(measured, logprobs, strict=True)]
