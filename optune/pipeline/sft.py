"""`optune sft`: supervised fine-tuning on the answers of demonstrations, with TRL's SFTTrainer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import AutoModelForCausalLM

from optune.loop.checks import check_end, check_vocabulary, read_checkpoint
from optune.pipeline.rows import Demonstration, demonstration_of
from optune.pipeline.settings import SftConfig
from optune.pipeline.task import Task, check_fit, fit, fit_arguments, mixed_precision, rows_for
from optune.training.common import OnLog
from optune.training.reference import sequence_logprobs
from optune.training.sft import sft_trainer, with_labels
from optune.types import Message, UserError
from optune.utils.checkpoints import load_model, load_tokenizer
from optune.utils.quiet import quiet_libraries

UNLEARNT = -100  # label of a token that the loss does not cover


def check(config: SftConfig) -> list[str]:
    """A language model whose tokenizer and weights fit its config, and something that ends an answer."""
    check_fit(config.training)
    policy = read_checkpoint("policy", config.model, AutoModelForCausalLM, config.trust_remote_code)
    return [check_vocabulary(policy), check_end(policy, config.model, config.trust_remote_code)]


def tokenizer_of(config: SftConfig) -> Any:
    """The start model's, with the template of `chat_template` where that is given."""
    tokenizer = load_tokenizer(config.model, trust_remote_code=config.trust_remote_code)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if config.chat_template:
        tokenizer.chat_template = _template(config)
    return tokenizer


def _template(config: SftConfig) -> str:
    path = Path(config.chat_template)
    if path.suffix == ".jinja":
        if not path.is_file():
            raise UserError(f"chat_template: there is no file {path}.")
        return path.read_text("utf-8")
    template = load_tokenizer(config.chat_template, trust_remote_code=config.trust_remote_code).chat_template
    if not template:
        raise UserError(f"chat_template: {config.chat_template!r} has none itself.")
    return template


def encoder(config: SftConfig, tokenizer: Any) -> Callable[[Demonstration], dict[str, Any]]:
    """Ids and labels: of a chat every answer with its end token is learnt, of a text all of it."""

    def encode(row: Demonstration) -> dict[str, Any]:
        if row.turns and not tokenizer.chat_template:
            raise UserError(
                f"{row.where}: is a chat, and the tokenizer of {config.model!r} has no chat template to write it with; "
                "name one in chat_template (a .jinja file, or a model that has one)."
            )
        ids, labels = _labelled(tokenizer, row.turns) if row.turns else _plain(tokenizer, row.text)
        said = {"text": row.text, "turns": len(row.turns), "learnt": int(np.sum(np.not_equal(labels, UNLEARNT)))}
        arrays = {"input_ids": np.asarray(ids, np.int32), "labels": np.asarray(labels, np.int32)}
        return {**said, **arrays, "length": len(ids)}

    return encode


