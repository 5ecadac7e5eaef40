"""Raw results: one file per arm and seed, written once, and what may be read from them.

`results/<preset>/raw/<arm>/seed<k>.json` is the evidence; it is committed as it finishes and never overwritten. What a
machine computes itself lies in `runs/computed/<settings>/<preset>/raw` and is compared with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from optune.artefacts import canonical_json, read_json, write_json
from optune.types import UserError

ROOT = Path(__file__).resolve().parents[1]
IDENTITY = ("preset", "config", "sandbox")


def raw_path(base: Path, preset: str, arm: str, seed: int) -> Path:
    """Where the raw result of one arm and seed lies below `results/` or `runs/`."""
    return base / preset / "raw" / arm / f"seed{seed}.json"


def facts(result: dict[str, Any]) -> dict[str, Any]:
    """A raw result without its wall-clock: what must be equal for a result to count as reproduced."""
    return {name: value for name, value in result.items() if name != "timing"}


def publish(result: dict[str, Any], results: Path) -> str:
    """Write a raw result where none is; else say whether it reproduces the one that is there.

    Returns `new`, `reproduced`, or `differs (...)`. Raises UserError where the committed one is of another sandbox or
    configuration: such results are never mixed.
    """
    path = raw_path(results, result["preset"], result["arm"], result["seed"])
    if not path.exists():
        write_json(path, result)
        return "new"
    committed = read_json(path)
    check_identity(committed, result, path)
    mine = facts(result)
    if mine == facts(committed):
        return "reproduced"
    gaps = [
        abs(a["win_score"] - b["win_score"]) for a, b in zip(result["iterations"], committed["iterations"], strict=True)
    ]
    if max(gaps) > 0:
        return f"differs (win score by up to {max(gaps):.2f})"
    unlike = sorted(name for name in mine if mine[name] != committed.get(name))
    return f"differs (same win scores; other {', '.join(unlike)})"


def check_identity(committed: dict[str, Any], result: dict[str, Any], path: Path) -> None:
    """Raises UserError where two results are of different presets, configurations or sandboxes."""
    unlike = [name for name in IDENTITY if committed[name] != result[name]]
    if unlike:
        raise UserError(
            f"{path} was made with another {' and '.join(unlike)}; results of both are never mixed: "
            "remove the old ones first, or go back to what they were made with."
        )


def read_raw(base: Path, preset: str, arms: Iterable[str], seeds: Sequence[int]) -> dict[str, list[dict]]:
    """Raw results by arm, in order of seeds: those of `seeds` that every arm has, all of one sandbox."""
    found: dict[str, dict[int, dict]] = {}
    for arm in arms:
        files = sorted((base / preset / "raw" / arm).glob("seed*.json"))
        found[arm] = {result["seed"]: result for result in map(read_json, files)}
    shared = set.intersection(*(set(by_seed) for by_seed in found.values()))
    chosen = sorted(shared & set(seeds))
    if not chosen:
        raise UserError(
            f"No seed in {base / preset / 'raw'} has a result for every arm; run the figure's target first."
        )
    made_with = {canonical_json(_shared_settings(found[arm][seed])) for arm in found for seed in chosen}
    if len(made_with) > 1:
        raise UserError(f"{base / preset / 'raw'} mixes results of other sandboxes or settings; remove the old ones.")
    return {arm: [by_seed[seed] for seed in chosen] for arm, by_seed in found.items()}


def _shared_settings(result: dict[str, Any]) -> dict[str, Any]:
    """The configuration and world of a result without what arms differ in: selection, and the loss's name."""
    config = {name: value for name, value in result["config"].items() if name != "selection"}
    loss = {name: value for name, value in config.get("loss", {}).items() if name != "name"}
    return {"config": {**config, "loss": loss}, "sandbox": result["sandbox"]}
