"""What the loop of Algorithm 1 consists of, read from its own source: steps in order, lines, data flow, parts."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterator
from typing import Any

from optune.config import RunConfig
from optune.loop import algorithm as run
from optune.loop import parts, stages

APPEND = "history"  # the one step of the loop that is no stage: history.append


def steps_of_the_loop(config: RunConfig) -> list[dict[str, Any]]:
    """Each step in order: its lines and note (the comment beside it), what it reads and writes, files, and parts."""
    steps = list(_steps(_source(), set(stages.VERSIONS)))
    options = _options(inspect.getsource(parts.parts_of))
    for step in steps:
        step["files"] = _files(step["step"])
        found = [_part(options[part], config) for part in parts.PARTS_OF.get(step["step"], ())]
        step["parts"] = [part for part in found if part["chosen"] is not None]  # an option left alone is not shown
    return steps


def carried(steps: list[dict[str, Any]]) -> list[str]:
    """What an iteration reads before it writes it, in the order of first reading: handed on from the one before."""
    written: set[str] = set()
    found = []
    for step in steps:
        found += [name for name in step["reads"] if name not in written and name not in found]
        written |= set(step["writes"])
    return [name for name in found if name in written]


def _source() -> str:
    return textwrap.dedent(inspect.getsource(run.loop))


def _steps(source: str, names: set[str]) -> Iterator[dict[str, Any]]:
    """The loop's calls of `stages.<stage>` and `history.append`, in order, with the comments on their lines."""
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    body = _loop(source).body
    made: set[str] = set()  # by steps
    named: dict[str, list[str]] = {}  # other names for what is there: `start`, `reference`
    for place, statement in enumerate(body):
        call = next((c for c in ast.walk(statement) if isinstance(c, ast.Call) and _step_of(c, names)), None)
        if call is None:
            if not made & _names(statement):
                named |= {target: sorted(_names(statement) - {target, "config"}) for target in _targets(statement)}
            continue
        comment = comments.get(statement.lineno, "")
        numbers, _, note = comment.partition(": ") if comment[:1].isdigit() else ("", "", comment)
        reads = [name for read in _read(call) for name in (read, *named.get(read, ()))]
        made |= set(_targets(statement)) - {APPEND}
        yield {
            "step": _step_of(call, names),
            "lines": numbers,
            "note": note,
            "reads": list(dict.fromkeys(reads)),
            "writes": _written(statement, body[place + 1 :], names),
        }


def _written(step: ast.stmt, following: list[ast.stmt], names: set[str]) -> list[str]:
    """What a step is assigned to, and what is made of that without another step (`policy` of `trained`)."""
    own = _targets(step)
    plain = [s for s in following if not any(_step_of(c, names) for c in ast.walk(s) if isinstance(c, ast.Call))]
    return own + [target for s in plain if set(own) & _names(s) for target in _targets(s)]


def _loop(source: str) -> ast.For:
    return next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.For))


def _step_of(call: ast.Call, names: set[str]) -> str | None:
    function = call.func
    if not (isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)):
        return None
    if function.value.id == "stages" and function.attr in names:
        return function.attr
    return APPEND if (function.value.id, function.attr) == ("history", "append") else None


def _targets(statement: ast.stmt) -> list[str]:
    return [t.id for t in statement.targets if isinstance(t, ast.Name)] if isinstance(statement, ast.Assign) else []


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _read(call: ast.Call) -> list[str]:
    """The variables that a call is given, or called on, in order."""
    names = [n.id for node in (*call.args, call.func) for n in ast.walk(node) if isinstance(n, ast.Name)]
    return [name for name in dict.fromkeys(names) if name not in ("t", "stages")]


def _options(source: str) -> dict[str, tuple[str, str]]:
    """Part -> (name of its registry, configuration field), from the dictionary in `optune.loop.parts.parts_of`."""
    table = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Dict))
    return {
        key.value: (value.elts[0].id, ast.unparse(_option(value.elts[1])).removeprefix("config."))
        for key, value in zip(table.keys, table.values, strict=True)
    }


def _option(named: ast.expr) -> ast.expr:
    """The option of `config.section.option`, or of that with a default: `... or DEFAULT`."""
    return named.values[0] if isinstance(named, ast.BoolOp) else named


def _part(where: tuple[str, str], config: RunConfig) -> dict[str, Any]:
    registry, option = where
    chosen = config
    for field in option.split("."):
        chosen = getattr(chosen, field)
    return {"option": option, "registry": registry, "chosen": chosen, "registered": list(getattr(parts, registry))}


def _files(step: str) -> list[str]:
    """The names that a stage's method joins to its folder."""
    if step == APPEND:
        return []
    tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(stages.Stages, step))))
    return [
        node.right.value
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Name) and node.left.id == "folder"
    ]
