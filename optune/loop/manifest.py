"""`manifest.json` of a run: its configuration, and its stages as they finish."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from optune.config import OPERATIONAL, RunConfig, differences, resources
from optune.store import Artefact, content_hash
from optune.types import UserError
from optune.utils.files import read_object, write_json


class StageEntry(TypedDict):
    """A finished stage as the manifest lists it."""

    iteration: int
    stage: str
    path: str
    key: str
    digest: str
    counts: dict[str, Any]
    timing: dict[str, float]  # seconds by name, and memory peaks in 10^9 bytes


class ToldEntry(StageEntry):
    """A stage as `on_stage` gets it.

    reused: it was taken from the store. told: sentences for the user that follow from it (see `held_out.py`).
    """

    reused: bool
    told: NotRequired[list[str]]


def entry_of(iteration: int, stage: str, artefact: Artefact) -> StageEntry:
    """How the manifest lists a stage whose result is `artefact`."""
    return {
        "iteration": iteration,
        "stage": stage,
        "path": str(artefact.path),
        "key": artefact.key,
        "digest": artefact.digest,
        "counts": artefact.counts,
        "timing": artefact.timing,
    }


def read_manifest(run_dir: Path) -> dict[str, Any]:
    """`config` and `stages` of a run. Raises UserError naming the file where it cannot be such a list."""
    manifest = read_object(run_dir / "manifest.json", "config", "stages")
    parts = {"config": dict, "stages": list, "contents": dict}
    if any(not isinstance(manifest.get(name, kind()), kind) for name, kind in parts.items()):
        raise UserError(f"{run_dir / 'manifest.json'}: damaged; restore it, or move it away to have it made again.")
    return manifest


def read_run(run_dir: Path) -> dict[str, Any]:
    """`read_manifest` of a run of the loop. Raises UserError for the folder of a start model's training."""
    manifest = read_manifest(run_dir)
    if "command" in manifest["config"]:
        raise UserError(
            f"{run_dir}: holds a model that `optune {manifest['config']['command']}` trained, not a run; its card and "
            "manifest.json there say what was measured."
        )
    return manifest


class Manifest:
    """A run's list of its stages. config: what decides its results, as JSON. contents: as `contents_of` gives them.

    Raises UserError where `run_dir` holds a run of another configuration. A model or file that lies elsewhere now is
    none, if its content is the same.
    """

    def __init__(self, config: dict[str, Any], run_dir: Path, contents: Mapping[str, str] | None = None):
        self.path, self.config, self.contents = run_dir / "manifest.json", config, dict(contents or {})
        self.entries: list[StageEntry] = []
        self.held_out: dict[str, Any] = {}  # the best policy so far, and what was told (see `held_out.py`)
        self.listed = 0  # stages that it had before
        if not self.path.exists():
            return
        before = read_manifest(run_dir)
        self.listed = len(before["stages"])
        before["config"].pop("evaluation", None)  # earlier versions listed it, though it decides nothing in a run
        known = before.get("contents", {}).items()
        moved = [name for name, content in known if self.contents.get(name) == content]
        changed = [
            line
            for line in differences(before["config"], self.config)
            if not line.startswith(tuple(f"{name}: " for name in moved))
        ]
        if all(line.startswith("reward.") for line in changed) and _sampled_only(before):
            changed = []  # what was sampled is any reward's; what was scored is kept in the store
        if changed:
            raise UserError(
                f"{run_dir} was made with another configuration ({'; '.join(changed)}): "
                "nothing was changed; give another run directory, or the old settings."
            )

    def add(self, entry: StageEntry) -> None:
        """List one more stage. A continued run writes the file only once it has as many stages as before."""
        self.entries.append(entry)
        if len(self.entries) >= self.listed:
            held_out = {"held_out": self.held_out} if self.held_out else {}
            contents = {"contents": self.contents} if self.contents else {}
            write_json(self.path, {"config": self.config, **contents, "stages": self.entries, **held_out})


def _sampled_only(manifest: dict[str, Any]) -> bool:
    """Whether a run has sampled without a reward and trained nothing, so that another reward may continue it."""
    written = (manifest["config"].get("prompts") or {}).get("synthetic")
    return not written and {entry["stage"] for entry in manifest["stages"]} <= {"prompts", "select", "generate"}


def contents_of(config: RunConfig) -> dict[str, str]:
    """Field -> hash, of each model and file of a configuration that is on this machine."""
    return {name: content_hash(value) for name, value in resources(config).items() if Path(value).exists()}


def results_config(config: RunConfig) -> dict[str, Any]:
    """The configuration without the options that cannot change results, such as those of engines not in use."""
    fields = config.model_dump(exclude=OPERATIONAL)
    used = {config.generation.engine} | ({"vllm"} if config.generation.engine == "ray" else set())
    for engine in {"server", "vllm", "ray"} - used:
        fields["generation"].pop(engine, None)
    if config.launch and config.launch.mode == "process":
        fields.pop("launch")
    return fields
