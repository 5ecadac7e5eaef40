"""Models that say which of two responses is better, A or B, as rewards: sequence-to-sequence ones and language models.

SteamSHP (Ethayarajh et al. 2022) is one of the former, RLHF Workflow's preference model one of the latter. A reward has
to be comparable between prompts and iterations, since prompts are ranked by it; so each response is compared with one
fixed text, as SteamSHP's authors advise for scoring a single response, and the reward is the log-odds of A against B.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from optune.reward.sequence_classifier import batches_of
from optune.types import Prompt, Response, UserError
from optune.utils.checkpoints import UNREADABLE, load_model, load_tokenizer

TEMPLATES = {  # the texts that these models were trained on
    "steamshp": "POST: {prompt}\n\n RESPONSE A: {a}\n\n RESPONSE B: {b}\n\n Which response is better? RESPONSE",
    "rlhf_workflow": "[CONTEXT] {prompt} [RESPONSE A] {a} [RESPONSE B] {b}",
}
VERDICTS = ("A", "B")
OPPONENT = "."  # what every response is compared with
_PLACE = re.compile(r"\{(prompt|a|b)\}")


class Preference:
    """Log-odds that `settings.model` prefers the response to `OPPONENT`, the mean over both orders of the two.

    In the mean a liking for either place cancels out. `settings.template` names one of `TEMPLATES` or is a text with
    `{prompt}`, `{a}` and `{b}`; by default SteamSHP's for a sequence-to-sequence model, RLHF Workflow's for others.
    """

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        trust = settings.trust_remote_code
        self.tokenizer = load_tokenizer(settings.model, trust_remote_code=trust)
        try:
            config = AutoConfig.from_pretrained(settings.model, trust_remote_code=trust)
        except UNREADABLE as error:
            raise UserError(f"The configuration of {str(settings.model)!r} cannot be read: {error}") from error
        self.encoder_decoder = bool(config.is_encoder_decoder)
        auto = AutoModelForSeq2SeqLM if self.encoder_decoder else AutoModelForCausalLM
        self.model = load_model(auto, settings.model, dtype=settings.dtype, trust_remote_code=trust)
        default = "steamshp" if self.encoder_decoder else "rlhf_workflow"
        self.template = template_of(settings.template or default)
        self.verdicts = self._verdict_ids()

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Response], seed: int) -> list[float]:
        """One reward per response. UserError for a text above `max_length` (never cut) and a reward not finite."""
        names = [f"Prompt {r.prompt_id!r}, response {r.index}" for r in responses]
        pairs = [(_said(p), r.text, OPPONENT) for p, r in zip(prompts, responses, strict=True)]
        return self.log_odds(pairs, names)

    def log_odds(self, rows: Sequence[tuple[str, str, str]], names: Sequence[str] | None = None) -> list[float]:
        """log p / (1 - p) that the first of two responses is preferred, over both orders, per (prompt, first, second).

        names: what an error calls each row.
        """
        names = names or [f"Row {number}" for number in range(1, len(rows) + 1)]
        shown = []
        for prompt, first, second in rows:
            shown += [_filled(self.template, prompt, first, second), _filled(self.template, prompt, second, first)]
        ids = self._encode(shown)
        for place, row in enumerate(ids):
            if len(row) > self.settings.max_length:
                raise UserError(
                    f"{names[place // 2]}: {len(row)} tokens for the preference model are more than reward.max_length "
                    f"({self.settings.max_length}); raise it."
                )
        per_order = [0.0] * len(ids)  # log-odds of the text shown as A: 2i in the order given, 2i + 1 in the other
        for batch in batches_of(ids, self.settings.batch_size):
            for place, value in zip(batch, self._forward([ids[i] for i in batch]), strict=True):
                per_order[place] = value
        # In the other order the second text is A, so its log-odds count against the first.
        means = [(per_order[i] - per_order[i + 1]) / 2 for i in range(0, len(per_order), 2)]
        for value, name in zip(means, names, strict=True):
            if not math.isfinite(value):
                raise UserError(f"{name}: the reward is {value}.")
        return means

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids: with the encoder's end token, or as a user's turn of a language model's chat template."""
        if not texts:
            return []
        templated = bool(self.tokenizer.chat_template) and not self.encoder_decoder
        if templated:
            chats = [[{"role": "user", "content": text}] for text in texts]
            texts = self.tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        return self.tokenizer(list(texts), add_special_tokens=not templated)["input_ids"]

    @torch.inference_mode()
    def _forward(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """logit of A minus logit of B, per row, where the model begins to answer."""
        width = max(map(len, rows))
        pad = self.tokenizer.pad_token_id or 0
        device = self.model.device
        # (rows, width) each, padded on the right.
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        if self.encoder_decoder:
            # The decoder's first position, where the verdict is the next token: logits (rows, vocabulary).
            start = torch.full((len(rows), 1), self.model.config.decoder_start_token_id, device=device)
            logits = self.model(input_ids=ids, attention_mask=mask, decoder_input_ids=start).logits[:, 0]
        else:
            last = mask.sum(1) - 1  # (rows,): the place of each row's last token, whose logits predict the verdict
            logits = self.model(input_ids=ids, attention_mask=mask).logits[torch.arange(len(rows)), last]
        a, b = self.verdicts
        return (logits[:, a].float() - logits[:, b].float()).tolist()

    def _verdict_ids(self) -> tuple[int, int]:
        """The token ids of A and B. Raises UserError where they are not one known token each."""
        ids = [self.tokenizer(word, add_special_tokens=False)["input_ids"] for word in VERDICTS]
        if any(len(row) != 1 or row[0] == self.tokenizer.unk_token_id for row in ids):
            raise UserError(
                f"The tokenizer of {str(self.settings.model)!r} has no single token for each of A and B, so that no "
                "verdict can be read; give a model that answers with these letters."
            )
        return ids[0][0], ids[1][0]


def template_of(given: str) -> str:
    """The template of this name, or the text itself. Raises UserError where a place is missing."""
    text = TEMPLATES.get(given, given)
    missing = [f"{{{name}}}" for name in ("prompt", "a", "b") if f"{{{name}}}" not in text]
    if missing:
        known = ", ".join(TEMPLATES)
        raise UserError(
            f"reward.template is neither one of {known} nor a text with {{prompt}}, {{a}} and {{b}}: it lacks "
            f"{missing[0]}."
        )
    return text


def _filled(template: str, prompt: str, a: str, b: str) -> str:
    """The template with the texts as they are, braces and all."""
    texts = {"prompt": prompt, "a": a, "b": b}
    return _PLACE.sub(lambda match: texts[match[1]], template)


def _said(prompt: Prompt) -> str:
    """A prompt of one turn as it is; a conversation with the speaker before each turn."""
    if len(prompt.chat) == 1:
        return prompt.text
    return "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in prompt.chat)
