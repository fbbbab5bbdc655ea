"""The refusal: why an input is not applied. A value, never an exception."""

from __future__ import annotations

from typing import final

from placet.schemas.decision import Conflict, First, Reason

__all__ = ["Refusal"]


@final
class Refusal:
    """Why an input is not applied, as its decision tells it.

    Args:
        reason: the reason; its number names the rung.
        detail: more, for people.
        first: for a repeat, the first input of the occasion.
        conflicts: for a stale proposal, what changed.
    """

    def __init__(
        self, reason: Reason, detail: str = "", first: First | None = None, conflicts: tuple[Conflict, ...] = ()
    ) -> None:
        self.reason = reason
        self.detail = detail
        self.first = first
        self.conflicts = conflicts
