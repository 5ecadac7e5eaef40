"""A run directory as a run leaves it, of made-up responses and rewards: no model, any number of prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from optune.config import parse_config
from optune.history import History, write_responses
from optune.loop.manifest import results_config
from optune.pairs.pairing import training_rows, write_pairs
from optune.prompts.files import stored_texts, write_prompts
from optune.types import Prompt, Response
from optune.utils.files import write_json

STAGES = ("prompts", "select", "generate", "score", "pairs", "train", "kl")
WORDS = ("some", "plain", "words", "that", "say", "nothing")


def made_up_run(
    run_dir: Path,
    prompts: int = 40,
    iterations: int = 2,
    words: int = 12,
    seed: int = 0,
    text: Callable[[int, int, int], str] | None = None,
    until: tuple[int, str] | None = None,
) -> Path:
    """Half of the prompts, those with the lowest best reward, are regenerated each time; two responses, wDPO.

    text: that of a response by prompt, iteration and index. until: the last stage that is there, for a run under way.
    """
    rng = np.random.default_rng(seed)
    asked = [Prompt(f"p{i}", f"Question {i}?", category=f"kind {i % 3}") for i in range(prompts)]
    history, entries, best = History(), [], np.zeros(prompts)
    for t in range(iterations + 1):
        chosen = np.sort(np.argsort(best)[: prompts // 2]) if t else np.arange(prompts)
        rewards = rng.normal(0.2 * t, 1, (len(chosen), 2))
        best[chosen] = rewards.max(axis=1)
        lengths = rng.integers(1, 2 * words, (len(chosen), 2))
        said = text or (lambda i, t, k: f"Answer {k} of {t} to {i}.")
        responses = []
        for row, i in enumerate(chosen.tolist()):
            for k in range(2):
                long = int(lengths[row, k])
                full = said(i, t, k) if text else f"{said(i, t, k)} {' '.join(rng.choice(WORDS, long))}"
                end = "length" if long > 1.9 * words else "stop"
                responses.append(Response(f"p{i}", k, t, tuple(range(long)), full, end, reward=float(rewards[row, k])))
        tokens = int(lengths.sum())
        folder = {stage: run_dir / "stages" / stage / f"key{t}" for stage in STAGES}
        for path in folder.values():
            path.mkdir(parents=True)
        write_prompts(folder["prompts"] / "prompts.parquet", asked)
        write_json(folder["select"] / "selected.json", [f"p{i}" for i in chosen])
        write_responses(folder["score"] / "history.parquet", responses)
        history = history.append(folder["score"] / "history.parquet")
        ids, texts = stored_texts(folder["prompts"] / "prompts.parquet")
        rows = training_rows(history, "latest", t, ids)
        written = write_pairs(folder["pairs"] / "pairs.parquet", rows, "best_vs_worst", texts)
        counts = {
            "prompts": {"offered": prompts, "used": prompts, "too_long": 0},
            "select": {"prompts": prompts, "selected": len(chosen), "reused": prompts - len(chosen)},
            "generate": {"prompts": len(chosen), "responses": 2 * len(chosen), "tokens": tokens},
            "score": {"rewards": 2 * len(chosen), "reward_mean": float(rewards.mean())},
            "pairs": {"pairs": len(written.gaps), "left_out": dict(written.left_out)},
            "train": {"beta_2": 2.0, "updates": 4, "loss": 0.5},
            "kl": {"responses": 8, "kl_to_sft": 0.1 * t, "kl_standard_error": 0.02},
        }
        seconds = {"generate": 0.01 * len(chosen), "score": 0.002 * len(chosen), "train": 3.0}
        for stage in STAGES:
            entry = {"iteration": t, "stage": stage, "path": str(folder[stage]), "key": f"key{t}"}
            entry |= {"digest": stage if stage == "prompts" else f"{stage}{t}", "counts": counts[stage]}
            entries.append({**entry, "timing": {"wall_s": seconds.get(stage, 0.1)}})
            if (t, stage) == until:
                return _written(run_dir, iterations, seed, entries)
    return _written(run_dir, iterations, seed, entries)


def _written(run_dir: Path, iterations: int, seed: int, entries: list[dict]) -> Path:
    config = parse_config(
        {
            "iterations": iterations,
            "seed": seed,
            "policy": {"model": "user/policy"},
            "reward": {"model": "user/reward"},
            "prompts": {"path": "prompts.jsonl"},
        },
        "made up",
    )
    write_json(run_dir / "manifest.json", {"config": results_config(config), "stages": entries})
    return run_dir
