"""Forms: how a judge is asked about two answers. A form is a prompt file and a parser of replies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from optune.chat.client import conversation
from optune.chat.reasoning import certain_part
from optune.types import Message

FIELDS = ("question", "answer_1", "answer_2")
_FIELD = re.compile(r"\{(" + "|".join(FIELDS) + r")\}")


@dataclass(frozen=True)
class Form:
    """path: the prompt file. parse: reply -> scores of the first and the second answer shown, None if unreadable.

    first_line: whether the first line is the whole verdict. It then counts even in a reply that was cut off.
    """

    path: Path
    parse: Callable[[str | None], tuple[float, float] | None]
    first_line: bool = True

    def read(self, reply: str | None, finish_reason: str | None = None) -> tuple[float, float] | None:
        """The scores in a reply. The finish reason `length` marks a reply that was cut off."""
        cut = finish_reason == "length" and self.first_line
        return self.parse(certain_part(reply) if cut else reply)

    @property
    def template_hash(self) -> str:
        """SHA-256 of the prompt file; part of every judge call's content key."""
        return hash_of(self.path)

    def render(self, question: str, answer_1: str, answer_2: str) -> tuple[Message, ...]:
        """The judge's conversation about two answers. Texts are inserted unchanged, braces included."""
        return fill(self.path, question=question, answer_1=answer_1, answer_2=answer_2)

    def read_back(self, user_prompt: str) -> tuple[str, str, str] | None:
        """The question and both answers that `render` filled in; None for any other text."""
        match = _filled(self.path).fullmatch(user_prompt)
        return match.groups() if match else None


def fill(path: Path, **texts: str) -> tuple[Message, ...]:
    """The conversation that a prompt file describes, with each `{name}` replaced by the text of that name.

    All places are filled at once, so that braces inside a text stay as they are.
    """
    system, user = template_of(path)
    place = re.compile(r"\{(" + "|".join(texts) + r")\}")
    return conversation(system, place.sub(lambda match: texts[match[1]], user))


@cache
def hash_of(path: Path) -> str:
    """SHA-256 of a prompt file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def template_of(path: Path) -> tuple[str, str]:
    """The system prompt and the user prompt, the latter with its places."""
    _, system, user = re.split(r"^\[(?:System|User) Prompt\]\n", path.read_text("utf-8"), flags=re.MULTILINE)
    return system.strip(), user.strip()


@cache
def _filled(path: Path) -> re.Pattern[str]:
    pieces = _FIELD.split(template_of(path)[1])
    return re.compile("".join(re.escape(p) if i % 2 == 0 else "(.*?)" for i, p in enumerate(pieces)), flags=re.DOTALL)
