"""Which timers belong to a status, and when they are due: what the machine holds of them beside its table."""

from __future__ import annotations

from typing import final

from placet.schemas.definition.model import Definition

__all__ = ["Arming", "arming_of"]


@final
class Arming:
    """When a timer is armed that belongs to a status: on entering it, `after_ms` later, or with a timestamp field.

    Attributes:
        field: the state field that holds the time; "" for one that counts from the entry.
    """

    def __init__(self, name: str, after_ms: int, field: str) -> None:
        self.name = name
        self.after_ms = after_ms
        self.field = field


def arming_of(definition: Definition) -> dict[str, tuple[Arming, ...]]:
    """Return the timers of a definition by status."""
    found: dict[str, list[Arming]] = {}
    for name, timer in definition.timers.items():
        one = Arming(name, timer.after_ms or 0, timer.field)
        statuses = [status for way in timer.transitions for status in definition.statuses_from(way)]
        for status in dict.fromkeys(statuses):
            found.setdefault(status, []).append(one)
    return {status: tuple(timers) for status, timers in found.items()}
