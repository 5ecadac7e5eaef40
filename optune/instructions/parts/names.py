"""`instructions:` names of a configuration, as paths: the loop itself does not know this world.

`instructions:<split>` as a prompt file is that split of the prompts. `instructions:reward`, `instructions:baseline`
and `instructions:pairs` (as `pairs.offline`) are made from the run's start policy, `policy.model`, on first use: the
build of the section `instructions` (0 without one), or build k as `instructions:reward@k`. The judge named
`instructions` gets that start policy as its model. A name that stands for the start policy itself must have been
resolved before. Making them takes half an hour and more on two cores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optune import instructions
from optune.config import RunConfig
from optune.prompts.files import write_prompts
from optune.types import UserError
from optune.utils.files import exclusive

PREFIX = "instructions:"
MADE = ("reward", "baseline", "pairs")


def resolve_instructions(config: RunConfig, root: Path, make: bool = True) -> RunConfig:
    """The configuration with paths below `root` in the place of `instructions:` names; the same one without any.

    make: False leaves the names of what is made from the start policy as they are. A reward that is no reward model has
    none trained for it: a name left by a preset is dropped.
    """
    if config.reward.kind != "sequence_classifier" and (config.reward.model or "").startswith(PREFIX):
        config = config.with_overrides({"reward.model": None})
    named = _named(config)
    if not make:
        named = {field: name for field, name in named.items() if not _is_made(name)}
    usual = config.instructions.build if config.instructions else 0
    changes: dict[str, Any] = {
        field: str(_path(name, Path(config.policy.model), root, usual)) for field, name in named.items()
    }
    if config.evaluation and config.evaluation.judge.name == "instructions":
        changes["evaluation.judge.model"] = config.policy.model
    return config.with_overrides(changes) if changes else config


def made_from_policy(config: RunConfig) -> dict[str, str]:
    """Field -> name, of what a configuration still names that is made from the start policy."""
    return {field: name for field, name in _named(config).items() if _is_made(name)}


def _is_made(name: str) -> bool:
    what, _, build = name.removeprefix(PREFIX).partition("@")
    return what in MADE and (build or "0").isdecimal()


def _named(config: RunConfig) -> dict[str, str]:
    return {field: name for field, name in _fields(config).items() if (name or "").startswith(PREFIX)}


def _fields(config: RunConfig) -> dict[str, str | None]:
    fields = {"reward.model": config.reward.model, "prompts.path": config.prompts.path}
    if config.validation:
        fields["validation.path"] = config.validation.path
    if config.pairs.offline:
        fields["pairs.offline"] = config.pairs.offline
    if config.evaluation:
        fields["evaluation.baseline"] = config.evaluation.baseline
    return fields


def _path(name: str, start: Path, root: Path, usual: int) -> Path:
    what, _, build = name.removeprefix(PREFIX).partition("@")
    if what in instructions.SIZES and not build:
        return _prompt_file(what, root)
    if not _is_made(name):
        known = ", ".join((*MADE, *instructions.SIZES))
        raise UserError(f"There is no {name!r}; the instructions have {known}, and builds as reward@1.")
    if what == "reward":
        from optune.instructions.parts.reward_model import build as reward_model

        return reward_model(start, int(build or usual), root)
    from optune.instructions.parts import offline

    return {"baseline": offline.baseline, "pairs": offline.pairs}[what](start, int(build or usual), root)


def _prompt_file(split: str, root: Path) -> Path:
    path = root / f"prompts-{instructions.content_hash()[:12]}" / f"{split}.parquet"
    with exclusive(path.with_suffix(".lock")):
        if not path.exists():
            unfinished = path.with_suffix(".tmp")
            write_prompts(unfinished, instructions.prompts(split))
            unfinished.replace(path)
    return path
