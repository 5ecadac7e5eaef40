"""Stages that are skipped when their key matches, the content hashes of their folders, and the lock of a run directory.

A *stage* turns inputs into one folder of files. Its key is the hash of everything that could change the result: the
configuration fields it reads, its inputs' content hashes, the seed, its own version and the versions of the packages
it runs on. Its folder appears under that key in one rename, or not at all, and holds a `stage.json` that says what it
is; arms of an experiment that share a prefix therefore share its folders exactly. Wall-clock stands under `timing`,
outside every hash.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from optune.types import UserError
from optune.utils.files import exclusive, in_one_rename, lock, read_json, read_object, write_json
from optune.utils.hashing import sha256_of, stable_hash
from optune.utils.memory import memory_peak

PACKAGES = ("torch", "transformers", "trl", "numpy", "pyarrow")
STAGE_FILE = "stage.json"


def hash_files(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file below `folder`, but for its `stage.json`."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != STAGE_FILE)
    return {p.relative_to(folder).as_posix(): sha256_of(p) for p in files}


def content_hash(path: str | Path) -> str:
    """The hash of an input: of a file's or folder's content, or of a hub name as it is written."""
    path = Path(path)
    if not path.exists():
        return stable_hash("hub", str(path))
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return _content_hash(path, tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@cache
def _content_hash(path: Path, state: tuple[tuple[Path, int, int], ...]) -> str:
    """`content_hash`, computed again only if sizes or times (`state`) change: 7B weights are 14 GB to read."""
    if path.is_file():
        return sha256_of(path)
    pruned = _pruned(path)  # a pruned stage keeps the digest that it had with its weights
    return pruned["digest"] if pruned else stable_hash(hash_files(path))


@dataclass(frozen=True)
class Artefact:
    """One finished stage: where its files lie, what they are, what was counted and how long it took."""

    path: Path
    key: str
    digest: str
    counts: dict[str, Any]
    timing: dict[str, float]
    reused: bool

    def __truediv__(self, name: str) -> Path:
        return self.path / name


@cache
def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a stage's result."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def stage_identity(
    stage: str, version: int, fields: Mapping[str, Any], inputs: Mapping[str, str], packages: Mapping[str, str]
) -> dict[str, Any]:
    """Everything that could change a stage's result; `stage_key` is its hash."""
    return {
        "stage": stage,
        "version": version,
        "fields": dict(fields),
        "inputs": dict(inputs),
        "packages": dict(packages),
    }


def stage_key(identity: Mapping[str, Any]) -> str:
    """The key of a `stage_identity`: the name of its folder."""
    return stable_hash(identity)[:20]


class StageStore:
    """Folders of finished stages below `root`, by stage name and key."""

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def run(
        self,
        stage: str,
        build: Callable[[Path], dict[str, Any]],
        *,
        fields: Mapping[str, Any],
        inputs: Mapping[str, str],
        version: int = 1,
    ) -> Artefact:
        """The stage's artefact: the one that is there under the same key, or else the one `build` makes now.

        `build(folder)` writes the stage's files and returns its counts; `counts["seconds"]`, where it gives them, the
        stage's wall-clock and its memory peak go to `timing`. A folder that no longer holds what it recorded is set
        aside and made again. Two processes that want the same stage build it once.
        """
        identity = stage_identity(stage, version, fields, inputs, package_versions())
        key = stage_key(identity)
        folder = self.root / stage / key
        with exclusive(self.root / stage / f".{key}.lock"):
            there = self._load(folder)
            if there:
                return there
            with in_one_rename(folder) as unfinished:
                started = time.perf_counter()
                with memory_peak() as peak:
                    counts = build(unfinished)
                timing = {"wall_s": time.perf_counter() - started, **counts.pop("seconds", {}), **peak}
                files = hash_files(unfinished)
                record = {**identity, "key": key, "digest": stable_hash(files), "files": files, "counts": counts}
                write_json(unfinished / STAGE_FILE, {**record, "timing": timing})
        return Artefact(folder, key, record["digest"], counts, timing, reused=False)

    def _load(self, folder: Path) -> Artefact | None:
        if not folder.exists():
            return None
        if not intact(folder, "key", "digest", "counts", "timing"):
            set_aside(folder)
            return None
        record = read_json(folder / STAGE_FILE)
        return Artefact(folder, record["key"], record["digest"], record["counts"], record["timing"], reused=True)


def intact(folder: Path, *names: str) -> bool:
    """Whether a folder holds the very files that its `stage.json` records as there, and that record has `names`."""
    try:
        record = read_object(folder / STAGE_FILE, "files", *names)
    except UserError:
        return False
    return record["files"] == files_of(folder, record) and record.get("key", folder.name) == folder.name


def files_of(folder: Path, record: Mapping[str, Any]) -> dict[str, str]:
    """`hash_files` of a stage's folder. For pruned files the recorded hash is used."""
    return hash_files(folder) | {name: record["files"][name] for name in record.get("pruned", ())}


def set_aside(folder: Path) -> None:
    """Rename a damaged folder, so that the stage can be made again. Nothing is deleted; stderr names the new name."""
    aside = folder.with_name(f"{folder.name}.damaged-{int(time.time())}")
    os.replace(folder, aside)
    print(f"{folder}: its files are not what it recorded; set aside as {aside.name} and made again.", file=sys.stderr)


def prune(folder: Path) -> int:
    """Delete a finished stage's weights and keep its record, so that later stages stay valid. Returns bytes freed."""
    record = read_object(folder / STAGE_FILE, "files")
    weights = sorted(name for name in record["files"] if name.endswith(".safetensors"))
    write_json(folder / STAGE_FILE, {**record, "pruned": weights})
    freed = 0
    for path in (folder / name for name in weights):
        freed += path.stat().st_size if path.exists() else 0
        path.unlink(missing_ok=True)
    return freed


def _pruned(folder: Path) -> dict[str, Any] | None:
    """The record of a stage whose weights were freed."""
    try:
        return read_object(folder / STAGE_FILE, "digest", "pruned")
    except UserError:  # a folder that is no such stage
        return None


@contextlib.contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """One process per run directory. A second one gets a UserError that names the process at work."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "lock").touch()
    except OSError as error:
        raise UserError(f"{run_dir}: cannot be used as a run directory ({error.strerror}).") from None
    with open(run_dir / "lock", "a+") as file:
        if not lock(file, wait=False):
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(f"{run_dir}: in use by {holder}; wait for it, or give another run directory.")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
        yield
