"""Atomic writes, readers that name the file in their errors, and advisory locks."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import yaml

from optune.types import UserError


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
    finally:  # after a failure nothing stays on a disk that may be full
        temporary.unlink(missing_ok=True)
    return path


@contextlib.contextmanager
def in_one_rename(folder: Path) -> Iterator[Path]:
    """An empty folder to fill; it is renamed to `folder` at the block's end. A failure leaves `folder` unchanged.

    Leftovers of an earlier, killed attempt are deleted first.
    """
    unfinished = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unfinished, folder)


_NUMBERS = re.compile(r"\[\n\s+(?:-?\d[\d.eE+-]*,?\n\s+)+\]")  # over lines, which no JSON string is


def write_text(path: str | Path, text: str) -> Path:
    """`write_bytes` for text, as UTF-8; half a character (a lone surrogate) is written as its JSON escape."""
    return write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: Any) -> Path:
    """Write readable JSON, lists of numbers on one line; NaN and infinity become null, since JSON has neither."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    return write_text(path, _NUMBERS.sub(lambda numbers: " ".join(numbers[0].split()), text) + "\n")


# What `json.loads` raises for a text that is no JSON, or is nested deeper than anything we write.
NOT_JSON = (ValueError, RecursionError)


def read_json(path: str | Path) -> Any:
    """Read JSON; raises UserError naming the file where it is not JSON."""
    try:
        return json.loads(Path(path).read_text("utf-8-sig"))
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
    """The plain values of a YAML text; tags never create objects. Raises ValueError, in one line, if it is no YAML."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:  # by tag and nesting
        raise ValueError(" ".join(str(error).split())) from None


def read_yaml(path: str | Path) -> Any:
    """Read YAML; raises UserError naming the file where it cannot be read."""
    try:
        return parse_yaml(Path(path).read_text("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid YAML ({error}).") from None


def read_jsonl(path: str | Path) -> list[tuple[int, Any]]:
    """The values of a JSONL file with their line numbers; see `jsonl_rows`."""
    return list(jsonl_rows(path))


def jsonl_rows(path: str | Path) -> Iterator[tuple[int, Any]]:
    """Line numbers and values, one after the other. Blank lines and a byte-order mark are skipped.

    Only a line feed ends a line: texts hold the other line ends of Unicode. Raises UserError naming a line that is not
    JSON.
    """
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if line.strip():
                    yield number, _line(path, number, line)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None


def _line(path: str | Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError:
        utf16 = number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        raise UserError(f"{path}: not UTF-8 text{' but UTF-16: save it as UTF-8' * utf16}.") from None
    except NOT_JSON:
        raise UserError(f"{path}, row {number}: not valid JSON.") from None


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def lock(file: IO[Any], wait: bool) -> bool:
    """Take an advisory lock on an open file. Returns False if another process has it and `wait` is false.

    Closing the file or ending the process frees it, so the lock of a killed process is free at once.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock `path` for the length of a block, waiting until it is free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        lock(file, wait=True)
        yield
