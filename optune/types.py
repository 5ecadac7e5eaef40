"""The nouns of the project: what flows between the parts. Frozen, and standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

FinishReason = Literal["stop", "length", "error"]


class Message(TypedDict):
    """One turn of a chat, in the field's usual form."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """One thing to be answered: `x` of the paper.

    `text` is what a judge or a rater reads (the last user turn); `messages` is the whole conversation where there is
    more than that one turn. `category` is free for reports (a sandbox family, a data set's own label).
    """

    prompt_id: str
    text: str
    messages: tuple[Message, ...] = ()
    category: str = ""

    @property
    def chat(self) -> list[Message]:
        """The conversation as a chat template takes it."""
        return [dict(m) for m in self.messages] or [{"role": "user", "content": self.text}]


@dataclass(frozen=True, slots=True)
class Response:
    """One sampled answer: `y` of the paper, as the policy of `iteration` produced it.

    `token_ids` are the sampled ids themselves (an end token only where one was sampled); training uses them as they
    are. `logprob` is the sum of their log-probabilities at temperature 1 and without top-p, in nats, or None where an
    engine cannot tell. `reward` is r(x, y), or None before scoring. `retokenized` marks ids that did not come from
    the sampler.
    """

    prompt_id: str
    index: int
    iteration: int
    token_ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason
    logprob: float | None = None
    reward: float | None = None
    retokenized: bool = False


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """(x, y_w, y_l) with both rewards and never a weight, so that one file serves every loss."""

    prompt_id: str
    chosen: Response
    rejected: Response

    @property
    def reward_gap(self) -> float:
        """r(x, y_w) - r(x, y_l) of Eq. 6; at least 0."""
        return self.chosen.reward - self.rejected.reward


class UserError(Exception):
    """Bad input, told in one sentence: what is wrong, where, and what to do. Shown without a traceback."""