def _plain(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    ids = [*tokenizer(text)["input_ids"]]
    if tokenizer.eos_token_id is not None and ids[-1:] != [tokenizer.eos_token_id]:
        ids.append(tokenizer.eos_token_id)
    return ids, ids


def _labelled(tokenizer: Any, turns: tuple[Message, ...]) -> tuple[list[int], list[int]]:
    """Ids of a chat, and labels of every answer that the template writes alike in the whole and at its own place.

    Templates that shorten earlier answers (reasoning is often left out) would be taught to answer so; of those the
    last answer alone is learnt.
    """
    whole = _ids(tokenizer, turns)
    labels = [UNLEARNT] * len(whole)
    for place, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        asked = _ids(tokenizer, turns[:place], add_generation_prompt=True)
        row = with_labels(asked, _ids(tokenizer, turns[: place + 1]), tokenizer.eos_token_id)
        if whole[: len(row["input_ids"])] == row["input_ids"]:
            for position, label in enumerate(row["labels"]):
                labels[position] = label if label != UNLEARNT else labels[position]
    return whole, labels


def _ids(tokenizer: Any, turns: tuple[Message, ...], **options: Any) -> list[int]:
    text = tokenizer.apply_chat_template(list(turns), tokenize=False, **options)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def train(config: SftConfig, rows: Path, folder: Path, seed: int, on_log: OnLog | None) -> dict[str, Any]:
    """The next-token loss on the labelled tokens."""
    quiet_libraries()
    tokenizer = tokenizer_of(config)
    trust = config.trust_remote_code
    model = load_model(AutoModelForCausalLM, config.model, dtype="float32", trust_remote_code=trust)
    arguments = fit_arguments(config.training, seed, folder)
    data = rows_for(rows, ["input_ids", "labels", "length"])
    return fit(sft_trainer(model, tokenizer, arguments, data, None), tokenizer, folder, on_log)


def evaluate(config: SftConfig, model: Path, held_out: Path, folder: Path) -> dict[str, Any]:
    """Loss in nats per learnt token and perplexity on held-out rows, of the trained and of the start model."""
    table = pq.read_table(held_out)
    tokens = np.array([len(answer) for answer in _answers_of(table)])
    losses = {"": _losses(config, model, table), "start_": _losses(config, config.model, table)}
    rows, found = _per_row(table, tokens), {}
    for name, of_answers in losses.items():
        of_rows = _per_row(table, of_answers)
        mean = float(of_rows.sum() / rows.sum())
        found |= {f"{name}loss": mean, f"{name}perplexity": _perplexity(mean)}
        table = table.append_column(f"{name}loss", pa.array(of_rows / rows))
    table = table.append_column("tokens", pa.array(rows))
    pq.write_table(table.drop_columns(["input_ids", "labels"]), folder / "held_out.parquet")
    return {**found, "tokens": int(rows.sum()), "by_category": _by_category(table)}


def _by_category(table: pa.Table) -> dict[str, Any]:
    frame = table.select(["category", "loss", "tokens"]).to_pandas()
    found = {}
    for name, rows in frame[frame["category"] != ""].groupby("category"):
        mean = float((rows["loss"] * rows["tokens"]).sum() / rows["tokens"].sum())
        found[name] = {"rows": len(rows), "loss": mean, "perplexity": _perplexity(mean)}
    return found


def _perplexity(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf  # beyond, a float overflows


def _answers_of(table: pa.Table) -> Iterator[list[int]]:
    return (answer for _, _, answer in _spans(table))


def _spans(table: pa.Table) -> Iterator[tuple[int, list[int], list[int]]]:
    """(row, ids before, learnt ids) of every learnt stretch of every row; a row's first token follows nothing."""
    pairs = zip(table["input_ids"].to_pylist(), table["labels"].to_pylist(), strict=True)
    for row, (ids, labels) in enumerate(pairs):
        learnt = np.flatnonzero(np.not_equal(labels, UNLEARNT))
        for span in np.split(learnt, np.flatnonzero(np.diff(learnt) > 1) + 1):
            start, end = max(1, int(span[0])), int(span[-1]) + 1
            yield row, ids[:start], ids[start:end]


def _losses(config: SftConfig, model: str | Path, table: pa.Table) -> np.ndarray:
    """-log pi of each learnt stretch, in nats."""
    network = load_model(AutoModelForCausalLM, model, dtype="float32", trust_remote_code=config.trust_remote_code)
    rows = [(before, learnt) for _, before, learnt in _spans(table)]
    with mixed_precision(config):
        return -np.array(sequence_logprobs(network, rows, 0, 2 * config.training.micro_batch_size))


def _per_row(table: pa.Table, values: np.ndarray) -> np.ndarray:
    """Sums over the stretches of each row."""
    return np.bincount([row for row, _, _ in _spans(table)], weights=values, minlength=len(table))


TASK = Task("sft", "policy", check, tokenizer_of, demonstration_of, encoder, train, evaluate)
