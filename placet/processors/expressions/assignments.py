"""Right-hand sides: literals and expressions that must give a value of a field: checked at load and at run time.

What may be put into a field of which type: the same type; a whole number into a wider one (int < long < double). Null
only into an optional field. Times stay times: a number is no timestamp in an expression.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from placet.processors.expressions.cel import to_milliseconds
from placet.processors.expressions.scope import Compiled, Evaluate, Failed, Scope
from placet.schemas.definition.field_types import Field, accepts, expected, in_scale
from placet.schemas.errors import DefinitionError

__all__ = ["as_text", "assign", "is_boolean"]

_STATIC: dict[str, tuple[str, ...]] = {
    "string": ("STRING",),
    "int": ("INT",),
    "long": ("INT",),
    "double": ("DOUBLE", "INT"),
    "boolean": ("BOOL",),
    "timestamp": ("TIMESTAMP",),
    "decimal": ("DECIMAL",),
}
_NOTHING = Scope({}, {}, "", 0, "", 0, 0, "")
_ALWAYS_AT_RUN_TIME = ("DYN", "PYTHON")


def is_boolean(compiled: Compiled) -> None:
    """Check that a guard or an invariant gives a boolean.

    Raises:
        DefinitionError: it gives something else, or may give null.
    """
    if compiled.result in ("BOOL", "PYTHON"):
        return
    if compiled.source is not None and compiled.source.field.type == "boolean":
        name = compiled.source.name
        raise DefinitionError(f"{name} may be null", fix=f"Write `{name} == true`.")
    raise DefinitionError(
        f"this gives {compiled.result}, not a boolean", fix="Compare it, such as `… == 1` or `… != null`."
    )


def assign(value: Any, field: Field) -> Evaluate:
    """The function that gives a field's new value.

    Args:
        value: a literal, or a compiled expression.
        field: the field that it is put into.

    Raises:
        DefinitionError: it can never be a value of the field.
    """
    if isinstance(value, Compiled):
        return _assign_expression(value, field)
    literal = _widened(value, field)
    if isinstance(literal, int) and field.type == "decimal" and not isinstance(literal, bool):
        literal = Decimal(literal)
    if not accepts(field)(literal):
        raise DefinitionError(f"{value!r} is no {expected(field)}", fix=_literal_fix(field))
    settled = _settled(literal, field)
    return lambda _scope: settled


def _literal_fix(field: Field) -> str:
    if field.type == "string":
        return "Write a text in quotes inside: \"'text'\"."
    return "Write a value of that type, or an expression in quotes."


def _assign_expression(compiled: Compiled, field: Field) -> Evaluate:
    source = compiled.source
    if source is not None and field.takes(source.field) and not source.name.startswith("window."):
        return compiled.evaluate  # what a window adds up to may have more than 64 bits
    _check_static(compiled, field)
    is_time = field.type == "timestamp" and compiled.source is None and compiled.result != "PYTHON"
    checked = _checked_time(compiled.evaluate, field) if is_time else _checked(compiled.evaluate, field)
    return _folded(checked) if compiled.is_constant else checked


def _folded(checked: Evaluate) -> Evaluate:
    """An expression that reads nothing gives one value, known and checked now."""
    value = checked(_NOTHING)
    if isinstance(value, Failed):
        raise DefinitionError(value.detail, fix="Write a value of the field's type.")
    return lambda _scope: value


def _check_static(compiled: Compiled, field: Field) -> None:
    """Refuse at load what can be known at load."""
    source, result = compiled.source, compiled.result
    if source is not None and source.field.optional and not field.optional:
        raise DefinitionError(
            f"{source.name} may be null, the field may not",
            fix=f"Write `{source.name} == null ? … : {source.name}`, or make the field `| null`.",
        )
    if source is not None:
        result = _static_of(source.field)
    if result in _ALWAYS_AT_RUN_TIME or (result == "NULL" and field.optional):
        return
    if not _fits_statically(result, field):
        raise DefinitionError(f"this gives {result}, the field is {expected(field)}", fix=_static_fix(result, field))


def _static_of(field: Field) -> str:
    if field.items:
        return f"LIST<{_STATIC[field.items][0]}>"
    if field.values:
        return f"MAP<STRING, {_STATIC[field.values][0]}>"
    return _STATIC[field.type][0]


def _fits_statically(result: str, field: Field) -> bool:
    if field.items:
        return _inner_fits(result, "LIST<", field.items)
    if field.values:
        return _inner_fits(result, "MAP<STRING, ", field.values) or result == "MAP<DYN, DYN>"
    return result in _STATIC[field.type]


def _inner_fits(result: str, opening: str, scalar: str) -> bool:
    inner = result.removeprefix(opening).removesuffix(">")
    return result.startswith(opening) and (inner in _STATIC[scalar] or inner not in _KNOWN)


_KNOWN = frozenset(name for names in _STATIC.values() for name in names)


def _static_fix(result: str, field: Field) -> str:
    if field.type == "decimal":
        return "Expressions cannot compute decimals: copy one, or keep minor units (cents) in a long."
    if field.type == "timestamp":
        return "Give a time: event_time, a timestamp field, `event_time + duration('60s')`."
    if result == "TIMESTAMP":
        return "Make the field a timestamp."
    conversions = {"string": "string(…)", "int": "int(…)", "long": "int(…)", "double": "double(…)"}
    return f"Convert it: {conversions[field.type]}." if field.type in conversions else "Change the field's type."


def _checked(evaluate: Evaluate, field: Field) -> Evaluate:
    fits, words = accepts(field), expected(field)
    adapt = _adapter(field)

    def checked(scope: Scope) -> Any:
        value = evaluate(scope)
        if type(value) is Failed:
            return value
        adapted = adapt(value)
        return adapted if fits(adapted) else Failed(f"expected {words}, got {_shown(value)}")

    return (lambda scope: _settled(checked(scope), field)) if field.type == "decimal" else checked


def _settled(value: Any, field: Field) -> Any:
    """A decimal in its field's scale, as the changelog gives it back: a task that was restored sees the same."""
    return in_scale(value, field.scale or 0) if isinstance(value, Decimal) else value


def _checked_time(evaluate: Evaluate, field: Field) -> Evaluate:
    """A time that CEL computed: a datetime, never a number that may mean seconds or milliseconds."""
    words = expected(field)

    def checked(scope: Scope) -> Any:
        value: Any = evaluate(scope)
        if isinstance(value, datetime):
            return to_milliseconds(value)
        if type(value) is Failed or (value is None and field.optional):
            return value
        return Failed(f"expected {words}, got {_shown(value)}")

    return checked


def _shown(value: Any) -> str:
    """A value in a decision's detail, which must read the same in every process: no addresses, no order of maps."""
    return f"{value!r:.60}" if isinstance(value, str | int | float | Decimal | None) else type(value).__name__


def _adapter(field: Field) -> Callable[[Any], Any]:
    if field.values:
        # The order of a map that CEL made differs from process to process; what is stored must not.
        return lambda value: dict(sorted(value.items())) if _has_text_keys(value) else value
    return lambda value: _widened(value, field)


def _has_text_keys(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _widened(value: Any, field: Field) -> Any:
    if field.type == "double" and type(value) is int:
        return float(value)
    if field.items == "double" and type(value) is list:
        return [float(item) if type(item) is int else item for item in value]
    return value


def as_text(value: Any) -> str:
    """Return a right-hand side as its author wrote it."""
    return value if isinstance(value, str) else {True: "true", False: "false", None: "null"}.get(value, str(value))
