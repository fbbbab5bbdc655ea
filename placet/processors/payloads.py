"""What is done with a decoded payload before it is judged: what its bytes leave open is checked; it gets one form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from placet.schemas.definition.field_types import Field, accepts, expected, is_as_typed
from placet.schemas.messages import Value

__all__ = ["canonical_form", "payload_check"]


def canonical_form(payload: Mapping[str, Field]) -> Callable[[dict[str, Value]], object]:
    """The function that gives what a payload's digest covers: (name, value) pairs in sorted field order.

    Fields at their default are left out, so that a new field with a default does not make an old retry look different.
    """
    plan = [(name, payload[name].default) for name in sorted(payload)]
    maps = frozenset(name for name, field in payload.items() if field.type == "map")

    def canonical(values: dict[str, Value]) -> object:
        return [(name, value) for name, default in plan if (value := values[name]) != default]

    def canonical_with_maps(values: dict[str, Value]) -> object:
        ordered = {name: _sorted_map(value) if name in maps else value for name, value in values.items()}
        return canonical(ordered)

    return canonical_with_maps if maps else canonical


def _sorted_map(value: Any) -> Any:
    return dict(sorted(value.items())) if isinstance(value, dict) else value


def payload_check(payload: Mapping[str, Field]) -> Callable[[dict[str, Value]], str]:
    """The function that gives "" for a decoded payload that fits, else names the first field that does not.

    It checks what bytes of the contract may still be: a text that is none of the symbols, a double that is no number.
    """
    checks = [(name, accepts(field), expected(field)) for name, field in payload.items() if not is_as_typed(field)]

    def check(values: dict[str, Value]) -> str:
        for name, fits, words in checks:
            value = values[name]
            if not fits(value):
                return f"{name}: expected {words}, got {value!r:.60}"
        return ""

    return check
