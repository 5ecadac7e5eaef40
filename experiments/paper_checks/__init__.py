"""Whether the paper's numbers agree with one another: one small function per check, grouped by subject.

A check takes `paper` (the files of `results/published` by name), recomputes something, and returns a Finding. Its
docstring's first line says what is recomputed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Paper = Mapping[str, Any]
Verdict = Literal["consistent", "unsupported", "inconsistent"]


@dataclass(frozen=True)
class Finding:
    """What one check found.

    `consistent`: the numbers agree. `inconsistent`: they contradict one another, a definition or a published fact.
    `unsupported`: no contradiction, but a statement goes further than the numbers given for it. `meaning`: a sentence.
    """

    source: str
    published: str
    recomputed: str
    verdict: Verdict
    meaning: str


def finding(
    source: str,
    published: str,
    recomputed: str,
    agrees: bool,
    *,
    holds: str,
    fails: str,
    otherwise: Verdict = "inconsistent",
) -> Finding:
    """A Finding that is consistent, with the sentence `holds`, or `otherwise`, with the sentence `fails`."""
    return Finding(source, published, recomputed, "consistent" if agrees else otherwise, holds if agrees else fails)
