"""Preference steps from a checkpoint folder to a checkpoint folder: ours, and TRL's in its settings; same pairs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from experiments.bench.timing import Found
from experiments.bench.worlds import World
from experiments.compute.setting import RUNS
from optune.pairs.rows import PreferenceRows, preference_rows
from optune.store import content_hash
from optune.utils.hashing import stable_hash
from optune.utils.quiet import quiet_libraries

AS_SHIPPED = (
    "at most 8 pairs in a forward pass, bf16 autocast, gradient checkpointing, AdamW, second model for reference "
    "log-probabilities"
)
BEST = (
    "our precision, optimizer and pairs in a forward pass, no gradient checkpointing, reference log-probabilities "
    "computed beforehand"
)
SHIPPED_BATCH = 8  # TrainingArguments' default


def pairs_of(world: World) -> Path:
    """The pairs of the loop's own iteration 0, made once."""
    return _made(world, "pairs")


def our_rows(world: World) -> PreferenceRows:
    """What the loop's own preference step learns from in iteration 0."""
    from optune.utils.checkpoints import load_tokenizer

    tokenizer = load_tokenizer(world.config.policy.model)
    return preference_rows(world.config, tokenizer, _made(world, "prompts"), _made(world, "pairs"), 0)


def _made(world: World, stage: str) -> Path:
    from optune.loop.algorithm import run_optune

    config = world.config.with_overrides({"iterations": 0})
    key = stable_hash(config.model_dump(), content_hash(config.policy.model), torch.__version__)[:12]
    result = run_optune(config, RUNS / "bench" / f"pairs-{world.name}-{key}")
    return next(Path(entry["path"]) / f"{stage}.parquet" for entry in result.stages if entry["stage"] == stage)


def our_step(world: World, rows: PreferenceRows) -> Found:
    """Plain DPO by our trainer, reference log-probabilities included."""
    from optune.config import LossConfig
    from optune.training.dpo import train_dpo
    from optune.training.job import TrainJob

    config = world.config
    with tempfile.TemporaryDirectory() as folder:
        policy, loss = config.policy.model, LossConfig(name="dpo", beta_1=config.loss.beta_1)
        counts = train_dpo(TrainJob(policy, policy, loss, 0.0, config.training, seed=0), rows, Path(folder))
    told = {"pairs": len(rows), "updates": counts["updates"]}
    mismatch = counts.get("reference_mismatch_mean")
    return told if mismatch is None else {**told, "mismatch": mismatch}


def trl_step(world: World, pairs: Path, as_shipped: bool) -> Found:
    """TRL's DPOTrainer on the same pairs as conversations, which is what it takes; its own settings or its best."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    quiet_libraries()
    config, training = world.config, world.config.training
    said = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for row in pq.read_table(pairs, columns=["prompt", "chosen", "rejected"]).to_pylist()
    ]
    lower = training.dtype == "bfloat16"
    at_once = min(SHIPPED_BATCH, training.batch_size) if as_shipped else training.micro_batch_size
    best = {
        "bf16": lower,
        "gradient_checkpointing": False,
        "optim": training.optimizer,
        "precompute_ref_log_probs": True,
    }
    with tempfile.TemporaryDirectory() as folder:
        trainer = DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(config.policy.model, dtype="float32"),
            args=DPOConfig(
                output_dir=folder,
                beta=config.loss.beta_1,
                learning_rate=training.learning_rate,
                num_train_epochs=training.epochs,  # as shipped it is three: the same updates are compared
                per_device_train_batch_size=at_once,
                gradient_accumulation_steps=training.batch_size // at_once,
                use_cpu=not torch.cuda.is_available(),
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                **({} if as_shipped else best),
            ),
            train_dataset=Dataset.from_list(said),
            processing_class=AutoTokenizer.from_pretrained(config.policy.model),
        )
        _quietly(trainer)
        trainer.train()
        trainer.save_model(folder)
        updates = trainer.state.global_step
    return {"pairs": len(said), "updates": updates}


def _quietly(trainer: Any) -> None:
    """Without its metrics on the screen."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
