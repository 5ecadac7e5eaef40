"""A reward model as the field ships them: a sequence classifier with one label, and a tokenizer with its template."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForSequenceClassification

from optune.config import RewardConfig
from optune.prompts.tokens import plain_text, templated
from optune.reward.workers import Rows
from optune.types import Prompt, Response, UserError
from optune.utils.checkpoints import load_model, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class SequenceClassifier:
    """r(x, y) of Eq. 1: the one logit of `settings.model` over prompt and response."""

    def __init__(self, settings: RewardConfig) -> None:
        self.settings = settings
        self.tokenizer = load_tokenizer(settings.model, trust_remote_code=settings.trust_remote_code)
        if settings.workers:
            from optune.reward.workers import Workers

            self.logits = Workers(settings)
        else:
            self.logits = Network(settings, self.tokenizer)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Response], seed: int) -> list[float]:
        """One reward per response. UserError for a text above `max_length` (never cut) and a reward not finite."""
        ids = self.encode(prompts, responses)
        for row, response in zip(ids, responses, strict=True):
            if len(row) > self.settings.max_length:
                raise UserError(
                    f"Prompt {response.prompt_id!r}, response {response.index}: {len(row)} tokens for the reward model "
                    f"are more than reward.max_length ({self.settings.max_length}); raise it."
                )
        scores = [0.0] * len(ids)
        batches = list(batches_of(ids, self.settings.batch_size))
        rows = []
        for batch in batches:
            rows.append([ids[i] for i in batch])
        logits = self.logits(rows)  # per batch one logit a row
        # Batches are in order of length; each logit goes back to the place of its response.
        for batch, values in zip(batches, logits, strict=True):
            for i, value in zip(batch, values, strict=True):
                scores[i] = value
        for value, response in zip(scores, responses, strict=True):
            if not math.isfinite(value):
                raise UserError(f"Prompt {response.prompt_id!r}, response {response.index}: the reward is {value}.")
        return scores

    def encode(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> Rows:
        """`encode_rows` with the model's own tokenizer."""
        return encode_rows(self.tokenizer, prompts, responses)


def encode_rows(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], responses: Sequence[Response]) -> Rows:
    """Token ids as the reward model sees them: its own chat template, or plain concatenation if it has none."""
    pairs = list(zip(prompts, responses, strict=True))
    if not pairs:
        return []
    has_template = bool(tokenizer.chat_template)
    if has_template:
        chats = [[*p.chat, {"role": "assistant", "content": r.text}] for p, r in pairs]
        texts = templated(tokenizer, chats, prompts, opens_answer=False)
    else:
        texts = [plain_text(p, "the reward model") + r.text for p, r in pairs]
    return tokenizer(texts, add_special_tokens=not has_template)["input_ids"]


class Network:
    """The model alone, on this process's device: batches of rows in, the logit of each row out."""

    def __init__(self, settings: RewardConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = load_model(
            AutoModelForSequenceClassification,
            settings.model,
            dtype=settings.dtype,
            trust_remote_code=settings.trust_remote_code,
        )
        labels = self.model.config.num_labels
        if labels != 1:
            raise UserError(f"The reward model {str(settings.model)!r} has {labels} labels; a reward model has one.")
        rows = self.model.get_input_embeddings().weight.shape[0]
        # The model reads its score at a row's last token that is not padding, so model and `_forward` must pad with the
        # same id. Rows end with the end token, so that one must not be the padding, or it would be skipped.
        if self.model.config.pad_token_id is None:
            known = (tokenizer.pad_token_id, tokenizer.unk_token_id, 0, 1)
            usable = (i for i in known if i is not None and i != tokenizer.eos_token_id and i < rows)
            self.model.config.pad_token_id = next(usable)

    def __call__(self, batches: Iterable[Rows]) -> Iterator[list[float]]:
        return map(self._forward, batches)

    @torch.inference_mode()
    def _forward(self, rows: Rows) -> list[float]:
        """The logit of each row, padded on the right."""
        width = max(map(len, rows))
        pad = self.model.config.pad_token_id
        # (rows, width) each; the logits are (rows, 1).
        inputs = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=self.model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self.model.device)
        return self.model(inputs, attention_mask=mask).logits[:, 0].float().tolist()


def batches_of(ids: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Places in `ids`, longest first, in batches of at most as many padded tokens as `size` rows of the longest."""
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]), reverse=True)
    start = 0
    while start < len(order):
        # Where rows are shorter, more of them fit into as many tokens.
        rows = size * len(ids[order[0]]) // len(ids[order[start]])
        yield order[start : start + rows]
        start += rows
