"""A preset for experiments: loaded once; it gives each arm's configuration and the folders of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.compute.arms import Arm, build_of
from experiments.compute.results import RESULTS, ROOT, raw_path
from optune import instructions
from optune.config import RunConfig, load_config
from optune.instructions.parts.names import resolve_instructions
from optune.loop.stages import VERSIONS
from optune.packaged_models.names import packaged_hashes, resolve_packaged
from optune.store import package_versions
from optune.types import UserError
from optune.utils.hashing import stable_hash

RUNS = ROOT / "runs"


@dataclass(frozen=True)
class Setting:
    """A preset, with the overrides of a trial. runs: where working directories lie.

    Overridden runs are trials: they stay below `runs` and are not compared with the committed results.
    """

    preset: str
    overrides: tuple[str, ...] = ()
    runs: Path = RUNS

    @cached_property
    def config(self) -> RunConfig:
        """The preset with the overrides. Raises UserError for a value that is none."""
        return load_config(self.preset, overrides=self.overrides)

    @cached_property
    def base(self) -> Path:
        """The folder of this machine's results. Other settings, sandboxes or packages get another folder."""
        made_with = (self.config.model_dump(), world(self.config), VERSIONS, package_versions())
        return self.runs / "computed" / stable_hash(*made_with)[:12]

    @property
    def work_dir(self) -> Path:
        """The folder of all arms' stages, answers and judges' replies."""
        return self.runs / self.preset

    def committed(self, arm: str, seed: int) -> Path:
        """The path of the committed raw result of an arm and seed, whether or not it exists."""
        return raw_path(RESULTS, self.preset, arm, seed)

    def computed(self, arm: str, seed: int) -> Path:
        """The path of this machine's raw result of an arm and seed, whether or not it exists."""
        return raw_path(self.base, self.preset, arm, seed)

    def run_dir(self, arm: str, seed: int) -> Path:
        """The run directory of an arm and seed on this machine."""
        return self.base / self.preset / "arms" / arm / f"seed{seed}"

    def arm_config(self, arm: Arm, seed: int) -> RunConfig:
        """The preset with the arm's recipe and the overrides, then the arm's changes, its seed and sandbox build."""
        names = ("seed", *(name for name, _ in arm.overrides))
        given = {override.partition("=")[0].strip() for override in self.overrides}
        taken = [name for name in names if name in given]
        if taken:
            raise UserError(f"An experiment's arms and seeds set {taken[0]} themselves; override something else.")
        config = load_config(self.preset, overrides=self.overrides, recipe=arm.recipe) if arm.recipe else self.config
        changes: dict[str, Any] = {**dict(arm.overrides), "seed": seed}
        if self.world:
            changes[f"{self.world}.build"] = self.build_of(seed)
        return config.with_overrides(changes)

    @property
    def world(self) -> str | None:
        """The section of the world whose models are built by seed; None where the preset has none."""
        return next((name for name in ("sandbox", "instructions") if getattr(self.config, name)), None)

    def build_of(self, seed: int) -> int | None:
        """The build of the preset's world that a seed rests on; None without such a world."""
        return build_of(seed, self.world) if self.world else None

    def resolve(self, config: RunConfig) -> RunConfig:
        """`sandbox:`, `packaged:` and `instructions:` names as paths; models are built or fetched on first use."""
        config = resolve_instructions(resolve_packaged(config), self.runs / "instructions")
        if not config.sandbox:
            return config
        from optune.sandbox.parts.names import resolve_sandbox

        return resolve_sandbox(config, self.runs / "sandbox")

    def resolve_arm(self, arm: Arm, seed: int) -> RunConfig:
        """`resolve` of an arm's configuration; without the section `evaluation` where its probe needs no baseline."""
        config = self.arm_config(arm, seed)
        if arm.probe and self.world in arm.probe.unjudged:
            config = config.with_overrides({"evaluation": None})
        return self.resolve(config)

    def check_arms(self, arms: Sequence[Arm]) -> None:
        """Raises UserError for an arm that reads what this preset's world has not, before anything is computed."""
        for arm in arms:
            if not arm.fits(self.world):
                raise UserError(
                    f"Arm {arm.name} knows gold or prompts of a world that preset {self.preset!r} has not: there is no "
                    "sandbox in it."
                )


def world(config: RunConfig) -> dict[str, Any] | None:
    """The sandbox that a result was made with: the language, the recipe of its models, and the judge."""
    if not config.sandbox:
        return None
    from eval.judges import judge_of
    from optune.sandbox import VERSION, content_hash
    from optune.sandbox.parts.models import recipe_hash
    from optune.sandbox.parts.names import build_settings

    return {
        "version": VERSION,
        "hash": content_hash(),
        "build": recipe_hash(build_settings(config)),
        "judge": judge_of(config.evaluation.judge).chat.model,
    }


def made_with(config: RunConfig) -> dict[str, Any]:
    """The settings that two results must share to be comparable."""
    facts = config.model_dump(exclude={"seed": True, "sandbox": {"build"}, "instructions": {"build"}})
    made = {"preset": config.preset, "config": facts, "sandbox": world(config)}
    if config.evaluation and config.evaluation.judge.name == "instructions":
        made["instructions"] = {"version": instructions.VERSION, "hash": instructions.content_hash()}
    packaged = packaged_hashes(config)
    return {**made, "packaged_models": packaged} if packaged else made
