"""The input of an expression, its result when it can't be evaluated, and its compiled form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from placet.schemas.definition.field_types import Field
from placet.schemas.messages import Value

__all__ = ["DETAIL_LENGTH_MAX", "Compiled", "Evaluate", "Failed", "Scope", "Variable"]

DETAIL_LENGTH_MAX = 200
"""Longest detail of a failure, in characters: it goes into the decision."""


class Scope(NamedTuple):
    """All values that guards, right-hand sides of `set` and invariants can read. Times are ms since the epoch.

    `fields`, `status` and `version` are those of the OLD state for guards and `set`, of the new state for invariants.
    `python:` functions get this tuple, with `fields` and `payload` read-only.
    """

    fields: Mapping[str, Value]
    payload: Mapping[str, Value]
    status: str
    version: int
    entity_id: str
    event_time: int
    decided_at: int
    proposer: str


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
