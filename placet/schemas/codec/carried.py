"""Values of fields that a definition does not have: carried on, so that no gate drops what another one accepted.

    v2 writes owner ─► changelog: a column ─► v3 lacks it: carried {owner: …} ─► its changes: in the hidden header
                                                                                      │
    v4 has it again: a field ◄────────────────────────────────────────────────────────┘

A version may have a field no more, and the next one have it again; a gate may not have heard of a new one yet.
A carried value is what msgpack can hold, decimals as text in their field's scale: equal values, equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeAlias

from placet.schemas.definition.field_types import Field, accepts, expected, in_scale, widening
from placet.schemas.errors import DecodeError
from placet.schemas.state import EntityState

__all__ = ["Carried", "KnownFields", "portable"]

_Plain: TypeAlias = bool | int | float | str | None
Carried: TypeAlias = dict[str, _Plain | list[_Plain] | dict[str, _Plain]]
"""Carried values by field."""


def portable(value: Any) -> Any:
    """Return a field's value as it is carried: a decimal as text."""
    return str(value) if isinstance(value, Decimal) else value


class KnownFields:
    """The fields of one definition: what of a state belongs into them, and what is carried beside them.

    Args:
        fields: the definition's, by name.
    """

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._names = dict.fromkeys(fields).keys()
        self._read = {name: _reader(name, field) for name, field in fields.items()}

    def adopt(self, state: EntityState) -> EntityState:
        """Return a state that a gate of another version may have kept, as this definition has it.

        Fields that are missing stay so: their defaults count.

        Raises:
            DecodeError: a carried value is none of its field's type.
        """
        if state.fields.keys() <= self._names and not (state.carried and state.carried.keys() & self._names):
            return state
        fields = {name: value for name, value in state.fields.items() if name in self._names}
        unknown = {name: portable(value) for name, value in state.fields.items() if name not in self._names}
        carried = self.put_back(fields, {**(state.carried or {}), **unknown})
        return replace(state, fields=fields, carried=carried)

    def put_back(self, fields: dict[str, Any], carried: Carried) -> Carried | None:
        """Put carried values into the fields that this definition has; return what it still does not know.

        Raises:
            DecodeError: a value is none of its field's type.
        """
        for name in carried.keys() & self._names:
            fields[name] = self._read[name](carried[name])
        return {name: value for name, value in carried.items() if name not in self._names} or None


def _reader(name: str, field: Field) -> Callable[[Any], Any]:
    """Return the way from a carried value to the field's. Symbols are no matter: the changelog does not check them."""
    anything = field.model_copy(update={"symbols": None, "optional": True})
    fits, widen = accepts(anything), _widening(field)

    def read(value: Any) -> Any:
        found = widen(value)
        if not fits(found):
            shown = f"{value!r:.60}" if isinstance(value, str | int | float) else type(value).__name__
            raise DecodeError(
                f"`{name}`: the carried value {shown} is no {expected(anything)}: a field is never given another type"
            )
        return found

    return read


def _widening(field: Field) -> Callable[[Any], Any]:
    """Return what makes a value of the field's type of what msgpack gives, as far as that is possible."""
    if field.type == "decimal":
        return lambda value: _decimal(value, field.scale or 0)
    return widening(field)


def _decimal(text: Any, scale: int) -> Any:
    try:
        return in_scale(Decimal(text), scale) if isinstance(text, str) else text
    except ArithmeticError:
        return text
