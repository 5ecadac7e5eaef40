"""Further judges of responses for a sandbox build, on the very preferences that its reward model learned from.

`length_biased`: a reward model whose annotators at times take the longer answer, whatever it says; in the place of the
more length-biased reward model of RLHF Workflow's Table 4. `fewer_pairs`: a reward model that learned from a part of
the preferences. `pairwise`: a preference model. All are made once per build and kept by content, in stages below
`root`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from optune import sandbox
from optune.sandbox.parts.models import BuildSettings, preferences_for, word_tokenizer
from optune.store import StageStore, content_hash
from optune.training.preference_model import train_preference_model
from optune.training.reward_model import train_reward_model
from optune.utils.hashing import stable_seed
from optune.utils.threads import cpu_threads

TAKES_THE_LONGER = 0.3
"""Share of comparisons that are decided by length alone; fixed before any policy was trained on such a reward."""

Train = Callable[[Sequence[dict[str, str]], BuildSettings, Path], dict[str, Any]]


def length_biased(policy: Path, seed: int, settings: BuildSettings, root: Path) -> Path:
    """The folder of the length-biased reward model of a build."""

    def train(rows: Sequence[dict[str, str]], settings: BuildSettings, folder: Path) -> dict[str, Any]:
        own = replace(settings.reward, seed=seed)
        return train_reward_model(policy, word_tokenizer(), favour_length(rows, seed), own, folder)

    return _made("reward_long", train, policy, seed, settings, root, {"takes_the_longer": TAKES_THE_LONGER})


def fewer_pairs(policy: Path, seed: int, settings: BuildSettings, root: Path, one_in: int) -> Path:
    """The folder of the reward model that learned from one preference in `one_in`, in one pass as the build's own."""

    def train(rows: Sequence[dict[str, str]], settings: BuildSettings, folder: Path) -> dict[str, Any]:
        own = replace(settings.reward, seed=seed)
        return train_reward_model(policy, word_tokenizer(), part_of(rows, seed, one_in), own, folder)

    return _made("reward_part", train, policy, seed, settings, root, {"one_in": one_in})


def part_of(rows: Sequence[dict[str, str]], seed: int, one_in: int) -> list[dict[str, str]]:
    """One comparison in `one_in`, drawn at random; those of a smaller part are in every larger one."""
    draws = [stable_seed("part", seed, row["prompt"], row["chosen"], row["rejected"]) / 2**63 for row in rows]
    kept = sorted(range(len(rows)), key=draws.__getitem__)[: len(rows) // one_in]
    return [rows[place] for place in sorted(kept)]


def pairwise(policy: Path, seed: int, settings: BuildSettings, root: Path) -> Path:
    """The folder of the pairwise preference model of a build."""

    def train(rows: Sequence[dict[str, str]], settings: BuildSettings, folder: Path) -> dict[str, Any]:
        own = replace(settings.reward, seed=seed, max_length=64)
        return train_preference_model(policy, word_tokenizer(), rows, own, folder)

    return _made("pairwise", train, policy, seed, settings, root, {})


def favour_length(rows: Sequence[dict[str, str]], seed: int) -> list[dict[str, str]]:
    """The comparisons, a share of them decided by length: the answer with more characters wins."""
    favoured = []
    for row in rows:
        long, short = sorted((row["chosen"], row["rejected"]), key=len, reverse=True)
        draw = stable_seed("length", seed, row["prompt"], *sorted((long, short))) / 2**63
        decided = draw < TAKES_THE_LONGER and len(long) > len(short)
        favoured.append({**row, "chosen": long, "rejected": short} if decided else row)
    return favoured


def _made(
    name: str, train: Train, policy: Path, seed: int, settings: BuildSettings, root: Path, own: dict[str, Any]
) -> Path:
    def build(folder: Path) -> dict[str, Any]:
        with cpu_threads(1):
            made = train(preferences_for(policy, seed, settings), settings, folder)
        return {**made, "seconds": made.pop("timing")}

    fields = {"seed": seed, "settings": {**asdict(settings), "offline": None}, **own}
    inputs = {"policy": content_hash(policy), "sandbox": sandbox.content_hash()}
    return StageStore(root).run(name, build, fields=fields, inputs=inputs).path
