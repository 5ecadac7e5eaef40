"""Measures a policy: its answers, their win score against the baseline (Eq. 7) and, in the sandbox, gold.

Answers are cached by the policy's content. Judge replies have a directory of their own, because they may have cost
money. Both are made once, whichever arm needs them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Any

from eval.judges import judge_of
from eval.outputs import answer_prompts, prompt_set
from eval.win_score import read_verdicts, win_score
from optune import instructions
from optune.config import RunConfig, SamplingSettings
from optune.sandbox.gold import gold
from optune.store import StageStore, content_hash
from optune.types import Prompt
from optune.utils.files import exclusive, read_json, write_json
from optune.utils.hashing import stable_hash


def measure(policy: str, config: RunConfig, work_dir: Path) -> dict[str, Any]:
    """Win score, a verdict per prompt (W, T, L or ?), and gold per prompt where the prompts are the sandbox's."""
    known = quality(policy, config, work_dir)  # first: it scores answers in batches, the judge one call after the other
    summary, judged_in = judged(policy, config, work_dir)
    letters = {"win": "W", "tie": "T", "lose": "L"}
    verdicts = "".join(letters.get(v.outcome, "?") for v in read_verdicts(judged_in).values())
    numbers = {name: summary[name] for name in ("win_score", "win", "tie", "lose", "unparsed", "n")}
    return {**numbers, "verdicts": verdicts, **known}


def judged(
    policy: str, config: RunConfig, work_dir: Path, max_cost: float | None = None
) -> tuple[dict[str, Any], Path]:
    """Eq. 7 against the baseline, with interval and counts, and the directory that keeps replies and verdicts.

    Before a judge that costs something is asked, calls, tokens and price go to stderr; `max_cost` refuses to exceed.
    """
    answers, baseline = (answers_of(model, config, work_dir) for model in (policy, config.evaluation.baseline))
    judge = judge_of(config.evaluation.judge)
    judge = replace(judge, chat=replace(judge.chat, max_cost=max_cost))
    tell = partial(print, file=sys.stderr) if judge.transport is None else lambda estimate: None
    against = stable_hash(baseline, judge.chat.model, dict(judge.parameters))[:12]
    folder = work_dir / "judge" / against / stable_hash(answers)[:20]
    replies = folder.parent / f"replies-seed{config.seed}.jsonl"
    with exclusive(replies.with_suffix(".lock")):  # arms share answers, and may want the judge at once
        options = {"allow_empty": True, "announce": tell, "replies_log": replies}
        return win_score(answers, baseline, judge, folder, **options), folder


def alpaca_eval(model: str, config: RunConfig, work_dir: Path) -> dict[str, Any]:
    """AlpacaEval's win rates of a checkpoint against the baseline, on the configuration's evaluation prompts."""
    from eval.alpaca_eval.evaluate import annotator_of, evaluate

    files = []
    for name in (model, config.evaluation.baseline):
        rows = answers_of(name, config, work_dir)
        files.append(write_json(work_dir / "alpaca" / f"{stable_hash(rows)[:16]}.json", rows))
    run_dir = work_dir / "alpaca" / stable_hash([f.stem for f in files])[:16]  # what is compared, wherever it lies
    with exclusive(run_dir.with_suffix(".lock")):
        return evaluate(
            files[0], files[1], judge=annotator_of(config.evaluation.judge), run_dir=run_dir, allow_empty=True
        )


def quality(model: str, config: RunConfig, work_dir: Path) -> dict[str, Any]:
    """Gold of each answer to the evaluation prompts, and its mean. Empty in a world without gold."""
    if config.evaluation.judge.name == "instructions":
        return _instructions_quality(answers_of(model, config, work_dir), config.evaluation.judge.model)
    if not config.sandbox:
        return {}
    golds = [round(gold(row["instruction"], row["output"]), 3) for row in answers_of(model, config, work_dir)]
    return {"gold_mean": fmean(golds), "gold": golds}


def _instructions_quality(rows: Sequence[dict[str, Any]], start: str) -> dict[str, Any]:
    """Gold and the share of constraints met, for each answer to a prompt of the world `instructions` and on average."""
    from optune.instructions.fluency import shared

    asked, answers = [row["instruction"] for row in rows], [row["output"] for row in rows]
    nats = shared(Path(start)).nats(asked, answers)
    golds = [round(instructions.gold(*row), 3) for row in zip(asked, answers, nats, strict=True)]
    met = [fmean(c.met(a) for c in instructions.read(q).constraints) for q, a in zip(asked, answers, strict=True)]
    return {"gold_mean": fmean(golds), "gold": golds, "met_mean": fmean(met), "met": met}


def answers_of(
    model: str, config: RunConfig, work_dir: Path, prompts: Sequence[Prompt] | None = None
) -> list[dict[str, Any]]:
    """Greedy answers of a checkpoint to `prompts`, by default the evaluation prompts, in AlpacaEval's form.

    Made once per checkpoint.
    """
    evaluation = config.evaluation
    settings = SamplingSettings(
        engine=config.generation.engine,
        n=1,
        temperature=0.0,
        top_p=1.0,
        max_new_tokens=evaluation.max_new_tokens,
        batch_size=evaluation.batch_size,
        dtype=evaluation.dtype,
        max_prompt_tokens=config.prompts.max_tokens,
        trust_remote_code=config.policy.trust_remote_code,
    )
    prompts = _prompts(evaluation.prompts) if prompts is None else prompts

    def build(folder: Path) -> dict[str, Any]:
        rows = answer_prompts(model, prompts, settings)
        write_json(folder / "outputs.json", rows)
        return {"answers": len(rows)}

    fields = {"decoding": settings.model_dump(), "threads": config.threads}
    inputs = {"model": content_hash(model), "prompts": stable_hash([(p.prompt_id, p.text) for p in prompts])}
    stage = StageStore(work_dir / "stages").run("answer", build, fields=fields, inputs=inputs)
    return read_json(stage / "outputs.json")


@cache
def _prompts(name: str) -> list[Prompt]:
    return prompt_set(name)
