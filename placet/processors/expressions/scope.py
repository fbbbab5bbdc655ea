"""The input of an expression, its result when it can't be evaluated, and its compiled form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, final

from placet.schemas.definition.field_types import Field
from placet.schemas.messages import Value

__all__ = ["DETAIL_LENGTH_MAX", "Compiled", "Evaluate", "Failed", "Scope", "Variable"]

DETAIL_LENGTH_MAX = 200
"""Longest detail of a failure, in characters: it goes into the decision."""


@final
class Scope:
    """All values that guards, right-hand sides of `set` and invariants can read. Times are ms since the epoch.

    `fields`, `status` and `version` are those of the OLD state for guards and `set`, of the new state for invariants.
    A `python:` function gets a copy of its own, with `fields` and `payload` read-only.
    """

    def __init__(
        self,
        fields: Mapping[str, Value],
        payload: Mapping[str, Value],
        status: str,
        version: int,
        entity_id: str,
        event_time: int,
        decided_at: int,
        proposer: str,
    ) -> None:
        self.fields = fields
        self.payload = payload
        self.status = status
        self.version = version
        self.entity_id = entity_id
        self.event_time = event_time
        self.decided_at = decided_at
        self.proposer = proposer

    def read_only(self) -> Scope:
        """Return a copy: neither state nor payload can be changed through it."""
        return Scope(
            MappingProxyType(_copied(self.fields)), MappingProxyType(_copied(self.payload)), self.status, self.version,
            self.entity_id, self.event_time, self.decided_at, self.proposer,
        )  # fmt: skip

    def after(self, fields: Mapping[str, Value], status: str, version: int) -> Scope:
        """Return the scope of the state after: its invariants are about that one."""
        return Scope(
            fields, self.payload, status, version, self.entity_id, self.event_time, self.decided_at, self.proposer
        )


def _copied(values: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value.copy() if isinstance(value, list | dict) else value for name, value in values.items()}


class Failed(NamedTuple):
    """An expression that could not be evaluated, or gave a value of a wrong type. `detail` says why, in one line."""

    detail: str


Evaluate: TypeAlias = Callable[[Scope], Value | Failed]
"""A compiled expression: total and pure; it never raises."""


class Variable(NamedTuple):
    """One name that an expression may use: its field type, and how it is read from the scope."""

    name: str
    field: Field
    read: Callable[[Scope], Any]


class Compiled(NamedTuple):
    """A compiled expression.

    `result` is the static type: CEL's name ("BOOL", "LIST<INT>", "DYN", …), or "PYTHON" for a function. `source` is the
    variable when the expression is nothing but a path. `reads` are the names that it uses.
    """

    evaluate: Evaluate
    result: str
    reads: tuple[str, ...]
    source: Variable | None = None

    @property
    def is_constant(self) -> bool:
        """Whether it reads nothing, so that it gives the same value every time."""
        return not self.reads and self.result != "PYTHON"
