"""The checkers as rewards: no model to train, and never a word about topic or language.

`checker` sees exactly how far the constraints are met. `imperfect_checker` sees that with an error of its own about
each answer; like a reward model it is right about most pairs and can be over-optimised, since a text that is neither
about its topic nor fluent costs it nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from optune.config import RewardConfig
from optune.instructions.gold import satisfied
from optune.instructions.prompts import read, stable_int
from optune.types import Prompt, Response


class Checker:
    """The mean credit of a prompt's constraints, from 0 to 1. UserError for a prompt that is not of this world."""

    def __init__(self, settings: RewardConfig) -> None:
        pass

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Response], seed: int) -> list[float]:
        return [
            satisfied(read(prompt.text).constraints, response.text)
            for prompt, response in zip(prompts, responses, strict=True)
        ]


class ImperfectChecker(Checker):
    """`Checker` plus normal noise of standard deviation `settings.noise`, fixed by seed, prompt and answer."""

    def __init__(self, settings: RewardConfig) -> None:
        self.noise = settings.noise

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Response], seed: int) -> list[float]:
        exact = super().score(prompts, responses, seed)
        return [
            credit + Random(stable_int("imperfect", seed, prompt.text, response.text)).gauss(0.0, self.noise)
            for credit, prompt, response in zip(exact, prompts, responses, strict=True)
        ]
