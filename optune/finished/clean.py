"""`python -m optune clean-runs`: what finished and stopped runs can do without, named with its size, then freed.

That is the weights of every policy but a run's newest and its best on validation, and what interrupted or damaged
stages have left. Pairs, histories, rewards, replies and records stay, so that nothing has to be computed or paid for
again to read a result. A store that several runs share is left alone: another run may start from any policy in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from optune.loop.held_out import best_policy
from optune.store import STAGE_FILE, prune, run_lock
from optune.types import UserError
from optune.utils.files import read_object


@dataclass(frozen=True)
class Item:
    """Something that can be freed: its bytes, and why it is not needed."""

    path: Path
    size: int
    why: str


def clean_runs(root: Path, free: bool) -> None:
    """Name what can be freed below `root`, and free it if told so. Runs in use are named and left alone."""
    total = 0
    for run_dir in _run_dirs(root):
        try:
            with run_lock(run_dir):
                for item in spare(run_dir):
                    print(f"{item.size / 1e6:12,.1f} MB  {item.path}  ({item.why})")
                    total += item.size
                    if free:
                        _free(item)
        except UserError as error:
            print(f"left alone: {error}")
    told = "freed" if free else "would be freed; add ARGS=--yes to free it"
    print(f"{total / 1e6:12,.1f} MB  {told}")


def spare(run_dir: Path) -> list[Item]:
    """What a run directory with stages of its own can do without."""
    stages = read_object(run_dir / "manifest.json", "stages")["stages"]
    trained = [Path(e["path"]) for e in stages if e["stage"] == "train"]
    store = run_dir / "stages"
    items = []
    best = best_policy(stages)
    for folder in trained[:-1]:
        if str(folder) == best:
            continue
        size = sum(p.stat().st_size for p in folder.rglob("*.safetensors"))
        if size and store.resolve() in folder.resolve().parents:
            items.append(Item(folder, size, "weights of an earlier iteration"))
    for folder in sorted([*store.glob("*/*.damaged-*"), *store.glob("*/.*.tmp")]):
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        items.append(Item(folder, size, "damaged" if ".damaged-" in folder.name else "interrupted"))
    return items


def _run_dirs(root: Path) -> Iterator[Path]:
    return (path.parent for path in sorted(root.rglob("manifest.json")) if (path.parent / "stages").is_dir())


def _free(item: Item) -> None:
    if (item.path / STAGE_FILE).exists() and ".damaged-" not in item.path.name:
        prune(item.path)
    else:
        shutil.rmtree(item.path)
