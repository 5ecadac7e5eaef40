"""A world's judge as AlpacaEval's annotator: an in-process endpoint that names "m" or "M" with log-probabilities.

It reads the instruction and the two outputs back out of the prompt, so that prompt, seeded order, client, reply log and
parser are those of a paid annotator. What it sees of gold, noise included, is what the judge of the sandbox, or of the
world `instructions`, sees.
"""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path
from typing import Any

from eval.alpaca_eval.annotate import prompt_template
from eval.judges import Judge
from eval.judges.instructions import InstructionsJudge
from eval.judges.sandbox import SandboxJudge
from optune.chat.client import ChatSettings
from optune.chat.endpoint import Respond, in_process, refused
from optune.sandbox.preferences import SHARPNESS
from optune.types import UserError


def judge(model: str | None = None, **options: Any) -> Judge:
    """The sandbox annotator. Its model name, unless one is given, changes with the sandbox and the noise."""
    return _annotator(SandboxJudge(), model, options)


def instructions_judge(start: Path) -> Judge:
    """The annotator of the world `instructions`. start: the start policy's folder."""
    return _annotator(InstructionsJudge(start), None, {})


def _annotator(rater: SandboxJudge | InstructionsJudge, model: str | None, options: dict[str, Any]) -> Judge:
    options |= {"price_in": 0.0, "price_out": 0.0}
    chat = ChatSettings(model=model or f"{rater.name}-alpaca", **options)
    return Judge(chat, transport=in_process(_respond(rater)))


def _respond(rater: SandboxJudge | InstructionsJudge) -> Respond:
    """The annotator as a chat endpoint's function; it refuses prompts that are not its world's."""

    def respond(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        match = _prompt().fullmatch(body["messages"][-1]["content"])
        try:
            if match is None:
                raise UserError("this prompt is not AlpacaEval's")
            choice = _choice(log_probabilities(rater, *match.groups()))
        except UserError as error:
            return refused(error)
        return 200, {"model": body["model"], "choices": [choice]}

    return respond


def log_probabilities(
    rater: SandboxJudge | InstructionsJudge, instruction: str, first: str, second: str
) -> dict[str, float]:
    """Bradley-Terry on the judge's scores: P("m", the first output is better) = sigmoid(SHARPNESS * score gap)."""
    score_1, score_2 = rater.rate(instruction, first, second)
    gap = SHARPNESS * (score_1 - score_2)
    return {"m": -math.log1p(math.exp(-gap)), "M": -math.log1p(math.exp(gap))}


def _choice(logprobs: dict[str, float]) -> dict[str, Any]:
    ranked = sorted(({"token": t, "logprob": p} for t, p in logprobs.items()), key=lambda t: -t["logprob"])
    return {
        "index": 0,
        "finish_reason": "length",
        "message": {"role": "assistant", "content": ranked[0]["token"]},
        "logprobs": {"content": [{**ranked[0], "top_logprobs": ranked}]},
    }


@functools.cache
def _prompt() -> re.Pattern[str]:
    """The package's own template as a pattern for what was put into it."""
    parts = re.split(r"\{(?:instruction|output_1|output_2)\}", prompt_template())
    return re.compile("(.*?)".join(map(re.escape, parts)), re.DOTALL)
