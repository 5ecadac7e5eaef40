"""How likely an answer is as language: nats per token under the frozen start policy, asked for the task alone.

The constraints are not shown to the model, and what they leave of an answer's form is taken off first (marks, lists,
one case), so that an answer in capital letters is as fluent as the same words in ordinary ones.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from optune.instructions.prompts import read

DIGITS = 3
"""Nats are rounded, so that another machine's last bits do not reach a score."""
EMPTY = 99.0
"""Nats of an answer without a token."""
_MARKS = re.compile(r"[*<>\"“”]|^\s*(?:-|\d{1,3}[.)])\s+", re.MULTILINE)
_STARTS = re.compile(r"(^|[.!?]\s+|\n\s*)([a-z])")


class Fluency:
    """The start policy in `folder`, loaded once. Answers are scored in float32, `batch_size` at a time."""

    def __init__(self, folder: str | Path, batch_size: int = 32) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()
        self.batch_size = batch_size
        self._known: dict[tuple[str, str], float] = {}

    def nats(self, prompt_texts: Sequence[str], answers: Sequence[str]) -> list[float]:
        """Nats per token of each answer to the prompt at its place; each pair is computed once."""
        pairs = [(read(p).sentence, plain(a)) for p, a in zip(prompt_texts, answers, strict=True)]
        new = sorted({pair for pair in pairs if pair not in self._known}, key=lambda pair: len(pair[1]))
        for start in range(0, len(new), self.batch_size):
            batch = new[start : start + self.batch_size]
            self._known |= dict(zip(batch, self._scored(batch), strict=True))
        return [self._known[pair] for pair in pairs]

    @torch.inference_mode()
    def _scored(self, batch: Sequence[tuple[str, str]]) -> list[float]:
        tasks = [f"{task}\n\n" for task, _ in batch]
        asked, answered = (self._ids(texts) for texts in (tasks, [answer for _, answer in batch]))
        rows = [a + b for a, b in zip(asked, answered, strict=True)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        hidden = self.model.model(ids, attention_mask=mask).last_hidden_state
        found = []
        for state, before, answer in zip(hidden, asked, answered, strict=True):
            if not answer:
                found.append(EMPTY)
                continue
            logits = self.model.lm_head(state[len(before) - 1 : len(before) + len(answer) - 1])
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(answer))
            found.append(round(loss.item(), DIGITS))
        return found

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]


@functools.cache
def shared(folder: Path) -> Fluency:
    """One `Fluency` of a folder for the whole process: what one part has scored is known to the others."""
    return Fluency(folder)


def plain(answer: str) -> str:
    """An answer without marks, list signs and a case of its own."""
    text = _MARKS.sub("", answer).strip()
    if text.isupper() or text.islower():
        text = _STARTS.sub(lambda match: match[1] + match[2].upper(), text.lower())
    return text
