"""The rating prompt: the measuring instrument, quoted in `rating_prompt.txt` and filled in here.

Source: "OPTune: Efficient Online Preference Tuning", appendix F, Table 6 ("The GPT4 evaluation prompt"), which goes
back to the Vicuna blog post of 30 March 2023 (lmsys.org). The wording is the table's; line breaks that come from the
page's width are joined. Where the table shows the places of the texts, the file has `{question}` (below the table's
own "[Question]"), `{answer_1}` and `{answer_2}`.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from optune.chat_client import conversation
from optune.types import Message

PATH = Path(__file__).with_name("rating_prompt.txt")
FIELDS = ("question", "answer_1", "answer_2")
_FIELD = re.compile(r"\{(" + "|".join(FIELDS) + r")\}")


@cache
def template() -> tuple[str, str]:
    """The system prompt and the user prompt, the latter with its three places."""
    _, system, user = re.split(r"^\[(?:System|User) Prompt\]\n", PATH.read_text("utf-8"), flags=re.MULTILINE)
    return system.strip(), user.strip()


@cache
def template_hash() -> str:
    """SHA-256 of the prompt file; part of every judge call's content key."""
    return hashlib.sha256(PATH.read_bytes()).hexdigest()


def render(question: str, answer_1: str, answer_2: str) -> tuple[Message, ...]:
    """The judge's conversation about two answers. The texts go in as they are, braces and all."""
    texts = {"question": question, "answer_1": answer_1, "answer_2": answer_2}
    system, user = template()
    return conversation(system, _FIELD.sub(lambda match: texts[match[1]], user))


def read_back(user_prompt: str) -> tuple[str, str, str] | None:
    """The question and both answers that `render` filled in; None for any other text."""
    match = _filled().fullmatch(user_prompt)
    return match.groups() if match else None


@cache
def _filled() -> re.Pattern[str]:
    pieces = _FIELD.split(template()[1])
    return re.compile("".join(re.escape(p) if i % 2 == 0 else "(.*?)" for i, p in enumerate(pieces)), flags=re.DOTALL)
