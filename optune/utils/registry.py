"""Finds pluggable parts by name. A part is one function (or class) and one line in its module's registry."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from optune.types import UserError


def resolve(registry: Mapping[str, Callable | str], name: str, what: str) -> Any:
    """The part called `name`: a registered one, or any `package.module:attribute`.

    Registry values that are strings are themselves `module:attribute`, imported only when asked for, so that heavy
    engines cost nothing until used. Raises UserError naming the close matches.
    """
    target = registry.get(name, name if ":" in name else None)
    if target is None:
        near = difflib.get_close_matches(name, registry, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(sorted(registry))
        raise UserError(f"Unknown {what} {name!r}.{hint} Known: {known}; or give your own as package.module:name.")
    if not isinstance(target, str):
        return target
    module_name, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise UserError(f"The {what} {name!r} needs the package {error.name!r}, which is not installed.") from None
        raise UserError(f"The {what} {name!r} cannot be imported: there is no module {module_name!r}.") from None
    except AttributeError:
        raise UserError(f"The {what} {name!r} cannot be imported: {module_name} has no {attribute!r}.") from None
