"""Rewards less a price per character, against reward models that favour long answers (RLHF Workflow, Eq. 9)."""

from __future__ import annotations

from collections.abc import Sequence

from optune.types import Response


def penalised(rewards: Sequence[float], responses: Sequence[Response], per_character: float) -> list[float]:
    """r(x, y) - lambda |y|, with |y| the characters of the response's text.

    The penalised reward is used for selection and for choosing pairs.
    """
    return [reward - per_character * len(response.text) for reward, response in zip(rewards, responses, strict=True)]
