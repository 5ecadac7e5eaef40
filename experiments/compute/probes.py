"""Further measurements of an arm whose runs are there: second draws of its policies (Figure 2), AlpacaEval (Table 2),
benchmarks (Table 3), answers for raters (Table 4), reward and gold of its training responses (when selection pays).

A probe is `f(config, result, work_dir) -> dict`; what it returns becomes part of a raw result of its own.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from eval.benchmarks.run import measure_checkpoint
from eval.benchmarks.suites import SUITES
from experiments.compute import real_benchmarks
from experiments.compute.ledger import ledger
from experiments.compute.measure import alpaca_eval, answers_of
from optune.config import RunConfig
from optune.history import read_responses, write_responses
from optune.loop.algorithm import RunResult, run_optune
from optune.loop.parts import parts_of
from optune.loop.rollouts import Lengths, Rollouts
from optune.prompts.files import load_prompts
from optune.reward import reward_inputs
from optune.sandbox import gold
from optune.store import Artefact, StageStore, content_hash
from optune.types import UserError
from optune.utils.files import read_json, write_json
from optune.utils.hashing import stable_seed
from optune.utils.threads import cpu_threads


def alpaca(config: RunConfig, result: RunResult, work_dir: Path) -> dict[str, Any]:
    """AlpacaEval's win rates of the final policy against the offline baseline."""
    prompts = "sandbox:alpaca" if config.sandbox else "instructions:test" if config.instructions else "alpaca_eval"
    changed = config.with_overrides({"evaluation.prompts": prompts})
    rates = alpaca_eval(result.policies[-1], changed, work_dir)
    numbers = "win_rate", "standard_error", "length_controlled_winrate", "avg_length", "n", "unparsed", "annotator"
    return {name: value for name, value in rates.items() if name in numbers or name.startswith("lc_")}


def study_answers(config: RunConfig, result: RunResult, work_dir: Path) -> dict[str, Any]:
    """The final policy's answers to the LIMA prompts (in the sandbox the 300 in their stead), for the human study."""
    changed = config.with_overrides({"evaluation.prompts": "sandbox:lima" if config.sandbox else "lima"})
    rows = answers_of(result.policies[-1], changed, work_dir)
    return {"answers": [{**row, "generator": "final policy"} for row in rows]}


def benchmarks(config: RunConfig, result: RunResult, work_dir: Path) -> dict[str, Any]:
    """The preset's benchmark suite of the final policy (`final`); the arm that regenerates every prompt also measures
    the SFT model (`sft`) and, but for the real model, the offline baseline (`baseline`).
    """
    models = {"final": result.policies[-1]}
    if config.selection.strategy == "all":
        models["sft"] = config.policy.model
        if not config.instructions:
            models["baseline"] = config.evaluation.baseline
    suite = "sandbox" if config.sandbox else "paper"
    store = StageStore(work_dir / "stages")
    return {
        "suite": suite,
        "lm_eval": version("lm_eval"),
        "models": {name: _benchmark_scores(store, config, model, suite) for name, model in models.items()},
    }


def _benchmark_scores(store: StageStore, config: RunConfig, model: str, suite: str) -> dict[str, Any]:
    """Fractions with standard errors and numbers of items, by column, and their average; once per checkpoint."""

    def build(folder: Path) -> dict[str, Any]:
        with cpu_threads(config.threads):
            out = folder / "lm_eval"
            scores = real_benchmarks.measure(model, out) if config.instructions else _whole(model, suite, out)
        write_json(folder / "scores.json", scores)
        return {"benchmarks": len(scores["columns"])}

    fields = {"suite": suite, "lm_eval": version("lm_eval"), "threads": config.threads}
    if config.instructions:
        fields |= real_benchmarks.settings()
    stage = store.run("benchmarks", build, fields=fields, inputs={"model": content_hash(model)})
    return read_json(stage / "scores.json")


def _whole(model: str, suite: str, out: Path) -> dict[str, Any]:
    """The same of a suite with all of its items."""
    scores = measure_checkpoint(model, suite, out)
    columns = {name: {"value": s.value, "stderr": s.stderr, "n": s.n} for name, s in scores.scores.items()}
    value, stderr = scores.average(SUITES[suite])
    return {"columns": columns, "average": {"value": value, "stderr": stderr}}


def redraw(config: RunConfig, result: RunResult, work_dir: Path) -> dict[str, Any]:
    """The preferred response's reward of every prompt in two independent draws of each iteration's policy.

    The first draw is the run's own (its arm must regenerate every prompt). `halves`, from iteration 1 on: mean gain of
    the top and the bottom half of the prompts by three rankings, see `gain_by_half`.
    """
    store = StageStore(work_dir / "stages")
    stages = {(e["iteration"], e["stage"]): Path(e["path"]) for e in result.stages}
    policies = [config.policy.model, *result.policies[:-1]]  # what sampled iteration t
    iterations: list[dict[str, Any]] = []
    for t, policy in enumerate(policies):
        prompts = stages[t, "prompts"] / "prompts.parquet"
        own = preferred_rewards(stages[t, "score"] / "history.parquet")
        other = preferred_rewards(_second_draw(store, config, policy, prompts, t) / "history.parquet")
        ids = sorted(own)
        point = {"iteration": t, "first": [own[i] for i in ids], "second": [other[i] for i in ids]}
        if t > 0:
            point["halves"] = gain_by_half(iterations[-1]["first"], iterations[-1]["second"], point["first"])
        iterations.append(point)
    return {"iterations": iterations}


