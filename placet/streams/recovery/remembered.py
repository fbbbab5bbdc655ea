"""What the ledger remembers beside its commits, on its way into a store: one row for each kind of entry.

A kind of entry that `judge.consequences` gives has a row here: how it is taken in, and what its deletion takes away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from placet.schemas.errors import DecodeError
from placet.schemas.ledger import AppliedEntry, Counted, Disarmed, LedgerEntry, MemoryEntry, Windows
from placet.schemas.memory import Applied
from placet.schemas.messages import Kind
from placet.schemas.state import ABSENT, UNSEEN, EntityState
from placet.streams.errors import TaskStopped, unreadable
from placet.streams.recovery.steps import Restoration
from placet.streams.state import layout

__all__ = ["Remembered"]


class Remembered:
    """Some of a ledger's entries, on top of what the store holds.

    Attributes:
        writes: for the store, once all of them are taken.
    """

    def __init__(self, job: Restoration) -> None:
        self.writes: dict[bytes, bytes | None] = {}
        self._job = job

    def take(self, entry: LedgerEntry, ledger_key: bytes) -> None:
        """Take an entry in, if it is of a kind that is remembered."""
        kind = _TAKEN.get(type(entry))
        if kind is not None:
            kind(self, entry, ledger_key)

    def delete(self, ledger_key: bytes) -> None:
        """Take in that an entry was deleted."""
        role, _, rest = ledger_key.partition(b"/")
        _DELETED.get(role, _delete)(self, layout.ledger_index_key(ledger_key), rest)

    def get(self, key: bytes) -> bytes | None:
        """Return what the store will hold under a key."""
        return self.writes[key] if key in self.writes else self._job.store.get(key)

    def state(self, entity: bytes) -> EntityState:
        """Return an entity's state.

        Raises:
            TaskStopped: it can't be decoded; the entity is named.
        """
        data = self.get(layout.state_key(entity))
        try:
            return self._job.form.load(data) if data else UNSEEN
        except DecodeError as error:
            place, name = self._job.partition(self._job.topics.changelog), repr(entity.decode("utf-8", "replace"))
            raise TaskStopped(self._job.task_id, str(unreadable(place, name, error))) from error

    def put_state(self, entity: bytes, state: EntityState) -> None:
        """Set an entity's state."""
        self.writes[layout.state_key(entity)] = self._job.form.dump(state)


def _take_memory(remembered: Remembered, entry: MemoryEntry, ledger_key: bytes) -> None:
    """The later one counts: a change that renewed the occasion after the horizon was read before."""
    key = layout.memory_key(Kind(entry.kind), entry.entity_id.encode(), entry.dedup_key)
    known = remembered.get(key)
    if not known or layout.log_time_of(known) <= entry.memory.log_time:
        layout.remember(remembered.writes, key, layout.dump_memory(entry.memory))
    reminder = layout.dump_log_time(entry.memory.log_time)
    layout.remember(remembered.writes, layout.ledger_index_key(ledger_key), reminder)


def _take_applied(remembered: Remembered, entry: AppliedEntry, _ledger_key: bytes) -> None:
    entity = entry.entity_id.encode()
    state = remembered.state(entity)
    known = state.applied.get(entry.name)
    if state.incarnation != entry.incarnation or (known and _age(known) > _age(entry.applied)):
        return
    remembered.put_state(entity, state.remembering({**state.applied, entry.name: entry.applied}))
    if state.status == ABSENT and not state.deleted_at:
        reminder = layout.dump_log_time(entry.applied.log_time)
        layout.remember(remembered.writes, layout.deleted_key(entity), reminder)


def _take_disarmed(remembered: Remembered, entry: Disarmed, ledger_key: bytes) -> None:
    """A timer that fired and changed nothing: the entity's last change has it armed still."""
    entity = entry.entity_id.encode()
    state = remembered.state(entity)
    timer = (state.armed or {}).get(entry.name)
    is_armed = state.incarnation == entry.incarnation and timer is not None and timer.version == entry.armed
    key = layout.ledger_index_key(ledger_key)
    if is_armed:
        remembered.put_state(entity, state.disarmed(entry.name))
        layout.remember(remembered.writes, key, layout.dump_needed_by(state))
    elif remembered.get(key) is None:  # else an earlier restore, which was given up, has taken it in already
        layout.remember(remembered.writes, key, layout.dump_needed_by(UNSEEN))


def _take_counted(remembered: Remembered, entry: Counted, ledger_key: bytes) -> None:
    """What windows hold after an input that changed nothing: a later change carries its own."""
    entity, mark = entry.entity_id.encode(), layout.dump_log_time(entry.log_time)
    state = remembered.state(entity)
    if (state.incarnation, state.version) == (entry.incarnation, entry.version):
        remembered.put_state(entity, state.counting(entry.counts))
        if state.status == ABSENT and not state.deleted_at:
            layout.remember(remembered.writes, layout.deleted_key(entity), mark)
    layout.remember(remembered.writes, layout.ledger_index_key(ledger_key), mark)


def _take_windows(remembered: Remembered, entry: Windows, _ledger_key: bytes) -> None:
    remembered.writes[layout.WINDOWS] = layout.dump_windows(entry.windows)


def _delete(remembered: Remembered, key: bytes, _rest: bytes) -> None:
    """A memory leaves nothing but its reminder."""
    remembered.writes[key] = None


def _delete_disarmed(remembered: Remembered, key: bytes, rest: bytes) -> None:
    """No gate deletes what is needed: an earlier restore, which was given up, has read the entry that follows here."""
    value, state = remembered.get(key), remembered.state(rest.rpartition(b"/")[0])
    if value is None or not layout.is_needed(value, state):
        remembered.writes[key] = None


def _delete_counted(remembered: Remembered, key: bytes, entity: bytes) -> None:
    """What was counted has left all windows: an entity that was never there, and remembers nothing else, is unknown."""
    remembered.writes[key] = None
    state = remembered.state(entity)
    if state.version == 0 and not state.applied:
        remembered.writes[layout.state_key(entity)] = remembered.writes[layout.deleted_key(entity)] = None


def _delete_applied(remembered: Remembered, key: bytes, rest: bytes) -> None:
    """An entity's tombstone takes with it what it remembered by name: also what the ledger brought back."""
    remembered.writes[key] = None
    entity = rest.rpartition(b"/")[0]
    if remembered.state(entity).version == 0:
        remembered.writes[layout.state_key(entity)] = remembered.writes[layout.deleted_key(entity)] = None


def _age(applied: Applied) -> tuple[int, int, int]:
    """What orders two applied inputs of one name: the later of two of the same time counts."""
    return applied.event_time, applied.log_time, applied.version


_TAKEN: Final[dict[type, Callable[[Remembered, Any, bytes], None]]] = {
    MemoryEntry: _take_memory,
    AppliedEntry: _take_applied,
    Disarmed: _take_disarmed,
    Counted: _take_counted,
    Windows: _take_windows,
}
_DELETED: Final[dict[bytes, Callable[[Remembered, bytes, bytes], None]]] = {
    b"applied": _delete_applied,
    b"counted": _delete_counted,
    b"disarmed": _delete_disarmed,
}
"""By the first part of the ledger's key. Handed over: the key in the store, and the rest of the ledger's."""
