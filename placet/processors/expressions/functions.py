"""`python:package.module:function`: rules that are code, named in a definition where CEL is not enough.

The function must be pure: called as `function(scope)` with a `placet.processors.machine.Scope`, it returns a boolean
(guard, invariant) or a value (`set`). Its source is part of the definition's digest: changed code is a changed rule.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from placet.schemas.definition.grammar import FUNCTION
from placet.schemas.errors import DefinitionError

__all__ = ["function_digest", "load_function"]


def load_function(reference: str) -> Callable[[Any], Any]:
    """Import the function that `python:package.module:function` names.

    Raises:
        DefinitionError: the reference is malformed, the module does not import, or it has no such function.
    """
    module_name, colon, name = reference.removeprefix(FUNCTION).partition(":")
    if not (colon and name.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
        raise DefinitionError(f"{reference!r} names no function", fix="Write `python:package.module:function`.")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything while it is imported
        raise DefinitionError(
            f"the module {module_name} does not import: {type(error).__name__}: {error}",
            fix="Install it beside Placet, or put its folder on PYTHONPATH.",
        ) from error
    function = getattr(module, name, None)
    if not inspect.isfunction(function):
        raise DefinitionError(
            f"the module {module_name} has no function {name}", fix=f"Define `def {name}(scope)` there."
        )
    return function


def function_digest(reference: str) -> str:
    """Digest of the function's source, as hex: 16 bytes of blake2b.

    Only the function's own text is covered: what it calls is not, so keep it in one function.

    Raises:
        DefinitionError: as `load_function`, or the source is not available.
    """
    function = load_function(reference)
    try:
        source = inspect.getsource(function)
    except OSError as error:
        raise DefinitionError(
            f"the source of {reference!r} is not available: {error}", fix="Ship the module as a .py file."
        ) from error
    return hashlib.blake2b(source.encode(), digest_size=16).hexdigest()
