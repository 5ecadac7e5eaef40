"""Rewards that are plain Python functions, in TRL's form: `f(prompts, completions, **columns) -> list[float]`.

A function gets what it asks for by name: `prompts`, `completions`, `completion_ids`, the columns that stand beside
`prompt` in the prompt file (an answer key, say), and `reward.options`. Where the file gives its prompts as turns,
prompts are lists of messages and a completion is a list with the assistant's; else both are texts.

Columns are read from the prompt file itself, not from the stage that samples, so that samples outlive another reward.
"""

from __future__ import annotations

import inspect
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from optune.config import RewardConfig, RunConfig
from optune.prompts.files import prompt_rows
from optune.store import content_hash
from optune.types import Prompt, Response, UserError
from optune.utils.hashing import sha256_of, stable_hash
from optune.utils.registry import resolve

Function = Callable[..., Sequence[float]]
WEIGHTED = "weighted"  # the kind of several functions


def is_function(part: Any) -> bool:
    """Whether a part is such a function, and not a factory `f(settings)` or a class with `score`."""
    if inspect.isclass(part) or not callable(part):
        return False
    return list(inspect.signature(part).parameters) != ["settings"]


def weighted_functions(settings: RewardConfig) -> dict[Function, float]:
    """The functions of `reward.weights` with their weights."""
    return {resolve({}, name, "reward"): weight for name, weight in settings.weights.items()}


@dataclass(frozen=True)
class PythonReward:
    """The weighted sum of functions as the part `reward` of a run; called with settings, it is what scores.

    role: what error messages call the functions.
    """

    functions: Mapping[Function, float]
    files: tuple[tuple[str, str, Mapping[str, str] | None], ...]  # path, split and columns of the prompts
    role: str = "reward"

    @classmethod
    def of(cls, functions: Mapping[Function, float], config: RunConfig) -> PythonReward:
        own = config.prompts
        files = [(own.path, own.split, own.columns)]
        if config.validation:
            files.append((config.validation.path, config.validation.split, None))
        return cls(functions, tuple(files))

    def inputs(self) -> dict[str, str]:
        """What rewards depend on beside settings and responses, for a stage's key: sources, weights, columns."""
        sources = [[source_hash(function), weight] for function, weight in self.functions.items()]
        return {
            "reward_source": stable_hash(sources),
            "reward_columns": stable_hash([content_hash(path) for path, *_ in self.files]),
        }

    def __call__(self, settings: RewardConfig) -> PythonReward:
        return self.ready(settings.options or {})

    def ready(self, options: Mapping[str, Any]) -> _Ready:
        """What scores, with keyword arguments for the functions."""
        return _Ready(self.functions, self.files, self.role, options)


@dataclass(frozen=True)
class _Ready(PythonReward):
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Prompt id -> the row that it came from."""
        rows: dict[str, dict[str, Any]] = {}
        for path, split, columns in self.files:
            for prompt, row in prompt_rows(path, split, columns):
                rows.setdefault(prompt.prompt_id, row)
        return rows

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Response], seed: int) -> list[float]:
        """One reward for each response. Raises UserError with the function's file and line for what it does wrong."""
        rows = [self.rows.get(prompt.prompt_id, {}) for prompt in prompts]
        names = dict.fromkeys(name for row in rows for name in row)
        given: dict[str, Any] = {name: [row.get(name) for row in rows] for name in names}
        texts = [response.text for response in responses]
        if any(isinstance(row.get("prompt", row.get("messages")), list) for row in self.rows.values()):
            given["prompts"] = [prompt.chat for prompt in prompts]
            given["completions"] = [[{"role": "assistant", "content": text}] for text in texts]
        else:
            given["prompts"], given["completions"] = [prompt.text for prompt in prompts], texts
        given["completion_ids"] = [list(response.token_ids) for response in responses]
        given |= self.options
        total = [0.0] * len(responses)
        for function, weight in self.functions.items():
            values = called(function, given, len(responses), self.role)
            total = [sum_ + weight * value for sum_, value in zip(total, values, strict=True)]
        return total


