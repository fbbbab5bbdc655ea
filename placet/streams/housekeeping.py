"""What expires: a bounded number of deletions in each transaction, idle partitions included.

Everything here obeys log time, never the clock: after an outage the clock is far ahead of the inputs that wait, and a
memory deleted by it would be missed by their retries. Whether a memory still counts is judged on log time too
(`memory_is_live`), so that when it is deleted changes no decision; a late tombstone does change one (the entity gets a
new incarnation), so it is written to the changelog with the transaction's epoch and sequence, where replays see it.
"""

from __future__ import annotations

from typing import Final

from placet.processors.decide import CLOCK_AHEAD_MAX_MS
from placet.schemas.state import ABSENT
from placet.streams import layout
from placet.streams.batch import Batch
from placet.streams.records import ProducerRecord
from placet.streams.store import StateStore
from placet.streams.topology import EntityTopics

__all__ = ["TOMBSTONE_HEADER", "Housekeeping", "tombstone_header"]

TOMBSTONE_HEADER = "placet-tombstone"
_SCAN_MAX: Final = 2_000
_DELETIONS_MAX: Final = 500


class Housekeeping:
    """Walks over the store in small steps and finds what the horizon has passed by."""

    def __init__(
        self, store: StateStore, topics: EntityTopics, partition: int, horizon_ms: int, form: layout.StateFormat
    ) -> None:
        self._store = store
        self._topics = topics
        self._partition = partition
        self._form = form
        self._keep_ms = horizon_ms + CLOCK_AHEAD_MAX_MS
        self._cursors = {b"d": b"d", b"u": b"u", b"x": b"x"}

    def is_due(self, log_time: int) -> bool:
        """Tell whether a transaction is needed for something to be deleted from a topic."""
        return any(self._expired(prefix, log_time, take=False) for prefix in (b"u", b"x"))

    def add_to(self, batch: Batch, log_time: int, task_epoch: int, sequence: int) -> None:
        """Stage deletions of what expired: memories here, their ledger entries, deleted entities everywhere."""
        for key in self._expired(b"d", log_time):
            if not batch.is_staged(key):  # else this very transaction remembers it anew
                batch.put(key, None)
        for key in self._expired(b"u", log_time):
            if not batch.is_staged(key):
                batch.put(key, None)
                batch.send(ProducerRecord(self._topics.ledger, self._partition, key[1:], None))
        for key in self._expired(b"x", log_time):
            self._bury(batch, key[1:], log_time, task_epoch, sequence)

    def _bury(self, batch: Batch, entity: bytes, log_time: int, task_epoch: int, sequence: int) -> None:
        entity_id = entity.decode()
        state = batch.state(entity_id)
        if state.status != ABSENT:  # created again meanwhile: it lives on
            batch.put(layout.deleted_key(entity), None)
            return
        # What the absent entity still remembers by name counts for the horizon as well.
        remembered_at = max([state.deleted_at, *(applied.log_time for applied in state.applied.values())])
        if remembered_at >= log_time - self._keep_ms:
            batch.put(layout.deleted_key(entity), layout.dump_log_time(remembered_at))
            return
        headers = [(TOMBSTONE_HEADER, tombstone_header(state.version, task_epoch, sequence))]
        batch.send_counted(ProducerRecord(self._topics.changelog, self._partition, entity, None, headers))
        for name in state.applied:
            key = layout.applied_ledger_key(entity_id, name)
            batch.send(ProducerRecord(self._topics.ledger, self._partition, key, None))
        batch.forget(entity)

    def _expired(self, prefix: bytes, log_time: int, *, take: bool = True) -> list[bytes]:
        """Scan on from the last place, once around; return keys whose log time the horizon has passed by."""
        pairs = self._store.scan(prefix, self._cursors[prefix], _SCAN_MAX)
        limit = log_time - self._keep_ms
        expired = [key for key, value in pairs if layout.log_time_of(value) < limit][:_DELETIONS_MAX]
        if take or not expired:  # what was only looked for is to be found again
            self._cursors[prefix] = pairs[-1][0] + b"\x00" if len(pairs) == _SCAN_MAX else prefix
        return expired


def tombstone_header(version: int, task_epoch: int, sequence: int) -> bytes:
    """Return the text `version/epoch/sequence`: the last version, and the transaction that forgot the entity."""
    return f"{version}/{task_epoch}/{sequence}".encode()
