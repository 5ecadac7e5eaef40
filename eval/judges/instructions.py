"""The judge of the world `instructions`: gold quality plus the sandbox judge's noise, told as text.

It answers the rating prompt or the choice prompt in their formats, through the same client, parser and reply log as a
paid judge. Gold includes how likely an answer is as language under the frozen start policy, so the judge's model is
that policy's folder. Likelihoods are cached in `optune.instructions.fluency.shared`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eval.judges import Judge
from eval.judges.sandbox import JudgeNoise, rate, rated_reply
from optune import instructions
from optune.chat.client import ChatSettings
from optune.chat.endpoint import completions, in_process
from optune.store import content_hash
from optune.types import UserError
from optune.utils.hashing import stable_hash


@dataclass(frozen=True)
class InstructionsJudge:
    """Rates two answers to a prompt of the world. start: folder of the frozen start policy."""

    start: Path
    noise: JudgeNoise = field(default_factory=JudgeNoise)

    @property
    def name(self) -> str:
        """A model name that changes with world, start policy and noise, so that logged replies never mix."""
        parts = (instructions.content_hash(), content_hash(self.start), asdict(self.noise))
        return f"instructions-judge-{stable_hash(*parts)[:12]}"

    def rate(self, question: str, answer_1: str, answer_2: str) -> tuple[float, float]:
        """Both scores, in the order in which the answers were shown. UserError for a question of another world."""
        from optune.instructions.fluency import shared

        answers = (answer_1, answer_2)
        nats = shared(self.start).nats([question, question], answers)
        golds = [instructions.gold(question, answer, n) for answer, n in zip(answers, nats, strict=True)]
        return rate(self.noise, (question, *answers), *golds)

    def reply(self, user_prompt: str) -> str:
        """The judge's text: two scores on the first line, a sentence on the second; or the letter of a choice."""
        return rated_reply(self.rate, user_prompt, "the rubric of the instructions")


def judge(model: str | None = None, **options: Any) -> Judge:
    """The judge for `eval.judges`, in this process and free of charge. model: the start policy's folder."""
    if not model or not Path(model).is_dir():
        raise UserError(f"The judge 'instructions' needs the start policy's folder as its model; got {model!r}.")
    rater = InstructionsJudge(Path(model))
    options |= {"price_in": 0.0, "price_out": 0.0, "base_url": None}
    return Judge(ChatSettings(model=rater.name, **options), transport=in_process(completions(rater.name, rater.reply)))
