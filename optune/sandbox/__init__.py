"""The embedded world: a small language with gradable tasks, for runs that need no network, key or GPU.

Pure functions of text and seeds. Quality is `gold`, a rubric that no model ever trains on: the reward model and the
offline baseline see only noisy preferences sampled from it. Every result computed here carries `VERSION` and
`content_hash()`.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from optune.sandbox.demonstrations import OTHERS, TEACHER, Writer, demonstrations
from optune.sandbox.families import FAMILIES
from optune.sandbox.gold import gold
from optune.sandbox.preferences import preference_rows, prefers_first
from optune.sandbox.prompts import SIZES, prompts
from optune.sandbox.words import VOCABULARY

VERSION = "1"

__all__ = [
    "FAMILIES",
    "OTHERS",
    "SIZES",
    "TEACHER",
    "VERSION",
    "VOCABULARY",
    "Writer",
    "content_hash",
    "demonstrations",
    "gold",
    "preference_rows",
    "prefers_first",
    "prompts",
]


@functools.cache
def content_hash() -> str:
    """SHA-256 of this package's sources, which are also its data: whatever changes here changes it."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_text(encoding="utf-8").encode() + b"\0")
    return digest.hexdigest()
