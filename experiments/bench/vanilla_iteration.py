"""A whole vanilla iteration (ratio 1: sample two responses, score, make pairs, train) against TRL's OnlineDPOTrainer.

Both have the same policy, reward model, prompts, number of updates and pairs per update. Ours is the real loop
(`run_optune`, iteration 0), from a checkpoint folder to a checkpoint folder, without its KL measurement, which TRL does
not make. TRL samples every batch from the newest policy. That is another algorithm, but it is what a TRL user runs for
online DPO.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from experiments.bench.rows import Row, compared
from experiments.bench.steps import SHIPPED_BATCH
from experiments.bench.timing import Found, in_turn, rates, spread
from experiments.bench.worlds import ITERATION_OPTIONS, World, variants
from optune.utils.quiet import quiet_libraries
from optune.utils.threads import cpu_threads

GOALS = {"as shipped": 6.0, "best settings": 2.0}
GOALS_REAL = {"as shipped": 5.0, "best settings": 2.5}
WHY = (
    "{share:.0%} of our iteration is the preference step, which both sides make; what sampling and scoring in large "
    "batches saves is part of the rest"
)
SETTINGS = {
    "as shipped": "8 prompts a batch, accumulated; bf16 autocast, gradient checkpointing, so no KV cache; AdamW",
    "best settings": "all of an update's prompts in one batch, no accumulation, KV cache on, no checkpointing, {dtype}",
}
SHARE_AS_SHIPPED = 1 / 8  # of the updates, where there are many: it is slow, and its time is linear in them
FEWEST = 2  # of one alone, loading and saving would be a large part


def measure(world: World, repetitions: int) -> list[Row]:
    """Updates per second of each. It is a rate, so that fewer updates of the slow one can be timed."""
    ours = variants(world, ITERATION_OPTIONS)
    with cpu_threads(world.config.threads):
        updates = our_iteration(world)["updates"]
        few = min(updates, max(FEWEST, round(updates * SHARE_AS_SHIPPED)))
        things = {name: lambda w=of: our_iteration(w) for name, of in ours.items()}
        things |= {
            "best settings": lambda: trl_iteration(world, updates, as_shipped=False),
            "as shipped": lambda: trl_iteration(world, few, as_shipped=True),
        }
        turns_by_name = in_turn(things, repetitions, world.warm_up)
    return [_row(world, name, peer, turns_by_name) for name in ours for peer in GOALS]


def _row(world: World, name: str, peer: str, turns_by_name: dict[str, list[Found]]) -> Row:
    mine, theirs = (rates(turns_by_name[who], "updates") for who in (name, peer))
    updates, timed = (turns_by_name[who][0]["updates"] for who in (name, peer))
    share = spread([turn["phases"]["train"] / turn["seconds"] for turn in turns_by_name[name]])["median"]
    phases = {stage: round(value, 3) for stage, value in turns_by_name[name][-1]["phases"].items()}
    few = f"; {timed} updates of theirs were timed" if timed < updates else ""
    return compared(
        f"a whole vanilla iteration{name}",
        f"TRL OnlineDPOTrainer, {peer}",
        "updates/s",
        mine,
        theirs,
        (GOALS_REAL if world.real else GOALS)[peer],
        settings={
            "ours": f"run_optune, iteration 0, the preset's settings{name}",
            "peer": SETTINGS[peer].format(dtype=world.config.training.dtype),
        },
        note=f"{updates} updates of {world.config.training.batch_size} pairs{few}; our seconds: {phases}",
        why=WHY.format(share=share),
    )


def our_iteration(world: World) -> Found:
    """Iteration 0 in a folder of its own; `seconds` without the KL stage."""
    import time

    from optune.loop.algorithm import run_optune

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        result = run_optune(world.config.with_overrides({"iterations": 0}), Path(folder) / "run")
        seconds = time.perf_counter() - started
    phases = {entry["stage"]: entry["timing"]["wall_s"] for entry in result.stages}
    updates = next(entry["counts"]["updates"] for entry in result.stages if entry["stage"] == "train")
    return {"seconds": seconds - phases["kl"], "updates": updates, "phases": phases}


def trl_iteration(world: World, updates: int, as_shipped: bool) -> Found:
    """As many updates of TRL's online DPO, from a checkpoint folder to a checkpoint folder."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, PrinterCallback

    quiet_libraries()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

        config = world.config
        with tempfile.TemporaryDirectory() as folder:
            trainer = OnlineDPOTrainer(
                model=AutoModelForCausalLM.from_pretrained(config.policy.model, dtype="float32"),
                reward_funcs=AutoModelForSequenceClassification.from_pretrained(config.reward.model, dtype="float32"),
                reward_processing_classes=AutoTokenizer.from_pretrained(config.reward.model),
                processing_class=AutoTokenizer.from_pretrained(config.policy.model),
                train_dataset=Dataset.from_list([{"prompt": prompt.chat} for prompt in world.prompts]),
                args=OnlineDPOConfig(output_dir=folder, max_steps=updates, **_arguments(world, as_shipped)),
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            trainer.save_model(folder)
            return {"updates": trainer.state.global_step}


def _arguments(world: World, as_shipped: bool) -> dict[str, Any]:
    """Ours in TRL's words, and in its best settings what makes it fast."""
    config, training = world.config, world.config.training
    batch = min(SHIPPED_BATCH, training.batch_size) if as_shipped else training.batch_size
    shared = {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": training.batch_size // batch,
        "learning_rate": training.learning_rate,
        "beta": config.loss.beta_1,
        "max_new_tokens": config.generation.max_new_tokens,
        "max_length": max(64, 2 * config.generation.max_new_tokens + config.prompts.max_tokens),
        "temperature": config.generation.temperature,
        "top_p": config.generation.top_p,
        "use_cpu": not torch.cuda.is_available(),
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    best = {"bf16": training.dtype == "bfloat16", "gradient_checkpointing": False, "optim": training.optimizer}
    return shared if as_shipped else shared | best
