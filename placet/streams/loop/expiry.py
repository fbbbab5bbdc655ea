"""What expires: a bounded number of deletions in each transaction, idle partitions included.

Everything here obeys log time, never the clock: after an outage the clock is far ahead of the inputs that wait, and a
memory deleted by it would be missed by their retries. Whether a memory still counts is judged on log time too
(`memory_is_live`), so that when it is deleted changes no decision; a late tombstone does change one (the entity gets a
new incarnation), so it is written to the changelog with the transaction's epoch and sequence, where replays see it.
"""

from __future__ import annotations

from typing import Final

from placet.processors.dedup import memory_kept_ms
from placet.schemas.errors import UnknownSchema
from placet.schemas.state import ABSENT
from placet.streams.loop.batch import Batch
from placet.streams.records import ProducerRecord
from placet.streams.state import layout
from placet.streams.state.store import StateStore
from placet.streams.state.tombstone import Tombstone
from placet.streams.topology import EntityTopics

__all__ = ["Housekeeping"]

_DELETIONS_MAX: Final = 500
_DELETIONS_WHEN_IDLE_MAX: Final = 5_000
_FIRED: Final = layout.ledger_index_key(b"disarmed/")


class Housekeeping:
    """Follows the reminders in order of time: only what is due is ever read."""

    def __init__(self, store: StateStore, topics: EntityTopics, partition: int) -> None:
        self._store = store
        self._topics = topics
        self._partition = partition
        self._keep_ms = 0
        self._cursor = self._seen = b"t"

    def keep(self, horizon_ms: int) -> None:
        """Keep from now on what is younger than this horizon."""
        self._keep_ms = memory_kept_ms(horizon_ms)

    def is_due(self, log_time: int) -> bool:
        """Tell whether anything has expired."""
        return any(self._expired(reminder, log_time) for reminder, _ in self._store.scan(b"t", self._cursor, 1))

    def add_to(self, batch: Batch, log_time: int, task_epoch: int, sequence: int) -> None:
        """Stage deletions of what expired: memories here, their ledger entries, deleted entities everywhere.

        A transaction may delete more than it adds, so that nothing piles up.
        """
        self._seen = self._cursor
        if not self.is_due(log_time):
            return
        most = _DELETIONS_MAX + 4 * batch.decisions if batch.decisions else _DELETIONS_WHEN_IDLE_MAX
        for reminder, reminded in self._store.scan(b"t", self._cursor, most):
            if most <= 0 or not self._expired(reminder, log_time):
                break
            self._seen = reminder + b"\x00"
            batch.put(reminder, None)
            keys = layout.expiring_keys(reminder, reminded)
            most -= len(keys)
            for key in keys:
                value = batch.get(key)
                # What was remembered anew meanwhile, be it in this very transaction, has a reminder of its own.
                if value is not None and self._expired(b"t" + value, log_time):
                    try:
                        self._delete(batch, key, log_time, task_epoch, sequence)
                    except UnknownSchema:  # the next transaction meets it again
                        batch.put(reminder, reminded)
                        self._seen = reminder
                        raise

    def committed(self) -> None:
        """Go on behind what was deleted: RocksDB would walk over every deleted key again."""
        self._cursor = self._seen

    def _expired(self, reminder: bytes, log_time: int) -> bool:
        return layout.log_time_of(reminder[1:9]) < log_time - self._keep_ms

    def _delete(self, batch: Batch, key: bytes, log_time: int, task_epoch: int, sequence: int) -> None:
        if key.startswith(b"x"):
            self._forget_entity(batch, key[1:], log_time, task_epoch, sequence)
            return
        if key.startswith(_FIRED) and self._is_needed(batch, key):
            batch.remind(key, layout.dump_log_time(log_time) + (batch.get(key) or b"")[8:])
            return
        batch.put(key, None)
        if key.startswith(b"u"):
            batch.send(ProducerRecord(self._topics.ledger, self._partition, key[1:], None))

    def _is_needed(self, batch: Batch, key: bytes) -> bool:
        """Tell whether the entity's last change has a timer armed that fired since: only the ledger tells that."""
        state = batch.state(key[len(_FIRED) :].rpartition(b"/")[0].decode())
        value = batch.get(key)
        return value is not None and layout.is_needed(value, state)

    def _forget_entity(self, batch: Batch, entity: bytes, log_time: int, task_epoch: int, sequence: int) -> None:
        entity_id = entity.decode()
        state = batch.state(entity_id)
        if state.status != ABSENT:  # created again meanwhile: it lives on
            batch.put(layout.deleted_key(entity), None)
            return
        # What the absent entity still remembers by name, and in its windows, counts for the horizon as well.
        remembered_at = state.remembered_at
        if remembered_at >= log_time - self._keep_ms:
            batch.remind(layout.deleted_key(entity), layout.dump_log_time(remembered_at))
            return
        headers = [Tombstone(state.version, task_epoch, sequence).header()]
        batch.send_digested(ProducerRecord(self._topics.changelog, self._partition, entity, None, headers))
        for name in state.applied:
            key = layout.applied_ledger_key(entity_id, name)
            batch.send(ProducerRecord(self._topics.ledger, self._partition, key, None))
        counted = layout.counted_ledger_key(entity_id)
        if state.counts and batch.get(layout.ledger_index_key(counted)) is not None:
            batch.put(layout.ledger_index_key(counted), None)
            batch.send(ProducerRecord(self._topics.ledger, self._partition, counted, None))
        batch.forget(entity)
