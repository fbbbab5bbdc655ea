"""Expressions: from the text in a definition to a function of the scope.

    literal          10, true, null, 'high'      ─► a constant
    path             payload.x, window.y, status ─► a plain accessor, never through CEL
    python:…         a function's name           ─► that function, its exceptions caught
    everything else  state.count < 10            ─► CEL, type-checked here, at load

What comes out is total: it gives a value or `Failed`, and never raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from placet.processors.expressions.cel import compile_cel, static_type, unknown_name
from placet.processors.expressions.functions import load_function
from placet.processors.expressions.scope import Compiled, FunctionCall, Variable
from placet.schemas.definition.grammar import is_function
from placet.schemas.errors import DefinitionError

__all__ = ["SOURCE_BYTES_MAX", "compile_expression"]

SOURCE_BYTES_MAX = 4096
"""Longest expression, in UTF-8 bytes."""

_PATH = re.compile(r"(?:state|payload|window)\.[a-z][a-z0-9_]*|[a-z][a-z0-9_]*")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_DOUBLE = re.compile(r"-?[0-9]{1,18}\.[0-9]{1,18}")
_TEXT = re.compile(r"'([^'\\\n\r]*)'|\"([^\"\\\n\r]*)\"")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def compile_expression(text: str, names: Mapping[str, Variable]) -> Compiled:
    """Compile one expression against the names that it may use.

    Args:
        text: the expression, as in the definition.
        names: what is known, by dotted name such as `state.count`.

    Raises:
        DefinitionError: without file and line (the caller knows them): unknown name, wrong types, a trap.
    """
    text = text.strip()
    if not text:
        raise DefinitionError("the expression is empty", fix="Leave the key out, or write an expression.")
    if len(text.encode()) > SOURCE_BYTES_MAX:
        raise DefinitionError(
            f"the expression is longer than {SOURCE_BYTES_MAX} bytes", fix="Use `python:package.module:function`."
        )
    if is_function(text):
        call = FunctionCall(load_function(text), text)
        return Compiled(call.evaluate, "PYTHON", (), call=call)
    return _literal(text) or _path(text, names) or compile_cel(text, names)


def _literal(text: str) -> Compiled | None:
    if text in _WORDS:
        return _constant(_WORDS[text], "NULL" if text == "null" else "BOOL")
    if _INTEGER.fullmatch(text) and -(1 << 63) <= int(text) < 1 << 63:
        return _constant(int(text), "INT")
    if _DOUBLE.fullmatch(text):
        return _constant(float(text), "DOUBLE")
    if match := _TEXT.fullmatch(text):
        return _constant(match[1] if match[1] is not None else match[2], "STRING")
    return None


def _constant(value: Any, result: str) -> Compiled:
    return Compiled(lambda _scope: value, result, ())


def _path(text: str, names: Mapping[str, Variable]) -> Compiled | None:
    if text in names:
        variable = names[text]
        return Compiled(variable.read, static_type(variable.field), (text,), variable)
    if _PATH.fullmatch(text):
        raise unknown_name(text, names)
    return None
