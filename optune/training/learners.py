"""What an iteration learns with (Algorithm 1, line 22), behind one contract.

    learner(step: Step, folder: Path) -> counts

saves the next policy to `folder` as a `transformers` folder and returns the stage's counts, with `seconds` by name
among them. `dpo`, the default, learns from the iteration's pairs by the configured loss. `rloo` samples responses of
its own and learns from their rewards; it takes the place of PPO, which TRL no longer has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from optune.config import RunConfig
from optune.training.job import TrainJob
from optune.types import Prompt, Response, UserError

DEFAULT = "dpo"


@dataclass(frozen=True)
class Step:
    """One iteration's training: from `policy`, against `reference`.

    prompts: the iteration's. pairs(): rows of token ids and rewards, as `train_dpo` takes them; reward(): a function
    (prompts, responses) -> rewards. Both are made when called, since no learner needs both.
    """

    config: RunConfig
    iteration: int
    policy: str
    reference: str
    prompts: Sequence[Prompt]
    pairs: Callable[[], Sequence[dict[str, Any]]]
    reward: Callable[[], Callable[[Sequence[Prompt], list[Response]], list[float]]]
    beta_2: float
    seed: int
    on_log: Callable[[dict[str, Any]], None] | None = None
    callbacks: Sequence[Any] = ()  # transformers'; `dpo` in this process only


def dpo(step: Step, folder: Path) -> dict[str, Any]:
    """The iteration's pairs by `loss.name`. Raises UserError where there is none."""
    rows, config = step.pairs(), step.config
    if not rows:
        raise UserError(f"Iteration {step.iteration}: no pair is left to train on; see the counts of its pairs.")
    remote = config.policy.trust_remote_code
    job = TrainJob(step.policy, step.reference, config.loss, step.beta_2, config.training, step.seed, remote)
    own = {"callbacks": step.callbacks} if step.callbacks else {}
    return _trainer(config)(job, rows, folder, step.on_log, **own)


def check_training(config: RunConfig) -> None:
    """Raises UserError for options that training would refuse, before hours are spent on sampling."""
    if config.launch:
        from optune.training.launch import check

        check(config.launch, config.training)
    if config.training.optimizer.endswith("_8bit"):
        from optune.training.common import optimizer_of

        optimizer_of(config.training)


def _trainer(config: RunConfig) -> Callable[..., dict[str, Any]]:
    """`train_dpo`, or `launch.train` with the options of `launch`, which runs it in worker processes."""
    if config.launch:
        from optune.training.launch import train

        return partial(train, config.launch)
    from optune.training.dpo import train_dpo

    return train_dpo


LEARNERS: dict[str, Callable[[Step, Path], dict[str, Any]] | str] = {
    "dpo": dpo,
    "rloo": "optune.training.rloo:train_rloo",  # REINFORCE, leave-one-out baseline, PPO's clipped ratio
}
