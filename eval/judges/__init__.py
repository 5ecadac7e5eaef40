"""Judges: how they are asked (for a rating or a choice), how replies are parsed, and which endpoints there are.

A judge is a function `(model: str | None, **chat settings) -> Judge`, registered here or named from outside as
`package.module:function` or `file.py:function`. A function (question, answer_1, answer_2) -> two scores is one, too.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import yaml

from eval.judges.choice import CHOICE
from eval.judges.form import Form
from eval.judges.rating import RATING
from optune.chat.client import ChatSettings
from optune.config import JudgeConfig
from optune.types import UserError
from optune.utils.registry import resolve

FORMS = {"rating": RATING, "choice": CHOICE}
PRICES = Path(__file__).with_name("prices.yaml")


@dataclass(frozen=True)
class Judge:
    """A judge's endpoint. `transport` replaces the network; `form` is the prompt and the parser of replies.

    system: whether the endpoint takes a system turn. If not, its text is put before the user's turn.
    """

    chat: ChatSettings
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0.0, "max_tokens": 1024})
    transport: httpx2.AsyncBaseTransport | None = None
    form: Form = RATING
    system: bool = True


def endpoint(model: str | None = None, **options: Any) -> Judge:
    """Any OpenAI-compatible endpoint. A price that is not given is taken from `prices.yaml`, if it lists the model."""
    if not model:
        raise UserError("The judge 'openai' needs a model: give --model.")
    listed = yaml.safe_load(PRICES.read_text("utf-8"))["models"].get(model, {})
    for name in ("price_in", "price_out"):
        if options.get(name) is None:
            options[name] = listed.get(name)
    return Judge(ChatSettings(model=model, **options))


def judge_of(config: JudgeConfig) -> Judge:
    """The judge that a run's configuration names."""
    judge = make_judge(config.name, config.model, base_url=config.base_url)
    parameters = {"temperature": config.temperature, "max_tokens": config.max_tokens}
    return replace(judge, parameters=parameters, form=FORMS[config.form or "rating"])


JUDGES = {
    "sandbox": "eval.judges.sandbox:judge",
    "instructions": "eval.judges.instructions:judge",
    "local": "eval.judges.local:judge",
    "openai": endpoint,
}


def make_judge(name: str, model: str | None = None, **options: Any) -> Judge:
    """The judge called `name`. A name that is not registered and no `module:function` is a model at an endpoint."""
    if name not in JUDGES and ":" not in name:
        return endpoint(model or name, **options)
    part = resolve(JUDGES, name, "judge")
    if ":" in name and _is_rating(part):
        return resolve({"function": "eval.judges.local:judge_by"}, "function", "judge")(part, **options)
    return part(model, **options)


def _is_rating(part: Any) -> bool:
    """Whether a part named from outside rates two answers itself: it takes a question and two answers, and no options.

    A factory of judges takes a model and options by name.
    """
    if not inspect.isfunction(part):
        return False
    signature = inspect.signature(part)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        return False
    try:
        signature.bind("question", "answer 1", "answer 2")
    except TypeError:
        return False
    return True
