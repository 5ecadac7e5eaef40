"""The sandbox judge: gold quality plus noise, behind an OpenAI-compatible endpoint.

It answers the rating prompt or the choice prompt as text in their formats, through the same client, parser and reply
log as a paid judge. It runs in this process (`judge`), or on loopback with `python -m eval.judges.sandbox`.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from statistics import NormalDist
from typing import Any

from eval.judges import Judge
from eval.judges.choice import CHOICE, letter
from eval.judges.rating import RATING
from optune.chat.client import ChatSettings
from optune.chat.endpoint import completions, in_process, listen
from optune.sandbox import content_hash, gold
from optune.types import UserError
from optune.utils.hashing import stable_hash

LOWEST, HIGHEST = 1.0, 10.0
_NORMAL = NormalDist()
_cached_gold = lru_cache(maxsize=1 << 16)(gold)


@dataclass(frozen=True)
class JudgeNoise:
    """The judge's errors about gold, in points of its 1-10 scale.

    answer_sd: standard deviation of an answer's error, the same in both orders. call_sd: that of each answer's error in
    one call; a share `call_rate` of calls has it. position_bias: added to the answer shown first. grid: scores are
    rounded to its multiples. The defaults come from `experiments.development.calibrate_judge`. Errors are hashes of the
    texts and their order, so the same call always gets the same reply.
    """

    answer_sd: float = 0.25
    call_sd: float = 1.5
    call_rate: float = 0.5
    position_bias: float = 0.0
    grid: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class SandboxJudge:
    """Rates two answers to a sandbox question."""

    noise: JudgeNoise = field(default_factory=JudgeNoise)

    @property
    def name(self) -> str:
        """A model name that changes with the sandbox and the noise, so that logged replies never mix."""
        return f"sandbox-judge-{stable_hash(content_hash(), asdict(self.noise))[:12]}"

    def rate(self, question: str, answer_1: str, answer_2: str) -> tuple[float, float]:
        """Both scores, in the order in which the answers were shown."""
        return rate(
            self.noise, (question, answer_1, answer_2), *(_cached_gold(question, a) for a in (answer_1, answer_2))
        )

    def reply(self, user_prompt: str) -> str:
        """The judge's text: two scores on the first line, a sentence on the second."""
        return rated_reply(self.rate, user_prompt, "the sandbox rubric")

    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The HTTP status and the chat completion (or error) for one request body."""
        return completions(self.name, self.reply)(body)


def rated_reply(rate: Callable[[str, str, str], tuple[float, float]], user_prompt: str, rubric: str) -> str:
    """The reply to a filled prompt: two scores and a sentence in the rating format, or the letter of a choice.

    rate: (question, the answer shown first, the other one) -> their scores.
    """
    if texts := CHOICE.read_back(user_prompt):
        return letter(*rate(*texts))
    texts = RATING.read_back(user_prompt)
    if texts is None:
        return "I can only compare two answers in the rating format."
    first, second = rate(*texts)
    better = "Both answers are equally good" if first == second else f"Assistant {1 + (second > first)} did better"
    return f"{first:g} {second:g}\n{better} by {rubric}."


def rate(noise: JudgeNoise, texts: tuple[str, str, str], gold_1: float, gold_2: float) -> tuple[float, float]:
    """The scores of two answers of known gold. `texts` (question, first, second) seed the errors."""
    question, *answers = texts
    shaken = noise.call_rate > _uniform(noise.seed, "shaken", *texts)
    scores = []
    for place, (answer, quality) in enumerate(zip(answers, (gold_1, gold_2), strict=True)):
        score = quality + noise.answer_sd * _normal(noise.seed, "answer", question, answer)
        if shaken:
            score += noise.call_sd * _normal(noise.seed, "call", *texts, str(place))
        if place == 0:
            score += noise.position_bias
        scores.append(min(HIGHEST, max(LOWEST, round(score / noise.grid) * noise.grid)))
    return scores[0], scores[1]


def judge(model: str | None = None, **options: Any) -> Judge:
    """The sandbox judge for `eval.judges`, in this process and free of charge."""
    rater = SandboxJudge()
    options |= {"price_in": 0.0, "price_out": 0.0, "base_url": None}
    return Judge(ChatSettings(model=rater.name, **options), transport=in_process(rater.respond))


def _uniform(seed: int, *parts: str) -> float:
    """Uniform on (0, 1), from a hash of the parts alone."""
    digest = hashlib.blake2b("\x1f".join((str(seed), *parts)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") + 0.5) / 2**64


def _normal(seed: int, *parts: str) -> float:
    return _NORMAL.inv_cdf(min(1 - 1e-12, _uniform(seed, *parts)))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m eval.judges.sandbox", description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args(argv)
    judge = SandboxJudge()
    with suppress(KeyboardInterrupt):
        listen(judge.name, judge.respond, args.port)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
