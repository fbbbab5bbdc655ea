"""What follows from an accepted input besides its decision: records, each with what the store remembers of it.

Task and verify walk an input's outputs, and know none of their kinds. A new kind is an entry that
`judge.consequences` gives, and a row of `_KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, final

from placet.processors.judge import Entry
from placet.schemas.codec.codec import Codec
from placet.schemas.ledger import AppliedEntry, Counted, Disarmed, MemoryEntry
from placet.schemas.messages import Kind
from placet.schemas.state import ABSENT, Change, EntityState
from placet.streams.records import ProducerRecord
from placet.streams.state import layout
from placet.streams.topology import EntityTopics

__all__ = ["NO_OUTPUTS", "Output", "outputs_of"]


class Output:
    """One record that follows from an input.

    Attributes:
        key: the record's.
        kept: key and value of what the store remembers with it, until housekeeping finds it expired.
        changes: how many changes of the entity it is. The commit counts them, and its digest covers these records.
    """

    key: bytes
    kept: list[tuple[bytes, bytes]]
    changes: int

    def record(self, codec: Codec, topics: EntityTopics, partition: int) -> ProducerRecord:
        """Return the record, by the entity type's codec, for one of its topics and the input's partition."""
        raise NotImplementedError


@final
class ChangeOutput(Output):
    """A change, with the memory of its input in headers: a restore keeps both without decoding."""

    def __init__(self, change: Change, entity: bytes) -> None:
        self.key = entity
        self._headers, self.kept = layout.change_headers(change, entity)
        self.changes = 1
        self._change = change

    def record(self, codec: Codec, topics: EntityTopics, partition: int) -> ProducerRecord:
        """Return the changelog's record."""
        value, headers = codec.encode_change(self._change)
        return ProducerRecord(topics.changelog, partition, self.key, value, headers + self._headers)


@final
class LedgerOutput(Output):
    """What is remembered of an input that changed nothing."""

    def __init__(
        self, entry: MemoryEntry | AppliedEntry | Disarmed | Counted, key: bytes, kept: list[tuple[bytes, bytes]]
    ) -> None:
        self.key = key
        self.kept = kept
        self.changes = 0
        self._entry = entry

    def record(self, codec: Codec, topics: EntityTopics, partition: int) -> ProducerRecord:
        """Return the ledger's record."""
        return ProducerRecord(topics.ledger, partition, self.key, codec.encode_ledger(self._entry))


NO_OUTPUTS: Final[list[Output]] = []


def _change(entry: Any, _after: EntityState, entity: bytes) -> Output:
    return ChangeOutput(entry, entity)


def _memory(entry: Any, _after: EntityState, entity: bytes) -> Output:
    memory: MemoryEntry = entry
    key = layout.memory_ledger_key(memory.kind, memory.entity_id, memory.dedup_key)
    stored = layout.memory_key(Kind(memory.kind), entity, memory.dedup_key)
    reminder = layout.ledger_index_key(key), layout.dump_log_time(memory.memory.log_time)
    return LedgerOutput(memory, key, [(stored, layout.dump_memory(memory.memory)), reminder])


def _applied(entry: Any, after: EntityState, entity: bytes) -> Output:
    applied: AppliedEntry = entry
    kept: list[tuple[bytes, bytes]] = []
    if after.status == ABSENT and not after.deleted_at:  # never created, so that nothing else reminds of it
        kept.append((layout.deleted_key(entity), layout.dump_log_time(applied.applied.log_time)))
    return LedgerOutput(applied, layout.applied_ledger_key(applied.entity_id, applied.name), kept)


def _disarmed(entry: Any, after: EntityState, _entity: bytes) -> Output:
    key = layout.disarmed_ledger_key(entry.entity_id, entry.name)
    return LedgerOutput(entry, key, [(layout.ledger_index_key(key), layout.dump_needed_by(after))])


def _counted(entry: Any, after: EntityState, entity: bytes) -> Output:
    counted: Counted = entry
    key, mark = layout.counted_ledger_key(counted.entity_id), layout.dump_log_time(counted.log_time)
    kept = [(layout.ledger_index_key(key), mark)]
    if after.status == ABSENT and not after.deleted_at:  # as for what is applied; forgetting it takes the entry along
        kept.insert(0, (layout.deleted_key(entity), mark))
    return LedgerOutput(counted, key, kept)


_KINDS: Final[dict[type, Callable[[Any, EntityState, bytes], Output]]] = {
    Change: _change,
    MemoryEntry: _memory,
    AppliedEntry: _applied,
    Disarmed: _disarmed,
    Counted: _counted,
}


def outputs_of(entries: Sequence[Entry], after: EntityState, entity: bytes) -> list[Output]:
    """Return the outputs of an input, in the order in which they are written.

    Args:
        entries: what follows from it.
        after: the entity's state after it.
        entity: the entity's id.
    """
    return [_KINDS[type(entry)](entry, after, entity) for entry in entries]
