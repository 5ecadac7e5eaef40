"""Files that can be believed: atomic writes, content hashes, stages that are skipped when their key matches, a lock.

A *stage* turns inputs into one folder of files. Its key is the hash of everything that could change the result: the
configuration fields it reads, its inputs' content hashes, the seed, its own version and the versions of the packages
it runs on. Its folder appears under that key in one rename, or not at all, and holds a `stage.json` that says what it
is; arms of an experiment that share a prefix therefore share its folders exactly. Wall-clock stands under `timing`,
outside every hash.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import math
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import yaml

from optune.types import UserError

PACKAGES = ("torch", "transformers", "trl", "numpy", "pyarrow")
STAGE_FILE = "stage.json"


# --- hashes ----------------------------------------------------------------------------------------------------------


def canonical_json(value: Any) -> str:
    """The one text of a JSON value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def stable_hash(*parts: Any) -> str:
    """SHA-256 (hex) of JSON values; the same on every machine and in every process."""
    return hashlib.sha256(canonical_json(parts).encode("utf-8", "surrogatepass")).hexdigest()


def stable_seed(*parts: Any) -> int:
    """A 63-bit seed for a random stream that depends on `parts` alone."""
    return int(stable_hash(*parts)[:16], 16) >> 1


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of one file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file below `folder`, but for its `stage.json`."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != STAGE_FILE)
    return {p.relative_to(folder).as_posix(): sha256_of(p) for p in files}


def content_hash(path: str | Path) -> str:
    """The identity of an input: a file's or folder's content, or a hub name as it stands."""
    path = Path(path)
    if not path.exists():
        return stable_hash("hub", str(path))
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return _content_hash(path, tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@cache
def _content_hash(path: Path, state: tuple[tuple[Path, int, int], ...]) -> str:
    """`content_hash` of what is there, read once per process as long as its `state` stays (7B weights are 14 GB)."""
    if path.is_file():
        return sha256_of(path)
    pruned = _pruned(path)  # what a stage consisted of stays its identity
    return pruned["digest"] if pruned else stable_hash(hash_files(path))


# --- writing ---------------------------------------------------------------------------------------------------------


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write a file so that a reader sees the old content or the new, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:  # a full disk is not left fuller
        temporary.unlink(missing_ok=True)
    return path


@contextlib.contextmanager
def in_one_rename(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `folder` as the block ends; after a failure `folder` is as it was.

    What an earlier, killed attempt left of it goes first.
    """
    unfinished = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unfinished, folder)


_NUMBERS = re.compile(r"\[\n\s+(?:-?\d[\d.eE+-]*,?\n\s+)+\]")  # over lines, which no JSON string is


def write_text(path: str | Path, text: str) -> Path:
    """`write_bytes` for text, as UTF-8."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> Path:
    """Write readable JSON, lists of numbers on one line; NaN and infinity become null, since JSON has neither."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    return write_text(path, _NUMBERS.sub(lambda numbers: " ".join(numbers[0].split()), text) + "\n")


# What `json.loads` raises for a text that is no JSON, or is nested deeper than anything we write.
NOT_JSON = (ValueError, RecursionError)


def read_json(path: str | Path) -> Any:
    """Read JSON; raises UserError naming the file where it is not JSON."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except NOT_JSON as error:
        raise UserError(f"{path}: not valid JSON ({error}).") from None


def read_object(path: str | Path, *names: str) -> dict[str, Any]:
    """Read a JSON object that has `names`; raises UserError naming the file, and the name it lacks."""
    value = read_json(path)
    absent = [name for name in names if name not in value] if isinstance(value, dict) else ["a JSON object"]
    if absent:
        raise UserError(f"{path}: damaged, as it lacks {absent[0]}; restore it, or move it away to have it made again.")
    return value


def parse_yaml(text: str) -> Any:
    """A YAML text's plain values: no tag makes an object. Raises ValueError, in one line, for what is no such text."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:  # by tag and nesting
        raise ValueError(" ".join(str(error).split())) from None


def read_yaml(path: str | Path) -> Any:
    """Read YAML; raises UserError naming the file where it cannot be read."""
    try:
        return parse_yaml(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid YAML ({error}).") from None


def read_jsonl(path: str | Path) -> list[tuple[int, Any]]:
    """The values of a JSONL file with their line numbers; blank lines are skipped. UserError names a line not JSON."""
    try:
        lines = Path(path).read_text("utf-8").split("\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text.") from None
    values = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                values.append((number, json.loads(line)))
            except NOT_JSON:
                raise UserError(f"{path}, row {number}: not valid JSON.") from None
    return values


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


# --- stages ----------------------------------------------------------------------------------------------------------


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

        `build(folder)` writes the stage's files and returns its counts; `counts["seconds"]`, where it gives them, and
        the stage's wall-clock go to `timing`. A folder that no longer holds what it recorded is set aside and made
        again. Two processes that want the same stage build it once.
        """
        identity = stage_identity(stage, version, fields, inputs, package_versions())
        key = stage_key(identity)
        folder = self.root / stage / key
        with exclusive(self.root / stage / f".{key}.lock"):
            found = self._load(folder)
            if found:
                return found
            with in_one_rename(folder) as unfinished:
                started = time.perf_counter()
                counts = build(unfinished)
                timing = {"wall_s": time.perf_counter() - started, **counts.pop("seconds", {})}
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
    """`hash_files` of a stage's folder; a file that was freed (`prune`) counts as its record has it."""
    return hash_files(folder) | {name: record["files"][name] for name in record.get("pruned", ())}


def set_aside(folder: Path) -> None:
    """Move a damaged folder out of the way; it is kept, and named on stderr."""
    aside = folder.with_name(f"{folder.name}.damaged-{int(time.time())}")
    os.replace(folder, aside)
    print(f"{folder}: its files are not what it recorded; set aside as {aside.name} and made again.", file=sys.stderr)


def prune(folder: Path) -> int:
    """Free a finished stage's weights and keep its record, so that what was made from it stays valid; bytes freed."""
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


def lock(file: IO[Any], wait: bool) -> bool:
    """Take an advisory lock on an open file; False where another process has it and we do not wait.

    It ends with the file's closing or with the process: a dead holder's lock is free at once.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold `path` as a lock; waits for another holder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        lock(file, wait=True)
        yield


@contextlib.contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """One process per run directory: a second one is refused with the first one's identity."""
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
