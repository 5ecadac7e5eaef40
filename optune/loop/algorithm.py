"""Algorithm 1: OPTune for iterative online DPO. Algorithm 2, vanilla online DPO, is the same loop at ratio 1."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optune.config import RunConfig, unresolved
from optune.history import History
from optune.loop.held_out import best_policy
from optune.loop.manifest import StageEntry, ToldEntry
from optune.loop.plug_in import Function, Prompts, Reward, plugged_in, with_early_stop
from optune.loop.reporting import reporting
from optune.loop.stages import OnProgress, OnStage, Stages
from optune.store import run_lock
from optune.types import UserError
from optune.utils.threads import cpu_threads


@dataclass(frozen=True)
class RunResult:
    """The policies pi_1 .. pi_T (checkpoint folders, one per iteration), the history, and the stages that made them."""

    policies: list[str]
    history: History
    stages: list[StageEntry]

    @property
    def best(self) -> str:
        """The policy with the highest mean outcome on the validation prompts, or else reward; without them the last.

        The first of equals.
        """
        return best_policy(self.stages) or self.policies[-1]


def run_optune(
    config: RunConfig | dict[str, Any] | str | Path | None,
    run_dir: str | Path,
    store: str | Path | None = None,
    on_stage: OnStage | None = None,
    on_progress: OnProgress | None = None,
    *,
    prompts: Prompts | None = None,
    reward: Reward | None = None,
    reward_weights: Sequence[float] | None = None,
    policy: str | Path | None = None,
    callbacks: Sequence[Any] = (),
    validation: Prompts | None = None,
    outcome: str | Function | None = None,
) -> RunResult:
    """Run, or continue, one arm with one seed in `run_dir`; finished stages are taken from `store`, never made again.

    `store` (default: `run_dir/stages`) may be shared by many runs. Raises UserError if `run_dir` holds a run of another
    configuration or is in use. `on_stage` is told of every stage, `on_progress` of the responses sampled meanwhile.

    What is passed takes the place of the configuration's section: `prompts` (a `datasets.Dataset`, dicts, or a path),
    `reward` (one or several functions `f(prompts, completions, **columns)` with `reward_weights`, or a name), `policy`
    (a folder or hub name). `config` may then be a dict of other options, a YAML file, or None. `callbacks`:
    transformers' (`TrainerCallback`), told of every iteration's training, whose key has their source and settings;
    its `EarlyStoppingCallback` is `validation.patience`, and ends the run.
    `validation`: held-out prompts, as `prompts`; `outcome`: a function like a reward that measures every policy's
    answers to them, and that nothing is trained on. `run_dir/best` links the best policy so far.
    """
    run_dir = Path(run_dir)
    shared = store is not None
    store = Path(store or run_dir / "stages")
    config, functions = plugged_in(config, store, prompts, reward, reward_weights, policy, validation, outcome)
    config, callbacks = with_early_stop(config, callbacks)
    if callbacks and (config.launch or config.training.learner not in (None, "dpo")):
        raise UserError("callbacks work with the learner 'dpo' in this process: leave out launch and training.learner.")
    if waiting := unresolved(config):
        raise UserError(f"{', '.join(waiting)}: must be resolved to a path first; `python -m optune run` does that.")
    if config.keep == "last" and shared:
        raise UserError("keep: last frees policies, which other runs of a shared store may need: leave it out here.")
    on_stage = on_stage or _tell
    with run_lock(run_dir), cpu_threads(config.threads), reporting(config, run_dir, on_stage) as report:
        on_log = report.update if config.report_to else None
        stages = Stages(
            config,
            run_dir,
            store,
            report.stage,
            on_progress,
            on_log,
            check=_check,
            functions=functions,
            callbacks=callbacks,
            outcome=None if isinstance(outcome, str) else outcome,
        )
        policies, history = loop(config, stages)
        return RunResult(policies, history, stages.entries)


def _tell(entry: ToldEntry) -> None:
    """Where nobody listens, what a stage tells the user goes to stderr."""
    for sentence in entry.get("told", ()):
        print(sentence, file=sys.stderr)


def _check(config: RunConfig, reward: Any, outcome: Any) -> None:
    """Imported only where a stage is to be made: a run whose stages are all there loads no torch."""
    from optune.loop.checks import check_run

    check_run(config, reward, outcome)


def loop(config: RunConfig, stages: Stages) -> tuple[list[str], History]:
    """Algorithm 1. Iteration 0 is the shared one at ratio 1; the numbers are the algorithm's lines."""
    sft = policy = config.policy.model  # pi_0
    history = History()
    policies = []
    for t in range(config.iterations + 1):  # 2
        prompts = stages.prompts(t, policy, history)  # P_t
        selected = stages.select(t, prompts, history)  # 4-7, 10
        responses = stages.generate(t, policy, prompts, selected)  # 8-9
        scored = stages.score(t, prompts, responses)  # 19: fresh responses only
        history = history.append(scored / "history.parquet")  # 12-18, 21: the rest is reused
        pairs = stages.pairs(t, prompts, history)  # 20
        start = sft if config.training.start == "sft" else policy
        reference = sft if config.training.reference == "sft" else policy
        trained = stages.train(t, start, reference, prompts, pairs, stages.beta_2(history))  # 22, Eq. 6
        policy = str(trained.path)
        if config.kl_prompts != 0:
            stages.kl(t, sft, policy, prompts)  # not the paper's: how far the policy has gone
        if config.validation:
            stages.validate(t, policy)  # RLHF Workflow: the best of the policies is the result
        policies.append(policy)
        if config.validation and stages.done():  # validation.patience
            break
    return policies, history
