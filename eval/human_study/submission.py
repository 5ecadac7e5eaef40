"""The content of a returned file of any format, before it is checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One rating as the file states it; `number` counts from 1 as the file does."""

    number: int
    item: str
    digest: str
    choice: str
    rated_at: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """One returned file. `page_digest` is None where the format has no page (Label Studio, CSV)."""

    path: Path
    study: str
    rater: str
    page_digest: str | None
    rows: tuple[Row, ...]
    simulated: bool = False
