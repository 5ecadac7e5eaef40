"""The world `instructions`: English prompts whose constraints can be checked, for a real language model.

Pure functions of text first. A prompt is a task about a topic with one or two constraints (open `prompts.py` first,
then `constraints.py`); its text alone says what to check. Quality is `gold`, a rubric that no model ever trains on;
what it takes from a model, how likely an answer is under the frozen start policy, is a number that `fluency.py`
measures.
Every result computed here carries `VERSION` and `content_hash()`.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from optune.instructions.constraints import KINDS, Constraint
from optune.instructions.gold import gold, quality, satisfied
from optune.instructions.prompts import SIZES, Instruction, prompts, read
from optune.instructions.topics import SPLITS, TOPICS

VERSION = "1"

__all__ = [
    "KINDS",
    "SIZES",
    "SPLITS",
    "TOPICS",
    "VERSION",
    "Constraint",
    "Instruction",
    "content_hash",
    "gold",
    "prompts",
    "quality",
    "read",
    "satisfied",
]


@functools.cache
def content_hash() -> str:
    """SHA-256 of this package's sources, which are also its data: whatever changes here changes it."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_text(encoding="utf-8").encode() + b"\0")
    return digest.hexdigest()