def called(function: Function, given: Mapping[str, Any], count: int, role: str = "reward") -> list[float]:
    """What `function` says of `count` responses. Raises UserError with its file and line."""
    place = f"{place_of(function)}: the {role} {name_of(function)!r}"
    parameters = inspect.signature(function).parameters.values()
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    wanted = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = [p.name for p in parameters if p.default is p.empty and p.name in wanted]
    if unknown := [name for name in needed if name not in given]:
        raise UserError(
            f"{place} asks for {', '.join(map(repr, unknown))}, which it is not given: it may ask for "
            f"{', '.join(sorted(given))} (columns of the prompts and reward.options among them), or for **kwargs."
        )
    arguments = given if takes_all else {name: given[name] for name in wanted if name in given}
    try:
        values = function(**arguments)
    except Exception as error:
        raise UserError(f"{_line_of(error, function)}: {_told(error)} in the {role} {name_of(function)!r}.") from error
    try:
        values = list(values)
    except TypeError:
        raise UserError(f"{place} returned {values!r}; it must return a list with one number a response.") from None
    if len(values) != count:
        raise UserError(f"{place} returned {len(values)} {role}s for {count} responses; one a response is needed.")
    return [_number(value, index, place, role) for index, value in enumerate(values)]


def _number(value: Any, index: int, place: str, role: str = "reward") -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, str):
        raise UserError(f"{place} returned {value!r} for response {index}; {_article(role)} must be a finite number.")
    return number


def _article(role: str) -> str:
    return f"an {role}" if role[0] in "aeiou" else f"a {role}"


def _told(error: Exception) -> str:
    return f"{type(error).__name__} ({str(error).splitlines()[0]})" if str(error) else type(error).__name__


def _line_of(error: Exception, function: Function) -> str:
    """The deepest line of the function's own file that the error came through."""
    file = inspect.getfile(_code_of(function))
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file}:{lines[-1]}" if lines else place_of(function)


def _code_of(function: Function) -> Any:
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function)
    return function if inspect.isroutine(function) else type(function).__call__


def place_of(function: Function) -> str:
    """`file:line` of a function; its name where it has no file."""
    try:
        code = _code_of(function).__code__
    except AttributeError:
        return name_of(function)
    return f"{code.co_filename}:{code.co_firstlineno}"


def name_of(function: Function) -> str:
    inner = function.func if isinstance(function, partial) else function
    return getattr(inner, "__name__", type(inner).__name__)


def source_hash(function: Function) -> str:
    """The hash of a function's file (an edit of it changes the key), and of what it was bound to.

    Of a function that stands in no file, as in a notebook, it is that of its own source.
    """
    code = _code_of(function)
    bound = [repr(cell.cell_contents) for cell in getattr(code, "__closure__", None) or ()]
    while isinstance(function, partial):
        bound.append(repr((function.args, sorted(function.keywords.items()))))
        function = function.func
    bound += [repr(vars(function))] if not inspect.isroutine(function) else []
    path = Path(inspect.getfile(code)) if hasattr(code, "__code__") else None
    if path and path.is_file():
        return stable_hash(name_of(function), sha256_of(path), bound)
    try:
        return stable_hash(name_of(function), inspect.getsource(code), bound)
    except (OSError, TypeError):
        raise UserError(f"The function {name_of(function)!r} has no source: write it into a file.") from None


def try_outcome(outcome: PythonReward, name: str, prompts: Sequence[Prompt]) -> str:
    """As `try_reward`, of `validation.outcome`."""
    values = outcome.ready({}).score([prompts[0]] * 2, _made_up(prompts[0]), 0)
    return f"The outcome {name!r} measures two made-up answers: {values[0]:g} and {values[1]:g}."


def _made_up(prompt: Prompt) -> list[Response]:
    texts = ("ok.", "This is a longer answer, of a sentence.")
    return [Response(prompt.prompt_id, i, 0, (i,), text, "stop") for i, text in enumerate(texts)]


def try_reward(reward: Callable[[RewardConfig], Any], settings: RewardConfig, prompts: Sequence[Prompt]) -> str:
    """Scores two made-up responses to the first prompt. Raises UserError for what the reward does wrong."""
    first, made_up = prompts[0], _made_up(prompts[0])
    try:
        values = list(reward(settings).score([first, first], made_up, 0))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{_last_line(error)}: {_told(error)} in the reward {settings.kind!r}.") from error
    if len(values) != len(made_up):
        raise UserError(f"The reward {settings.kind!r} returned {len(values)} rewards for {len(made_up)} responses.")
    for index, value in enumerate(values):
        _number(value, index, f"The reward {settings.kind!r}")
    return f"The reward {settings.kind!r} scores two made-up responses: {values[0]:g} and {values[1]:g}."


def _last_line(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"
