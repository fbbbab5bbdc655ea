"""What a driver is told, and what it tells."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from placet.schemas.decision import Coordinates, Decision

__all__ = ["BasedOn", "Decided"]


class BasedOn(Protocol):
    """What a proposal is based on: a state as it was read."""

    @property
    def version(self) -> int:
        """The state's version."""
        ...

    @property
    def incarnation(self) -> int:
        """The state's incarnation."""
        ...


class Decided(NamedTuple):
    """A decision, and where and when it was taken."""

    decision: Decision
    at: Coordinates
