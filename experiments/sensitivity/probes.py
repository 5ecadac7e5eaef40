"""Measurements of finished runs: which prompts were refreshed when, and how good a reward model is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from experiments.compute.probes import preferred_rewards
from optune.config import RunConfig
from optune.loop.algorithm import RunResult
from optune.prompts.files import load_prompts
from optune.sandbox.parts.models import SandboxModels, report
from optune.utils.files import read_json

QUALITY_PROMPTS, QUALITY_SAMPLES = 1024, 4  # of the validation split; of the SFT policy


def staleness(config: RunConfig, result: RunResult, work_dir: Path) -> dict[str, Any]:
    """By iteration which prompts were regenerated, and when the pairs that trained had been sampled.

    `families`, `first_reward`: (n_prompts,), the category and the reward of the preferred response in iteration 0.
    `selected`: a 1 or 0 for each prompt, in the same order. `pairs_sampled_at`: pairs by iteration of their responses.
    """
    stages = {(e["iteration"], e["stage"]): Path(e["path"]) for e in result.stages}
    prompts = load_prompts(stages[0, "prompts"] / "prompts.parquet")
    first = preferred_rewards(stages[0, "score"] / "history.parquet")
    iterations = []
    for t in range(len(result.policies)):
        chosen = set(read_json(stages[t, "select"] / "selected.json"))
        sampled_at = pq.read_table(stages[t, "pairs"] / "pairs.parquet", columns=["chosen_iteration"])
        ages = Counter(sampled_at["chosen_iteration"].to_pylist())
        iterations.append(
            {
                "iteration": t,
                "selected": "".join(str(int(p.prompt_id in chosen)) for p in prompts),
                "pairs_sampled_at": {str(at): ages[at] for at in sorted(ages)},
            }
        )
    return {
        "families": [p.category for p in prompts],
        "first_reward": [first[p.prompt_id] for p in prompts],
        "iterations": iterations,
    }


def reward_quality(config: RunConfig, result: RunResult, work_dir: Path) -> dict[str, Any]:
    """How far a reward model agrees with gold, on the SFT policy's own responses to validation prompts.

    Within a prompt: the share of its pairs of responses of different gold that both order alike. Across prompts:
    Spearman's correlation of mean reward and mean gold, which is what selection relies on.
    """
    policy, reward = Path(config.policy.model), Path(config.reward.model)
    build = {"reward": {"held_out_accuracy": None}, "timing": {}}  # of no interest here
    models = SandboxModels(policy, reward, Path(config.evaluation.baseline), build)
    measured = report(models, QUALITY_PROMPTS, QUALITY_SAMPLES)
    names = ("agreement_all", "agreement_gap_1", "rank_correlation_across_prompts", "pairs")
    return {"quality": {name: measured[name] for name in names}}
