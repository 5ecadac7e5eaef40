"""What it means when a call brings no answer: ask again, give this call up, or stop the run.

Endpoints say so in a status, or in a reply of status 200: with an error in the place of an answer, or with an answer
that has no text. Tokens that such a reply reports were paid for and are kept with it. An endpoint that replies with 200
has taken the request, and may charge for it without saying so: an error in such a reply is final, whatever its code,
unless it is a rate limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Codes and words of refusals that are about one request's text: too long, or not allowed.
_TEXT_CODES = {
    "context_length_exceeded",
    "content_filter",
    "content_policy_violation",
    "string_above_max_length",
    "exceed_context_size_error",
    "invalid_prompt",
}
_ABOUT_TEXT = re.compile(
    r"context[\s_-]*(?:length|size|window)|(?:input|prompt|request|sequence|message)s?\b[^.]{0,40}\btoo\s+(?:long|large)"
    r"|reduce\s+(?:the|your)\s+(?:length|prompt|input|messages)|too\s+many\s+(?:input\s+)?tokens|max(?:imum)?[_\s]+(?:input|"
    r"prompt|sequence|model)[_\s]+(?:length|tokens)|`?inputs`?\s+tokens\s*\+|request\s+entity\s+too\s+large"
    r"|flagged|moderation|content[\s_](?:policy|filter|management)|safety\s+(?:system|filter|policy|setting)s?"
    r"|responsible\s?ai",
    flags=re.IGNORECASE,
)
_RETRYABLE = {408, 409, 425, 429}
_RATE_LIMIT = re.compile(r"rate.?limit|too.?many.?requests", re.IGNORECASE)
_REMEDIES = (
    (re.compile(r"\bsystem\b", re.IGNORECASE), "judge without a system turn: --no-system"),
    (re.compile(r"max_completion_tokens", re.IGNORECASE), 'give "max_completion_tokens" in --parameters'),
    (re.compile(r"temperature", re.IGNORECASE), "leave temperature out of --parameters"),
)


class NoAnswer(ValueError):
    """A reply of status 200 that holds no answer. `retry`: asking again may bring one.

    `status` and `code` are those of an error in the reply, where there is one. `tokens`: prompt and completion tokens
    that the reply reports, None where it does not. `paid`: it is a completion, so that tokens were used.
    """

    def __init__(
        self,
        reason: str,
        *,
        retry: bool = False,
        status: int | None = None,
        code: str = "",
        tokens: tuple[int | None, int | None] = (None, None),
        paid: bool = False,
    ):
        super().__init__(reason)
        self.retry, self.status, self.code, self.tokens, self.paid = retry, status, code, tokens, paid

    @property
    def is_error(self) -> bool:
        """Whether the endpoint put an error in the place of an answer."""
        return self.status is not None


def about_text(status: int, code: str, message: str) -> bool:
    """Whether an error is about this request's text, so that other requests may go well and this one never will."""
    if status == 429:
        return bool(re.search(r"request\s+too\s+large", message, re.IGNORECASE))
    return status not in (401, 402) and (code in _TEXT_CODES or bool(_ABOUT_TEXT.search(message)))


def may_pass(status: int, code: str, reply: NoAnswer | None = None) -> bool:
    """Whether the same request may be answered later. `reply`: the reply of status 200 that the error stands in."""
    if reply is not None:
        return not (reply.paid or any(reply.tokens)) and (status == 429 or bool(_RATE_LIMIT.search(code)))
    return status in _RETRYABLE or status >= 500


def remedy(message: str) -> str:
    """What to do about a refusal of the calls' form, as an end of a sentence; empty where we do not know."""
    return next((f"; {told}" for pattern, told in _REMEDIES if pattern.search(message)), "")


def error_in(body: Mapping[str, Any], choice: Any) -> tuple[int, str, str] | None:
    """Status, code and message of the error in a reply of status 200 (its own, or its choice's); None without one."""
    found = body.get("error") or (choice.get("error") if isinstance(choice, Mapping) else None)
    if not found and body.get("object") == "error":
        found = body
    if not found:
        return None
    if not isinstance(found, Mapping):
        return 200, "", str(found)
    code = str(found.get("code") or found.get("status") or found.get("type") or "")
    status = int(code) if re.fullmatch(r"[1-5]\d\d", code) else 200
    kind = str(found.get("type") or "") if status != 200 else code
    words = " ".join(str(text) for text in (kind, found.get("metadata")) if text)
    return status, kind, f"{found.get('message') or ''} {words}".strip()
