"""Preferences from an annotator asked anew: the `alpaca-eval` package's own, with another way to the endpoint.

The package fills its prompt template, swaps the two outputs at random (seeded by the instruction), parses the
log-probabilities of "m" and "M" into a preference between 1 and 2 and swaps back. Only the function that sends the
prompts is replaced, by one that keeps every reply, knows the price and stops at a limit.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import pandas as pd
from tqdm import tqdm

from eval.alpaca_eval.length_control import load_package
from eval.judging import by_reason, told_failure
from optune.chat.client import ChatClient, ChatRequest, without_system
from optune.chat.reply_log import Reply
from optune.types import Message, UserError

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
TOKENS = ("m", "M")  # its two answers
DEFAULT_MODEL = "gpt-4-1106-preview"  # the one in the package's configuration of it

Complete = Callable[[list[list[Message]], dict[str, Any]], list[dict[str, Any] | None]]
"""Conversations and request parameters (`model`, `max_tokens`, `logprobs`, ...) to one choice of the chat-completions
API per conversation, as a dictionary; None where no readable reply came."""


def annotate(pairs: pd.DataFrame, complete: Complete, model: str = DEFAULT_MODEL) -> pd.DataFrame:
    """Preferences for `pairs` (columns instruction, output_1, output_2), in the same order.

    Adds `preference` (1: the reference, 2: the model, in between by probability; NaN: the reply could not be read),
    `raw_completion` (the choice as the endpoint gave it; None where nothing was asked, because both outputs are the
    same) and `annotator`, the configuration's name and, where it is another than the configured one, the model's.
    """
    package, utils = load_package("annotators"), load_package("utils")
    annotator = package.PairwiseAnnotator(annotators_config=ANNOTATOR, caching_path=None)
    single = annotator.annotators[ANNOTATOR]
    single.completions_kwargs = {**single.completions_kwargs, "model_name": model}
    single.packages_for_which_to_show_version = None

    def completions(prompts: list[str], model_name: str, **parameters: Any) -> dict[str, list]:
        conversations = [utils.prompt_to_chatml(prompt.strip()) for prompt in prompts]
        choices = complete(conversations, {"model": model_name, **parameters})
        _require_logprobs(choices, model_name)
        # The parser takes "" for an empty completion, and reports it as one without a preference.
        readable = [choice if _has_logprobs(choice) else "" for choice in choices]
        return {"completions": readable, "completions_all": readable}

    single.fn_completions = completions
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it logs a traceback for each reply it cannot read; they are counted instead
    try:
        rows = annotator(pairs[["instruction", "output_1", "output_2"]], chunksize=None)
    finally:
        logger.setLevel(level)
    annotated = pd.DataFrame(rows).set_index("instruction").loc[pairs["instruction"]]
    asked = annotated.get("preference_raw_completion", pd.Series(index=annotated.index, dtype=object))
    return pairs.assign(
        preference=annotated["preference"].to_numpy(dtype=float),
        raw_completion=[reply if isinstance(reply, dict) else None for reply in asked],
        annotator=ANNOTATOR if model == DEFAULT_MODEL else f"{ANNOTATOR} ({model})",
    )


def asked_through(client: ChatClient, *, system: bool = True, retry_unparsed: bool = False) -> Complete:
    """The project's client as the way to the endpoint: says the price first, keeps every reply, stops at the limit.

    system: whether the endpoint takes a system turn. retry_unparsed: ask again where a call failed for good, or its
    reply could not be read.
    """

    def complete(conversations: list[list[Message]], parameters: dict[str, Any]) -> list[dict[str, Any] | None]:
        del parameters["model"]  # the client's own, the same one
        requests = [
            ChatRequest(
                tuple(messages if system else without_system(messages)), parameters, label=f"annotation {number}"
            )
            for number, messages in enumerate(conversations)
        ]

        again = _unread(client, requests) if retry_unparsed else set()

        def ask(some: list[ChatRequest]) -> list[dict[str, Any] | None]:
            keys = {request.key(client.settings.model) for request in some} & again
            again.difference_update(keys)
            replies = client.ask(some, keys)
            return [_choice(replies[request.key(client.settings.model)]) for request in some]

        if not client.settings.offline:
            tqdm.write(f"{client.settings.model}: {client.estimate(requests)}", file=sys.stderr)  # past its bar
            client.check_budget(*client.wanted_and_missing(requests))
            _require_logprobs(ask(requests[:1]), client.settings.model)  # before the other 804 are paid for
        choices = ask(requests)
        for failure in by_reason(reply for reply in client.logged(requests).values() if not reply.answered):
            tqdm.write(told_failure(failure), file=sys.stderr)
        return choices

    return complete


def prompt_template() -> str:
    """The user's turn of the package's prompt, with its placeholders {instruction}, {output_1} and {output_2}."""
    annotator = load_package("annotators").PairwiseAnnotator(annotators_config=ANNOTATOR, caching_path=None)
    return load_package("utils").prompt_to_chatml(annotator.annotators[ANNOTATOR].prompt_template)[-1]["content"]


def _choice(reply: Reply) -> dict[str, Any] | None:
    """A logged reply as the API's choice, which the package's parser reads; None for a call that failed for good."""
    if not reply.answered:
        return None
    message = {"role": "assistant", "content": reply.text}
    return {"finish_reason": reply.finish_reason, "index": 0, "logprobs": reply.logprobs, "message": message}


def _unread(client: ChatClient, requests: list[ChatRequest]) -> set[str]:
    logged = client.logged(requests)
    return {key for key, reply in logged.items() if reply.settled and not _has_logprobs(_choice(reply))}


def _require_logprobs(choices: list[dict[str, Any] | None], model: str) -> None:
    """UserError where there are replies and none has log-probabilities."""
    replies = [choice for choice in choices if choice is not None]
    if replies and not any(map(_has_logprobs, replies)):
        raise UserError(
            f"The model {model!r} gives no log-probabilities (logprobs, top_logprobs) with its replies, and this "
            "annotator reads nothing else; name another model."
        )


def _has_logprobs(choice: dict[str, Any] | None) -> bool:
    """Whether the first token is one of the annotator's two answers, as a draft's is not, and has alternatives."""
    try:
        first = choice["logprobs"]["content"][0]
        return bool(first["top_logprobs"]) and first.get("token", "m").strip() in TOKENS
    except (TypeError, KeyError, IndexError, AttributeError):
        return False
