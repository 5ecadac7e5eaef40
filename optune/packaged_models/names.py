"""`packaged:` names of a configuration, as folders: the loop itself does not know packaged models."""

from __future__ import annotations

from optune.config import RunConfig
from optune.packaged_models.cache import packaged_model
from optune.store import content_hash

PREFIX = "packaged:"


def resolve_packaged(config: RunConfig) -> RunConfig:
    """The configuration with folders in the place of `packaged:` names; the same one where it has none."""
    folders = {field: str(packaged_model(name)) for field, name in packaged_names(config).items()}
    return config.with_overrides(folders) if folders else config


def checkpoint_of(model: str) -> str:
    """The folder of a `packaged:` name; any other checkpoint as it is."""
    return str(packaged_model(model.removeprefix(PREFIX))) if model.startswith(PREFIX) else model


def packaged_names(config: RunConfig) -> dict[str, str]:
    """Field -> packaged model, of every checkpoint that the configuration names so."""
    named = {"policy.model": config.policy.model, "reward.model": config.reward.model}
    if config.evaluation:
        named["evaluation.baseline"] = config.evaluation.baseline
    return {field: name.removeprefix(PREFIX) for field, name in named.items() if (name or "").startswith(PREFIX)}


def packaged_hashes(config: RunConfig) -> dict[str, str]:
    """Packaged model -> the hash of its bytes, for a result that was made with it; fetches what is not there yet."""
    return {name: content_hash(packaged_model(name)) for name in sorted(set(packaged_names(config).values()))}
