"""Gold quality: the rubric nobody trains on."""

from __future__ import annotations

from optune.sandbox.families import family_of
from optune.sandbox.words import CONNECTIVES, COURTESIES, FILLERS, PUNCTUATION

LOWEST, HIGHEST = 1.0, 10.0
CORRECTNESS_SHARE = 0.6
COURTESY, FULL_STOP, NO_FILLERS = 0.4, 0.3, 0.3
_STYLE_OF_A_WRONG_ANSWER = 0.5
_NOT_CONTENT = frozenset((*COURTESIES, *FILLERS, *PUNCTUATION, *CONNECTIVES))


def gold(prompt_text: str, response_text: str) -> float:
    """Quality of a response to a sandbox prompt, from 1 (worst, also an empty response) to 10.

    60% is correctness by the family's own partial credit, 40% style: a courteous first word, a full stop at the end
    and there only, no fillers. Style counts fully only in a right answer (at 50% in a wrong one), and not without
    an answer. UserError where the prompt is none of the sandbox's; any response is graded.
    """
    words = response_text.split()
    answer = answer_of(words)
    right = correctness(prompt_text, answer)
    if not answer:
        return LOWEST
    style_counts = _STYLE_OF_A_WRONG_ANSWER + (1 - _STYLE_OF_A_WRONG_ANSWER) * right
    quality = CORRECTNESS_SHARE * right + (1 - CORRECTNESS_SHARE) * style(words) * style_counts
    return LOWEST + (HIGHEST - LOWEST) * quality


def correctness(prompt_text: str, answer: list[str]) -> float:
    """Correctness of the content words of a response, from 0 to 1; 0 without any.

    The family's partial credit is squared: an answer half right is worth a quarter.
    """
    family = family_of(prompt_text)
    slots = family.slots(prompt_text)
    return family.grade(slots, answer) ** 2 if answer else 0.0


def style(words: list[str]) -> float:
    """Style of a response's words, from 0 to 1."""
    courteous = words[:1] != [] and words[0] in COURTESIES
    stops_once = words[-1:] == ["."] and words.count(".") == 1
    plain = not set(words) & set(FILLERS)
    return COURTESY * courteous + FULL_STOP * stops_once + NO_FILLERS * plain


def answer_of(words: list[str]) -> list[str]:
    """The content words of a response."""
    return [word for word in words if word not in _NOT_CONTENT]
