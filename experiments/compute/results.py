"""Raw results: one file per arm and seed, which is written once; reading them, and comparing with them.

`results/<preset>/raw/<arm>/seed<k>.json` is the evidence. It is committed when it is finished and never overwritten.
This machine's own results are in `runs/computed/<settings>/<preset>/raw` and are compared with the committed ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from experiments.compute.arms import Arm
from experiments.compute.raw_result import Raw, RawResult
from optune.config import RunConfig, load_config, recipe_settings
from optune.types import UserError
from optune.utils.files import read_json, write_json
from optune.utils.hashing import canonical_json, stable_hash

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
IDENTITY = ("preset", "config", "sandbox")


def raw_path(base: Path, preset: str, arm: str, seed: int) -> Path:
    """Where the raw result of one arm and seed lies below `results/` or `runs/`."""
    return base / preset / "raw" / arm / f"seed{seed}.json"


def facts(result: RawResult) -> dict[str, Any]:
    """A raw result without wall-clock times. Another result reproduces it if these facts are equal."""
    return {name: value for name, value in {**result, **recorded_settings(result)}.items() if name != "timing"}


def recorded_settings(result: RawResult) -> dict[str, Any]:
    """The settings that two results must share to be comparable.

    Options that are newer than a result count with their default, under which a run does what it did before.
    """
    config = RunConfig.model_validate(result["config"]).model_dump()
    packaged = {"packaged_models": result["packaged_models"]} if "packaged_models" in result else {}
    return {**{name: result[name] for name in IDENTITY}, "config": config, **packaged}


def publish(result: RawResult, results: Path) -> str:
    """Write a raw result if there is none; else return whether it reproduces the existing one.

    Returns `new`, `reproduced`, or `differs (...)`. Raises UserError where the committed one is of another sandbox or
    configuration: such results are never mixed.
    """
    path = raw_path(results, result["preset"], result["arm"], result["seed"])
    if not path.exists():
        write_json(path, result)
        return "new"
    committed = read_json(path)
    check_made_alike(committed, result, path)
    mine = facts(result)
    if mine == facts(committed):
        return "reproduced"
    gaps = [
        abs(a["win_score"] - b["win_score"])
        for a, b in zip(result.get("iterations", []), committed.get("iterations", []), strict=True)
        if "win_score" in a
    ]
    if max(gaps, default=0) > 0:
        return f"differs (win score by up to {max(gaps):.2f})"
    theirs = facts(committed)
    unlike = sorted(name for name in mine if mine[name] != theirs.get(name))
    return f"differs (same win scores; other {', '.join(unlike)})"


def committed_results(results: Path, preset: str, arm: str, new: Collection[tuple[str, int]] = ()) -> list[RawResult]:
    """All raw results of an arm except those in `new` (arm, seed), which this machine has just written."""
    results_there = [read_json(path) for path in sorted(raw_path(results, preset, arm, 0).parent.glob("seed*.json"))]
    return [raw for raw in results_there if (arm, raw["seed"]) not in new]


def check_made_alike(committed: RawResult, result: RawResult, path: Path) -> None:
    """Raises UserError where two results are of different presets, configurations or sandboxes."""
    old, new = recorded_settings(committed), recorded_settings(result)
    unlike = [name for name in (*IDENTITY, "packaged_models") if old.get(name) != new.get(name)]
    if unlike:
        raise UserError(
            f"{path} was made with another {' and '.join(unlike)}; results of both are never mixed: "
            "remove the old ones first, or go back to what they were made with."
        )


def read_raw(base: Path, preset: str, arms: Sequence[Arm], seeds: Sequence[int]) -> Raw:
    """Raw results by arm name, in order of seeds: those of `seeds` that every arm has, all of one world and preset."""
    by_arm: dict[str, dict[int, RawResult]] = {}
    for arm in arms:
        files = sorted((base / preset / "raw" / arm.name).glob("seed*.json"))
        results = [_read(file, file.stat().st_mtime_ns) for file in files]
        by_arm[arm.name] = {result["seed"]: result for result in results}
    shared = set.intersection(*(set(by_seed) for by_seed in by_arm.values()))
    chosen = sorted(shared & set(seeds))
    if not chosen:
        raise UserError(
            f"No seed in {base / preset / 'raw'} has a result for every arm; run the figure's target first."
        )
    varied = set().union(*(varied_by(arm, preset) for arm in arms))
    made_with = set()
    for arm in arms:
        made_with |= {canonical_json(_shared_settings(by_arm[arm.name][seed], varied)) for seed in chosen}
    if len(made_with) > 1:
        raise UserError(f"{base / preset / 'raw'} mixes results of other sandboxes or settings; remove the old ones.")
    return {arm: [by_seed[seed] for seed in chosen] for arm, by_seed in by_arm.items()}


def read_by_seeds(base: Path, preset: str, arms: Sequence[Arm], seeds: Sequence[int]) -> Raw:
    """`read_raw` of arms that may be run on different seeds. Arms with the same seeds are read together."""
    groups: dict[tuple[int, ...], list[Arm]] = {}
    for arm in arms:
        groups.setdefault(arm.seeds, []).append(arm)
    raw: Raw = {}
    for members in groups.values():
        raw |= read_raw(base, preset, members, seeds)
    return raw


@cache
def _read(path: Path, _: int) -> RawResult:
    """A raw result, read once per change of its file: many figures share an arm."""
    return read_json(path)


def varied_by(arm: Arm, preset: str) -> set[str]:
    """The options that an arm sets on purpose: its own and its recipe's, as `section.option`.

    If the preset has no such section, the whole section is listed.
    """
    options_set = {name for name, _ in arm.overrides}
    if arm.recipe:
        plain = load_config(preset).model_dump()
        for section, options in recipe_settings(arm.recipe, preset).items():
            parts = isinstance(options, dict) and section in plain
            options_set |= {f"{section}.{option}" for option in options} if parts else {section}
        options_set.add("recipe")
    return options_set


def _shared_settings(result: RawResult, varied: set[str]) -> dict[str, Any]:
    """The configuration and world of a result without the fields that arms vary on purpose."""
    settings = recorded_settings(result)
    for name in varied:
        *sections, field = name.split(".")
        part = settings["config"]
        for section in sections:
            part = part.get(section) or {}
        part.pop(field, None)
    return settings


def builds(results: Iterable[RawResult]) -> list[tuple[int, list[list[str]]]]:
    """For each seed of each world, the arms of each build of its baseline. Two machines make two builds."""
    by_world: dict[tuple[int, str], dict[str, list[str]]] = {}
    for raw in results:
        if raw.get("baseline", {}).get("gold"):
            world = (raw["seed"], stable_hash(raw["sandbox"], raw["config"]["evaluation"]))
            by_world.setdefault(world, {}).setdefault(stable_hash(raw["baseline"]["gold"]), []).append(raw["arm"])
    return [(seed, list(arms.values())) for (seed, _), arms in sorted(by_world.items())]


def mixed_builds(by_seed: Iterable[tuple[int, list[list[str]]]]) -> list[str]:
    """Seeds with results of more than one build, whose arms are no pairs to compare."""
    return [
        f"seed {seed}: {' / '.join(f'{len(arms)} arms such as {min(arms)}' for arms in of)}"
        for seed, of in by_seed
        if len(of) > 1
    ]
