"""The fields of a raw result, `results/<preset>/raw/<arm>/seed<k>.json`: the evidence of one arm with one seed."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class Quality(TypedDict, total=False):
    """The quality of a policy's answers to the evaluation prompts, in a world that has gold."""

    gold_mean: float
    gold: list[float]  # (prompts,)


class Iteration(Quality):
    """The policy after one iteration, and its stages' counts. Arms with `ends_only` lack the middle iterations."""

    iteration: int
    stages: dict[str, dict[str, Any]]  # stage -> its counts
    # Eq. 7, on the evaluation prompts in both orders against the baseline:
    win_score: float
    win: int
    tie: int
    lose: int
    unparsed: int
    n: int
    verdicts: str  # a letter per prompt: W, T, L, or ? for unparsed


class LedgerRow(TypedDict):
    """Seconds and tokens of one iteration. Recipes may add further phases and kinds of tokens."""

    iteration: int
    generation_s: float
    rewarding_s: float
    training_s: float
    tokens: int


class Timing(TypedDict):
    """Wall-clock times and the machine. They are left out of every comparison for equality."""

    ledger: list[LedgerRow]
    machine: dict[str, Any]


class RawResult(TypedDict):
    """One arm with one seed. Arms with a probe have its result instead of `baseline` and `iterations`."""

    preset: str
    config: dict[str, Any]
    sandbox: dict[str, Any] | None  # the world's version and hashes
    packaged_models: NotRequired[dict[str, str]]  # content hashes of packaged models, by name
    arm: str
    seed: int
    build: int | None  # of the sandbox's models
    packages: dict[str, str]
    baseline: NotRequired[Quality]
    iterations: NotRequired[list[Iteration]]
    timing: Timing


Raw = dict[str, list[RawResult]]  # arm -> raw results in order of seeds
