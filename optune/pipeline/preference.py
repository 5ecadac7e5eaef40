"""`optune preference`: offline DPO or wDPO (Eq. 5 and 6) on preferences that are there, by a run's own trainer."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from transformers import AutoModelForCausalLM

from optune.loop.checks import check_end, check_vocabulary, read_checkpoint
from optune.pairs.offline import tokenised
from optune.pairs.rows import SCORES, SIDES, PreferenceRows
from optune.pipeline.measures import preference_measures
from optune.pipeline.rows import Preference, as_stored, preference_of
from optune.pipeline.settings import PreferenceConfig
from optune.pipeline.task import Task, mixed_precision
from optune.prompts.tokens import encode_prompts
from optune.training import launch
from optune.training.common import OnLog, optimizer_of
from optune.training.dpo import train_dpo
from optune.training.job import TrainJob
from optune.training.losses import LOSSES
from optune.training.reference import sequence_logprobs
from optune.types import UserError
from optune.utils.checkpoints import load_model, load_tokenizer
from optune.utils.registry import resolve

IDS = ["prompt_ids", "chosen_ids", "rejected_ids"]


def check(config: PreferenceConfig) -> list[str]:
    """A policy that a run could start from, a known loss, and processes that can train together."""
    resolve(LOSSES, config.loss.name, "loss")
    optimizer_of(config.training)
    if config.launch:
        launch.check(config.launch, config.training)
    policy = read_checkpoint("policy", config.model, AutoModelForCausalLM, config.trust_remote_code)
    return [check_vocabulary(policy), check_end(policy, config.model, config.trust_remote_code)]


def tokenizer_of(config: PreferenceConfig) -> Any:
    """The policy's."""
    return load_tokenizer(config.model, trust_remote_code=config.trust_remote_code)


def encoder(config: PreferenceConfig, tokenizer: Any) -> Callable[[Preference], dict[str, Any]]:
    """`encode_preference` as configured."""
    return partial(encode_preference, tokenizer, config.loss.name, config.data.max_length)


def encode_preference(tokenizer: Any, loss: str, max_length: int, row: Preference) -> dict[str, Any]:
    """The prompt as the policy is asked, and both answers with an end token. UserError where a loss lacks scores."""
    if loss != "dpo" and None in (row.score_chosen, row.score_rejected):
        raise UserError(
            f"{row.where}: loss {loss!r} needs `score_chosen` and `score_rejected` in every row; give them, or take "
            "the loss dpo."
        )
    prompt = encode_prompts(tokenizer, [row.prompt], max_length)[0][0]
    answers = [tokenised(text, tokenizer) for text in (row.chosen, row.rejected)]
    ids = {name: np.asarray(value, np.int32) for name, value in zip(IDS, (prompt, *answers), strict=True)}
    return {**as_stored(row), **ids, "length": len(prompt) + max(map(len, answers))}


def beta_2_of(config: PreferenceConfig, scores: pa.Table) -> float:
    """beta_2 of Eq. 6 as configured; `auto` is 1 / the median score gap of the rows that train."""
    if config.loss.beta_2 != "auto":
        return config.loss.beta_2
    if config.loss.name == "dpo":
        return 0.0  # Eq. 5 has none
    gap = median(pc.subtract(scores["score_chosen"], scores["score_rejected"]).to_pylist())
    if gap <= 0:
        raise UserError(
            f"loss.beta_2=auto: the median of score_chosen - score_rejected is {gap:g}, which gives no weight; set "
            "loss.beta_2, or take loss.name=dpo."
        )
    return config.loss.automatic_beta_2(gap)


def train(config: PreferenceConfig, rows: Path, folder: Path, seed: int, on_log: OnLog | None) -> dict[str, Any]:
    """One preference step; the reference is the start model."""
    table = pq.read_table(rows, columns=[*IDS, *SCORES])
    beta_2 = beta_2_of(config, table)
    for name in SCORES:  # dpo weighs all pairs alike
        place = table.column_names.index(name)
        table = table.set_column(place, name, pc.fill_null(table[name], 0.0))
    trust = config.trust_remote_code
    job = TrainJob(config.model, config.model, config.loss, beta_2, config.training, seed, trust)
    trainer = partial(launch.train, config.launch) if config.launch else train_dpo
    return trainer(job, PreferenceRows(table), folder, on_log)


def evaluate(config: PreferenceConfig, model: Path, held_out: Path, folder: Path) -> dict[str, Any]:
    """Implicit rewards beta_1 log(pi / pi_ref) of the held-out answers: accuracy, margin, loss."""
    table = pq.read_table(held_out)
    policy, reference = (_logprobs(config, name, table) for name in (model, config.model))
    beta, rewards = config.loss.beta_1, {}
    for side in SIDES:
        rewards[side] = [beta * (p - q) for p, q in zip(policy[side], reference[side], strict=True)]
    gaps = [c - r for c, r in zip(rewards["chosen"], rewards["rejected"], strict=True)]
    if not all(map(math.isfinite, gaps)):
        raise UserError("A held-out log-probability is not finite: the trained policy is broken. Lower the rate.")
    table = table.drop_columns(IDS)
    for side in SIDES:
        table = table.append_column(f"reward_{side}", pa.array(rewards[side]))
    pq.write_table(table, folder / "held_out.parquet")
    means = {f"reward_{side}_mean": fmean(rewards[side]) for side in SIDES}
    return {**preference_measures(gaps, table.to_pylist()), **means}


def _logprobs(config: PreferenceConfig, model: str | Path, table: pa.Table) -> dict[str, list[float]]:
    """log pi(y|x) of both answers of each row, in nats."""
    network = load_model(AutoModelForCausalLM, model, dtype="float32", trust_remote_code=config.trust_remote_code)
    prompts, found = table["prompt_ids"].to_pylist(), {}
    with mixed_precision(config):
        for side in SIDES:
            rows = list(zip(prompts, table[f"{side}_ids"].to_pylist(), strict=True))
            found[side] = sequence_logprobs(network, rows, 0, 2 * config.training.micro_batch_size)
    return found


TASK = Task("preference", "policy", check, tokenizer_of, preference_of, encoder, train, evaluate)
