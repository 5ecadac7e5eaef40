"""Equality up to the last digits, which differ between processors. Files that differ only there are not rewritten."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from optune.utils.files import read_json, write_json


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal, their floats within 1e-9 (relative, or absolute near 0)."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)
    return a == b


def write_if_new(path: Path, data: Any) -> None:
    """Write JSON to `path`, unless the file there is the same up to last digits."""
    if not (path.exists() and same(read_json(path), data)):
        write_json(path, data)
