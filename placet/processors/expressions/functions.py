"""`python:package.module:function`: rules that are code, named in a definition where CEL is not enough.

The function must be pure: called as `function(scope)` with a `placet.processors.machine.Scope`, it returns a boolean
(guard, invariant) or a value (`set`). Its source is part of the definition's digest: changed code is a changed rule.
`…:function@2` names `def function_v2` in the module: so one image has the code of several versions.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Final
from weakref import WeakKeyDictionary

from placet.schemas.definition.sources import FunctionName, function_name
from placet.schemas.errors import DefinitionError

__all__ = ["function_digest", "load_function"]

_texts: Final[WeakKeyDictionary[FunctionType, str]] = WeakKeyDictionary()
"""Sources as they were when their module was first looked at: its file may be replaced while this process runs."""


def load_function(reference: str) -> FunctionType:
    """Import the function that a reference names.

    Raises:
        DefinitionError: the reference is malformed, the module does not import, or it has no such function.
    """
    wanted = function_name(reference)
    if wanted is None:
        raise DefinitionError(
            f"{reference!r} names no function",
            fix="Write `python:package.module:function`, or `python:package.module:function@2` for its version 2.",
        )
    try:
        module = importlib.import_module(wanted.module)
    except (Exception, SystemExit) as error:  # a user's module may raise anything while it is imported
        raise DefinitionError(
            f"the module {wanted.module} does not import: {type(error).__name__}: {error}",
            fix="Install it beside Placet, or put its folder on PYTHONPATH.",
        ) from error
    _remember_texts(module)
    function = getattr(module, wanted.in_python, None)
    if not inspect.isfunction(function):
        raise _missing(wanted, module)
    return function


def function_digest(reference: str) -> str:
    """Digest of the function's source, as hex: 16 bytes of blake2b.

    Only the function's own text is covered: what it calls is not, so keep it in one function.

    Raises:
        DefinitionError: as `load_function`, or the source is not available.
    """
    function = load_function(reference)
    try:
        source = _texts.get(function) or inspect.getsource(function)
    except OSError as error:
        raise DefinitionError(
            f"the source of {reference!r} is not available: {error}", fix="Ship the module as a .py file."
        ) from error
    return hashlib.blake2b(source.encode(), digest_size=16).hexdigest()


def _remember_texts(module: ModuleType) -> None:
    """Keep the text of each function beside the code that was made of it."""
    for function in [*vars(module).values()]:
        if inspect.isfunction(function) and function not in _texts:
            with suppress(OSError, TypeError):
                _texts[function] = inspect.getsource(function)


def _missing(wanted: FunctionName, module: ModuleType) -> DefinitionError:
    """Say which versions of a function are there, and what to do about the one that is not."""
    what = f"no version {wanted.version} of {wanted.name}" if wanted.version else f"no function {wanted.name}"
    there = ", ".join(str(found) for found in _versions(wanted, module))
    message = f"the module {wanted.module} has {what}{f': it has {there}' if there else ''}"
    fix = f"Define `def {wanted.in_python}(scope)` there"
    return DefinitionError(
        message, fix=f"{fix}, install the code that has it, or name one that is there." if there else f"{fix}."
    )


def _versions(wanted: FunctionName, module: ModuleType) -> list[FunctionName]:
    """Return the versions of a function that its module has, the one without a version first."""
    found = []
    for name, value in vars(module).items():
        stem, _, number = name.rpartition("_v")
        if inspect.isfunction(value) and name == wanted.name:
            found.append(wanted.at(None))
        elif inspect.isfunction(value) and stem == wanted.name and number.isdecimal() and not number.startswith("0"):
            found.append(wanted.at(int(number)))
    return sorted(found, key=lambda one: one.version or 0)
