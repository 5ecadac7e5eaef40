"""`sandbox:` names of a configuration, as paths: the loop itself does not know the sandbox.

`sandbox:policy`, `sandbox:reward` and `sandbox:baseline` are the models of the build that the `sandbox` section names,
trained on first use (`sandbox:reward_long`: a reward model that favours long answers; `sandbox:reward_quarter` and
`sandbox:reward_sixteenth`: reward models that learned from that part of the preferences); `sandbox:<split>` as a prompt
file is that split of the sandbox's prompts, `sandbox:<split>@<mix>` that split of one of its mixes
(`mixes.py`). `sandbox:pairs` as `pairs.offline` are noisy preferences between other writers' responses
to the prompts of split `offline`, on which the baseline was trained as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from optune.config import RunConfig
from optune.prompts.files import write_prompts
from optune.types import UserError
from optune.utils.files import exclusive

if TYPE_CHECKING:
    from optune.sandbox.parts.models import BuildSettings

PREFIX = "sandbox:"
MODELS = ("policy", "reward", "baseline")
LENGTH_BIASED = "reward_long"  # a second reward model, from preferences that favour long answers
PARTS = {"reward_quarter": 4, "reward_sixteenth": 16}  # reward models that learned from one preference in so many


def resolve_sandbox(config: RunConfig, root: Path) -> RunConfig:
    """The configuration with paths below `root` in the place of `sandbox:` names; the same one where it has none."""
    if not config.sandbox:
        return config
    models: dict[str, str] = {}

    def path_of(name: str | None) -> str | None:
        if not (name or "").startswith(PREFIX):
            return name
        own = name.removeprefix(PREFIX)
        if own not in (*MODELS, LENGTH_BIASED, *PARTS):
            known = ", ".join((*MODELS, LENGTH_BIASED, *PARTS))
            raise UserError(f"There is no {name!r}; the sandbox's models are {known}.")
        models.update({} if models else _models(config, root))
        return models[own] if own in models else _further_reward(own, Path(models["policy"]), config, root)

    changes = {
        "policy.model": path_of(config.policy.model),
        "reward.model": path_of(config.reward.model),
        "prompts.path": _prompt_file(config.prompts.path, root),
    }
    if config.prompts.synthetic:
        held_out = config.prompts.synthetic.held_out
        changes["prompts.synthetic.held_out"] = [_prompt_file(name, root) for name in held_out]
    if config.validation:
        changes["validation.path"] = _prompt_file(config.validation.path, root)
    if config.pairs.offline:
        changes["pairs.offline"] = _pairs_file(config, root)
    if config.evaluation:
        changes["evaluation.baseline"] = path_of(config.evaluation.baseline)
    return config.with_overrides(changes)


def _models(config: RunConfig, root: Path) -> dict[str, str]:
    from optune.sandbox.parts.models import build

    built = build(config.sandbox.build, root, build_settings(config))
    return {name: str(getattr(built, name)) for name in MODELS}


def _further_reward(name: str, policy: Path, config: RunConfig, root: Path) -> str:
    """A reward model that is no part of the build."""
    from optune.sandbox.parts.reward_models import fewer_pairs, length_biased

    settings = build_settings(config)
    if name == LENGTH_BIASED:
        return str(length_biased(policy, config.sandbox.build, settings, root))
    return str(fewer_pairs(policy, config.sandbox.build, settings, root, PARTS[name]))


def build_settings(config: RunConfig) -> BuildSettings:
    """How the models of the configuration's sandbox are built. Raises UserError for an unknown size."""
    from optune.sandbox.parts.models import NANO, TINY

    sizes = {"tiny": TINY, "nano": NANO}
    if config.sandbox.size not in sizes:
        raise UserError(f"sandbox.size: there is no {config.sandbox.size!r}; known: {', '.join(sizes)}.")
    return sizes[config.sandbox.size]


def _pairs_file(config: RunConfig, root: Path) -> str:
    name = config.pairs.offline
    if not name.startswith(PREFIX):
        return name
    if name != f"{PREFIX}pairs":
        raise UserError(f"There is no {name!r}; the sandbox's offline pairs are sandbox:pairs.")
    import pyarrow as pa
    import pyarrow.parquet as pq

    from optune import sandbox

    settings, seed = build_settings(config), config.sandbox.build
    path = root / f"pairs-{sandbox.content_hash()[:12]}" / f"{config.sandbox.size}-seed{seed}.parquet"
    if not path.exists():
        rows = []
        for prompt in sandbox.prompts("offline", settings.offline_prompts):
            responses = [writer.write(prompt, seed=seed) for writer in sandbox.OTHERS]
            rows += sandbox.preference_rows(prompt, responses, settings.offline_comparisons, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
    return str(path)


def _prompt_file(name: str, root: Path) -> str:
    if not name.startswith(PREFIX):
        return name
    from optune.sandbox import content_hash
    from optune.sandbox.parts.mixes import sandbox_prompts

    split = name.removeprefix(PREFIX)
    path = root / f"prompts-{content_hash()[:12]}" / f"{split}.parquet"
    with exclusive(path.with_suffix(".lock")):
        if not path.exists():
            unfinished = path.with_suffix(".tmp")
            write_prompts(unfinished, sandbox_prompts(split))
            unfinished.replace(path)
    return str(path)
