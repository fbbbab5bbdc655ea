"""Timers that wait, as a reader of the log finds them.

A change tells which timers were armed behind it. One that fired since, and changed nothing, stands in the ledger only
(`Disarmed`); one that changed something led to another change. So both topics together say what waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from placet.client.snapshot import Snapshot
from placet.schemas.ledger import Disarmed
from placet.streams.records import ConsumerRecord
from placet.streams.state.layout import ARMED_HEADER

__all__ = ["ArmedTimer", "due_of", "has_timers", "timers_of"]


class ArmedTimer(NamedTuple):
    """A timer that waits: when it is due, ms since the epoch, and the version of the entity that armed it."""

    due: int
    entity_id: str
    name: str
    status: str
    armed_by: int


def has_timers(record: ConsumerRecord) -> bool:
    """Tell whether a change left any timer armed, without decoding it."""
    return any(name == ARMED_HEADER for name, _ in record.headers or ())


def timers_of(snapshot: Snapshot, fired: Mapping[tuple[str, str], Disarmed]) -> Iterator[ArmedTimer]:
    """Yield the timers of an entity that wait.

    Args:
        snapshot: its newest state.
        fired: what the ledger says last of timers that fired and changed nothing, by entity and name.
    """
    entity_id, state = snapshot.entity_id, snapshot.state
    for name, timer in (state.armed or {}).items():
        entry = fired.get((entity_id, name))
        if entry is None or (entry.incarnation, entry.armed) != (state.incarnation, timer.version):
            yield ArmedTimer(timer.due, entity_id, name, state.status, timer.version)


def due_of(history: Sequence[Snapshot], name: str, incarnation: int, armed_by: int) -> int | None:
    """Return when a timer was due, ms since the epoch; None where no state on the log has it armed."""
    for snapshot in history:
        timer = (snapshot.state.armed or {}).get(name)
        if timer is not None and (snapshot.incarnation, timer.version) == (incarnation, armed_by):
            return timer.due
    return None
