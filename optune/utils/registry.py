"""Finds pluggable parts by name. A part is one function (or class) and one line in its module's registry."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optune.types import UserError


def resolve(registry: Mapping[str, Callable | str], name: str, what: str) -> Any:
    """The part called `name`: a registered one, any `package.module:attribute`, or any `file.py:attribute`.

    Registry values that are strings are themselves `module:attribute`, imported only when asked for, so that heavy
    engines cost nothing until used. Raises UserError naming the close matches.
    """
    target = registry.get(name, name if ":" in name else None)
    if target is None:
        near = difflib.get_close_matches(name, registry, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(sorted(registry))
        raise UserError(
            f"Unknown {what} {name!r}.{hint} Known: {known}; or give your own as package.module:name or file.py:name."
        )
    if not isinstance(target, str):
        return target
    module_name, _, attribute = target.rpartition(":")
    if module_name.endswith(".py"):
        return _from_file(Path(module_name), attribute, what)
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise UserError(f"The {what} {name!r} needs the package {error.name!r}, which is not installed.") from None
        raise UserError(f"The {what} {name!r} cannot be imported: there is no module {module_name!r}.") from None
    except AttributeError:
        raise UserError(f"The {what} {name!r} cannot be imported: {module_name} has no {attribute!r}.") from None


def _from_file(path: Path, attribute: str, what: str) -> Any:
    """What a Python file calls `attribute`; the file is run once in a process. Raises UserError."""
    if not path.is_file():
        raise UserError(f"The {what} '{path}:{attribute}' cannot be loaded: there is no file {str(path)!r}.")
    name = f"optune_file_{path.resolve().as_posix()}"
    module = sys.modules.get(name)
    if module is None:
        spec = importlib.util.spec_from_file_location(name, path.resolve())
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(path.resolve().parent))  # a file may import its neighbours
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            raise UserError(f"{path}{line}: cannot be loaded ({type(error).__name__}: {error}).") from error
        finally:
            sys.path.pop(0)
    if not hasattr(module, attribute):
        raise UserError(f"The {what} '{path}:{attribute}' cannot be loaded: {path} has no {attribute!r}.")
    return getattr(module, attribute)
