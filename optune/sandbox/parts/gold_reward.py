"""The sandbox's own quality measure as reward: an oracle, noisy on demand. It ranks arms that test the reward model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from optune.config import RewardConfig
from optune.sandbox.gold import gold
from optune.types import Prompt, Response


class Gold:
    """Gold quality on 1-10, plus normal noise of standard deviation `settings.noise`, fixed by seed and content."""

    def __init__(self, settings: RewardConfig) -> None:
        self.noise = settings.noise

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Response], seed: int) -> list[float]:
        return [
            float(gold(p.text, r.text)) + self.noise * _normal(seed, r) for p, r in zip(prompts, responses, strict=True)
        ]


def _normal(seed: int, response: Response) -> float:
    """A standard normal number that depends only on seed, prompt id, index and text."""
    name = "\x1f".join((str(seed), "gold", response.prompt_id, str(response.index), response.text))
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return float(np.random.default_rng(int.from_bytes(digest, "little")).normal())
