"""Replies that were paid for: one JSON line each, appended as they come, believed only when whole.

A line is written the moment its reply arrives (it then survives a killed process) and counts once it has been synced
(it then survives a power cut). Each line carries a checksum of itself. The last line may be torn by a kill: it is set
aside in a file beside the log, and its call is asked again. Damage anywhere else is refused, never used or dropped.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from optune.types import UserError
from optune.utils.files import NOT_JSON, lock


@dataclass(frozen=True, slots=True)
class Reply:
    """What an endpoint answered to the call `key`; `text` is None where it never did, and `error` then says why.

    final: asking the same again would bring the same failure. unmetered: tokens were used that nobody has reported.
    """

    key: str
    text: str | None
    error: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    attempts: int = 1
    logprobs: Any = None
    final: bool = False
    unmetered: bool = False

    @property
    def answered(self) -> bool:
        return self.text is not None

    @property
    def settled(self) -> bool:
        """Whether there is nothing to ask again: an answer, or a failure for good."""
        return self.answered or self.final


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an endpoint reported, and the number of replies for which it reported none."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    unreported: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @classmethod
    def of(cls, reply: Reply) -> Usage:
        unknown = None in (reply.prompt_tokens, reply.completion_tokens) and (reply.answered or reply.unmetered)
        return cls(reply.prompt_tokens or 0, reply.completion_tokens or 0, int(unknown))


class ReplyLog:
    """The replies in one JSONL file, by key. Open for one process at a time; a context manager.

    `replies` holds the latest answer per key, or the latest failure where there was never an answer. `usage` holds what
    all lines of a key used, those of failed attempts and of answers that were asked for again too.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.replies: dict[str, Reply] = {}
        self.usage: dict[str, Usage] = {}

    def __enter__(self) -> ReplyLog:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = open(self.path, "a+b", buffering=0)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be opened for writing ({error.strerror}).") from None
        try:
            if not lock(self._file, wait=False):
                raise UserError(f"{self.path}: another process is writing to it; wait until it has ended.")
            self._load()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, reply: Reply) -> None:
        """Write one line at once. Raises UserError on a full disk, leaving no part of the line behind."""
        line = _encode(reply)
        try:
            written = os.write(self._file.fileno(), line)
            reason = "the disk is full"
        except OSError as error:
            written, reason = 0, error.strerror
        if written != len(line):
            os.ftruncate(self._file.fileno(), self._size)
            raise UserError(f"{self.path}: cannot be written ({reason}); what was answered before is kept.")
        self._size += written

    def sync(self) -> None:
        """Return when every appended line is on the disk."""
        os.fsync(self._file.fileno())

    def count(self, reply: Reply) -> None:
        """Let a synced reply count; a failure never replaces an answer."""
        self.usage[reply.key] = self.usage.get(reply.key, Usage()) + Usage.of(reply)
        if reply.answered or not self.answered(reply.key):
            self.replies[reply.key] = reply

    def answered(self, key: str) -> bool:
        return key in self.replies and self.replies[key].answered

    def settled(self, key: str) -> bool:
        return key in self.replies and self.replies[key].settled

    def _load(self) -> None:
        self._file.seek(0)
        data = self._file.read()
        self._size = data.rfind(b"\n") + 1
        if self._size < len(data):
            torn = self.path.with_name(f"{self.path.name}.torn")
            with open(torn, "ab") as aside:
                aside.write(data[self._size :] + b"\n")
            self._file.truncate(self._size)
        for number, line in enumerate(data[: self._size].splitlines(), start=1):
            reply = _decode(line)
            if reply is None:
                raise UserError(
                    f"{self.path}: line {number} is not as it was written; move that line elsewhere to ask again for "
                    "its reply, or restore the file."
                )
            self.count(reply)


def _encode(reply: Reply) -> bytes:
    values = ((f.name, getattr(reply, f.name)) for f in fields(reply))
    body = json.dumps({name: value for name, value in values if value is not None and value is not False})
    return f'{{"crc": {zlib.crc32(body.encode())}, "reply": {body}}}\n'.encode()


def _decode(line: bytes) -> Reply | None:
    try:
        row = json.loads(line)
        body = line.decode().split('"reply": ', 1)[1][:-1]
        return Reply(**{"text": None, **row["reply"]}) if row["crc"] == zlib.crc32(body.encode()) else None
    except (*NOT_JSON, KeyError, TypeError, IndexError):
        return None