def seconds(config: RunConfig, result: RunResult, work_dir: Path) -> dict[str, Any]:
    """Repeats the run from the start to time it. Its ledger is the raw result's `timing`.

    Raises UserError if the second run ends in another policy than the first.
    """
    with tempfile.TemporaryDirectory() as folder:
        again = run_optune(config, Path(folder) / "run", Path(folder) / "stages")
        if content_hash(again.policies[-1]) != content_hash(result.policies[-1]):
            raise UserError(
                f"Seed {config.seed}: the run for the clock ended in another policy; it timed something else."
            )
        return {"timing": {"ledger": ledger(again.stages)}}


def clock(config: RunConfig, result: RunResult, work_dir: Path) -> dict[str, Any]:
    """`seconds` under another name, for arms that are compared by time and so are timed on the same day."""
    return seconds(config, result, work_dir)


def improvability(config: RunConfig, result: RunResult, work_dir: Path) -> dict[str, Any]:
    """Reward and gold of every training prompt's responses in the first and the last iteration, sandbox only.

    The run's own responses are used, so its arm must regenerate every prompt. `families`: (n_prompts,); `reward`,
    `gold`: for each response index a list of (n_prompts,), in the order of the prompts.
    """
    stages = {(e["iteration"], e["stage"]): Path(e["path"]) for e in result.stages}
    prompts = load_prompts(stages[0, "prompts"] / "prompts.parquet")
    last = len(result.policies) - 1
    iterations = []
    for t in (0, last):
        rows = {(r.prompt_id, r.index): r for r in read_responses(stages[t, "score"] / "history.parquet")}
        reward, quality = [], []
        for index in range(config.generation.n):
            responses = [rows[prompt.prompt_id, index] for prompt in prompts]
            reward.append([round(response.reward, 4) for response in responses])
            quality.append([round(gold(p.text, r.text), 3) for p, r in zip(prompts, responses, strict=True)])
        iterations.append({"iteration": t, "reward": reward, "gold": quality})
    return {"families": [p.category for p in prompts], "iterations": iterations}


def gain_by_half(first: list[float], second: list[float], after: list[float]) -> dict[str, dict[str, float]]:
    """Mean gain of the top and the bottom half of prompts. Arguments: (n,) preferred rewards, prompt by prompt.

    `shared_sample` (the paper): ranked by the draw from which the gain is measured. `independent_sample`: ranked by
    another draw of the same policy. `no_training`: ranked by the first draw, with the gain to the second draw of the
    same policy, so that all of it is regression to the mean.
    """
    before, redrawn, now = (np.asarray(values) for values in (first, second, after))
    return {
        "shared_sample": _halves(before, now - before),
        "independent_sample": _halves(redrawn, now - before),
        "no_training": _halves(before, redrawn - before),
    }


def _halves(ranking: np.ndarray, gain: np.ndarray) -> dict[str, float]:
    order = np.argsort(ranking, kind="stable")
    bottom, top = np.array_split(gain[order], 2)
    return {"top": float(top.mean()), "bottom": float(bottom.mean())}


def preferred_rewards(scored: Path) -> dict[str, float]:
    """By prompt id, the highest reward among its responses."""
    best: dict[str, float] = {}
    for response in read_responses(scored):
        best[response.prompt_id] = max(best.get(response.prompt_id, -np.inf), round(response.reward, 4))
    return best


def _second_draw(store: StageStore, config: RunConfig, policy: str, prompts_file: Path, t: int) -> Artefact:
    """As many responses per prompt as the loop draws, by streams of their own, with their rewards."""
    settings, seed = config.sampling(), stable_seed("redraw", config.seed)
    rollouts = Rollouts(config.model_copy(update={"seed": seed}), parts_of(config))

    def build(folder: Path) -> dict[str, Any]:
        prompts, lengths = load_prompts(prompts_file), Lengths()
        drawn = rollouts.sample(policy, prompts, len(prompts), settings, seed, t)
        write_responses(folder / "history.parquet", rollouts.score(prompts, map(lengths.see, drawn)))
        return {"responses": lengths.responses}

    fields = {**rollouts.key_fields(settings), "seed": seed, "iteration": t}
    inputs = {"policy": content_hash(policy), "prompts": content_hash(prompts_file), **reward_inputs(config.reward)}
    return store.run("redraw", build, fields=fields, inputs=inputs)
