"""Asks a judge for one letter, the better answer or a tie, as the Always-On-Policy paper does.

Source of the scheme: "Always-On-Policy Prompts for Efficient RLHF", Section 6.1 (A, B, or C for a tie; the answer that
helps more). The wording, in `choice_prompt.txt`, is ours. A letter is turned into a pair of scores, so that orders,
verdicts and counts work as for the rating prompt.
"""

from __future__ import annotations

import re
from pathlib import Path

from eval.judges.form import Form
from optune.chat.reasoning import final_answer

PATH = Path(__file__).with_name("choice_prompt.txt")
SCORES = {"A": (2.0, 1.0), "B": (1.0, 2.0), "C": (1.0, 1.0)}
_MARKUP = re.compile(r"[*`_#]")
_LABEL = r"(?:(?:the\s+)?(?:better\s+)?(?:answer|response|choice)(?:\s+is)?\s*:?\s*)?"
_LETTER = re.compile(_LABEL + r"""["'(\[]?([ABC])["')\].]{0,2}""", re.IGNORECASE)


def parse_choice(reply: str | None) -> tuple[float, float] | None:
    """The letter as scores of the first and the second answer shown. None unless the reply is one letter."""
    answer = final_answer(reply) or ""
    match = _LETTER.fullmatch(_MARKUP.sub("", answer[:200]).strip())
    return SCORES[match[1].upper()] if match and len(answer) <= 200 else None


CHOICE = Form(PATH, parse_choice, first_line=False)  # a reply that was cut off counts, too, if it is one letter


def letter(first: float, second: float) -> str:
    """The letter that a judge with these scores answers."""
    return "C" if first == second else "A" if first > second else "B"
