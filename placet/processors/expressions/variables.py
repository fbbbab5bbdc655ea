"""The names that an expression may use: of the state, of the payload, of windows, and those that are built in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Final

from placet.processors.expressions.scope import Scope, Variable
from placet.schemas.definition.field_types import Field
from placet.schemas.messages import Value

__all__ = ["BUILT_IN", "payload_variables", "state_variables", "window_variables"]


def state_variables(fields: Mapping[str, Field]) -> dict[str, Variable]:
    """Return `state.<field>` for each field of the state."""
    return {
        f"state.{name}": Variable(f"state.{name}", field, _state_reader(name, field.default))
        for name, field in fields.items()
    }


def payload_variables(payload: Mapping[str, Field]) -> dict[str, Variable]:
    """Return `payload.<field>` for each field of a payload."""
    return {
        f"payload.{name}": Variable(f"payload.{name}", field, _payload_reader(name)) for name, field in payload.items()
    }


def window_variables(names: Iterable[str]) -> dict[str, Variable]:
    """Return `window.<name>` for each window."""
    number = Field.model_validate("long")
    return {f"window.{name}": Variable(f"window.{name}", number, _window_reader(name)) for name in names}


def _state_reader(name: str, default: Value) -> Callable[[Scope], Value]:
    # A state from before the field existed has no such key.
    return lambda scope: scope.fields.get(name, default)


def _payload_reader(name: str) -> Callable[[Scope], Value]:
    return lambda scope: scope.payload.get(name)


def _window_reader(name: str) -> Callable[[Scope], Value]:
    return lambda scope: scope.window[name]


def _built_in(name: str, written: str) -> Variable:
    return Variable(name, Field.model_validate(written), attrgetter(name))


BUILT_IN: Final[dict[str, Variable]] = {
    "status": _built_in("status", "string"),
    "version": _built_in("version", "long"),
    "entity_id": _built_in("entity_id", "string"),
    "event_time": _built_in("event_time", "timestamp"),
    "decided_at": _built_in("decided_at", "timestamp"),
    "proposer": _built_in("proposer", "string"),
}
