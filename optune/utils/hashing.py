"""Hashes and seeds that are the same on every machine and in every process."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


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
