"""The rows of the preference step, from an iteration's stored pairs: token ids, rewards, and what a sampler told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from optune.config import RunConfig
from optune.generate import encode_prompts
from optune.prompts import load_prompts
from optune.types import UserError

SCORES = ["score_chosen", "score_rejected"]
IDS = ["prompt_id", "chosen_token_ids", "rejected_token_ids"]
SAMPLED = [f"{side}_{name}" for side in ("chosen", "rejected") for name in ("iteration", "logprob")]


def preference_rows(config: RunConfig, tokenizer: Any, prompts: Path, pairs: Path, t: int) -> list[dict[str, Any]]:
    """Rows for `train_dpo` of the pairs of iteration `t`; `prompts` holds the prompts that they are of.

    Raises UserError where the loss weighs pairs by rewards that offline ones do not have.
    """
    asked = load_prompts(prompts)
    ids, _ = encode_prompts(tokenizer, asked, config.prompts.max_tokens)
    prompt_ids = dict(zip((p.prompt_id for p in asked), ids, strict=True))
    sampled = SAMPLED if config.training.fresh_reference else []
    rows = pq.read_table(pairs, columns=IDS + SCORES + sampled).to_pylist()
    if config.loss.name == "dpo":  # weighs all alike, so that offline pairs need no scores
        rows = [row | {name: row[name] or 0.0 for name in SCORES} for row in rows]
    elif any(row[name] is None for row in rows for name in SCORES):
        raise UserError(
            f"{config.pairs.offline}: loss {config.loss.name!r} needs score_chosen and score_rejected in "
            "every row; give them, or take loss dpo."
        )
    return [
        {
            "prompt_ids": prompt_ids[row["prompt_id"]],
            "chosen_ids": row["chosen_token_ids"],
            "rejected_ids": row["rejected_token_ids"],
            "score_chosen": row["score_chosen"],
            "score_rejected": row["score_rejected"],
            **(_sampled_logprobs(row, t) if sampled else {}),
        }
        for row in rows
    ]


def _sampled_logprobs(row: dict[str, Any], t: int) -> dict[str, float | None]:
    """log pi(y|x) of both responses as their sampler told it; None where one is not of iteration t, or it did not."""
    return {
        f"sampled_{side}_logps": row[f"{side}_logprob"] if row[f"{side}_iteration"] == t else None
        for side in ("chosen", "rejected")
    }
