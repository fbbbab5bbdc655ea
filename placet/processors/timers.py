"""Timers of an entity: which of them wait after a change, and which is due before an input.

A status arms its timers when the entity enters it; those of a time field are armed anew when that field changes.
Leaving the status takes them away. Staying in it does not: `to` the same status is no entry.
"""

from __future__ import annotations

from typing import Final

from placet.processors.machine import Machine
from placet.schemas.memory import Armed
from placet.schemas.messages import Value
from placet.schemas.state import EntityState

__all__ = ["DUE_AFTER_MIN_MS", "armed_after", "first_due"]

DUE_AFTER_MIN_MS: Final = 1_000
"""A timer is due no earlier than this after what arms it: one that arms itself again must not take all the time."""


def armed_after(
    machine: Machine,
    before: EntityState,
    status: str,
    fields: dict[str, Value],
    changed: list[str],
    version: int,
    log_time: int,
) -> dict[str, Armed] | None:
    """Return the timers that wait after a change; None without any.

    Args:
        machine: the compiled definition.
        before: the state before; of a timer that fires, without it.
        status: the status after.
        fields: the fields after.
        changed: names of those that changed.
        version: the version after.
        log_time: of what changes the state, ms.
    """
    entered = status != before.status
    armed = {} if entered or before.armed is None else dict(before.armed)
    for arming in machine.arming.get(status, ()):
        if not entered and (not arming.field or arming.field not in changed):
            continue
        at = fields[arming.field] if arming.field else log_time + arming.after_ms
        if isinstance(at, int):
            armed[arming.name] = Armed(max(at, log_time + DUE_AFTER_MIN_MS), version)
        else:
            armed.pop(arming.name, None)
    return armed or None


def first_due(state: EntityState, before: int) -> tuple[int, str] | None:
    """Return time and name of the timer that is due first, earlier than a time. Two of the same time go by names."""
    if state.armed is None:
        return None
    return min(((timer.due, name) for name, timer in state.armed.items() if timer.due < before), default=None)
