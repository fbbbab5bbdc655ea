"""What an expression sees, and what it answers when it cannot be evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from placet.schemas.messages import Value

__all__ = ["Evaluate", "Failed", "Scope"]


class Scope(NamedTuple):
    """Everything that guards, right-hand sides of `set` and invariants can read. Times in milliseconds since the epoch.

    `fields`, `status` and `version` are the OLD state's for guards and `set`, the new state's for invariants.
    `python:` functions get this very tuple, with `fields` and `payload` read-only.
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
