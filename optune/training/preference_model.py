"""A pairwise preference model: a language model that reads a prompt and two answers and says which one is better.

RLHF Workflow's: trained with the usual next-token loss to say A or B, the order of the two answers drawn at random; the
probability that the first is preferred is p_A / (p_A + p_B). Here the conversation is the prompt and both answers as
turns of the chat template, and the two verdicts are given words of the tokenizer's vocabulary, each one token long.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optune.training.sft import Row, TrainingSettings, train_sft
from optune.types import Message, UserError
from optune.utils.hashing import stable_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERDICTS = ("first", "second")  # A and B, in words that the sandbox's vocabulary has


def conversation(prompt: str, first: str, second: str) -> list[Message]:
    """What the model is asked: the prompt and both answers."""
    answers = [{"role": "assistant", "content": text} for text in (first, second)]
    return [{"role": "user", "content": prompt}, *answers]


def in_random_order(row: Row, seed: int) -> tuple[str, str, bool]:
    """The two answers of a preference in a random order fixed by `seed`, and whether the chosen one comes first."""
    if stable_seed("order", seed, row["prompt"], *sorted((row["chosen"], row["rejected"]))) % 2:
        return row["chosen"], row["rejected"], True
    return row["rejected"], row["chosen"], False


def train_preference_model(
    base: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    preference_rows: Sequence[Row],
    settings: TrainingSettings,
    out_dir: Path,
) -> dict[str, Any]:
    """Train from `base` on preferences (`prompt`, `chosen`, `rejected`, texts); returns what `train_sft` does."""
    rows = []
    for row in preference_rows:
        first, second, chosen_first = in_random_order(row, settings.seed)
        rows.append({"prompt": conversation(row["prompt"], first, second), "completion": VERDICTS[not chosen_first]})
    return train_sft(base, tokenizer, rows, settings, out_dir)


def prefers_first(model: str | Path, rows: Sequence[tuple[str, str, str]], batch_size: int = 256) -> list[float]:
    """p_A / (p_A + p_B) for each (prompt, first answer, second answer). UserError where a verdict is not one token."""
    import torch
    from transformers import AutoModelForCausalLM

    from optune.utils.checkpoints import load_model, load_tokenizer

    tokenizer = load_tokenizer(model)
    verdicts = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in VERDICTS]
    if any(len(ids) != 1 for ids in verdicts) or tokenizer.unk_token_id in (ids[0] for ids in verdicts):
        raise UserError(f"{model}: {' and '.join(VERDICTS)} are not one token each, so that no verdict can be read.")
    network = load_model(AutoModelForCausalLM, model, dtype="float32")
    texts = tokenizer.apply_chat_template(
        [conversation(*row) for row in rows], tokenize=False, add_generation_prompt=True
    )
    probabilities: list[float] = []
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(
            texts[start : start + batch_size],
            add_special_tokens=False,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        ).to(network.device)
        with torch.inference_mode():  # padding is on the left, so positions count from the first real token
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
            positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
            logits = network(**inputs, position_ids=positions).logits[:, -1].float()  # (rows, vocabulary)
        # A softmax over the two verdicts alone, (rows, 2); column 0 is p_A.
        probabilities += logits[:, [ids[0] for ids in verdicts]].softmax(-1)[:, 0].tolist()
    return probabilities
