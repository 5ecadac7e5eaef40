"""Which claims a preset's results are judged by."""

from __future__ import annotations

from experiments.claims import claims, real_model
from experiments.claims.rules import Claim

ALL = (*claims.CLAIMS, *real_model.CLAIMS)


def claims_of(preset: str) -> tuple[Claim, ...]:
    """The list for a preset: the real model has its own, every other preset the paper's and ours."""
    return real_model.CLAIMS if preset == real_model.PRESET else claims.CLAIMS
