"""What one transaction of one task stages: the state after each input, and the records to write.

An overlay over the committed store: the next input of the same entity sees what the one before it did. It reaches the
store only after the commit, in one atomic batch; an aborted transaction's overlay is dropped.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import final

from msgspec import MsgspecError

from placet.schemas.decision import Coordinates, Decision, Outcome, Reason
from placet.schemas.errors import DecodeError
from placet.schemas.ledger import Commit, KeptWindow
from placet.schemas.memory import Memory
from placet.schemas.messages import Kind
from placet.schemas.state import UNSEEN, EntityState
from placet.streams.errors import unreadable
from placet.streams.records import ConsumerRecord, ProducerRecord, TopicPartition
from placet.streams.state import layout
from placet.streams.state.outputs import NO_OUTPUTS, Output
from placet.streams.state.store import StateStore

__all__ = ["Batch", "DecidedInput"]


@final
class DecidedInput:
    """An input and its decision, on the way from the ladder to the encoder. A timer has no record."""

    def __init__(
        self,
        record: ConsumerRecord | None,
        key: bytes | None,
        at: Coordinates,
        decision: Decision,
        outputs: list[Output] = NO_OUTPUTS,
    ) -> None:
        self.record = record
        self.key = key
        self.at = at
        self.decision = decision
        self.outputs = outputs


class Batch:
    """The staged side of one transaction: a view for the ladder, writes for the store, records for Kafka.

    Attributes:
        armed: keys under which timers are found that it armed.
        windows: those that the task keeps.
        size_bytes: of the states that it holds, as stored: read and staged ones, each change anew. What an input makes
            beside states is small, but for a dead letter.

    Args:
        store: what was committed before.
        form: how states lie in it.
        watermark: the task's.
        changelog: where a state that can't be decoded was written, for the error's text.
    """

    def __init__(self, store: StateStore, form: layout.StateFormat, watermark: int, changelog: TopicPartition) -> None:
        self.records: list[ProducerRecord] = []
        self.size_bytes = 0
        self.outcomes: list[tuple[Kind, Outcome, Reason]] = []
        self.decisions = 0
        self.changes = 0
        self.watermark = watermark
        self.commit: Commit | None = None
        self.armed: list[bytes] = []
        self.windows: tuple[KeptWindow, ...] = ()
        self._store = store
        self._form = form
        self._changelog = changelog
        self._states: dict[bytes, EntityState] = {}
        self._writes: dict[bytes, bytes | None] = {}
        self._remembered: list[bytes] = []
        self._digested: list[bytes] = []

    def state(self, entity_id: str) -> EntityState:
        """Return an entity's state as of now in this transaction (see `View`).

        Raises:
            DecodeError: it was written by what this gate can't read; entity, topic, partition and offset are named.
        """
        key = layout.state_key(entity_id.encode())
        state = self._states.get(key)
        if state is None:
            data = self._store.get(key)
            if data is None:
                state = UNSEEN
            else:
                try:
                    state = self._form.load(data)
                except DecodeError as error:
                    raise unreadable(self._changelog, repr(entity_id), error) from error
                self.size_bytes += len(data)
            self._states[key] = state
        return state

    def memory(self, kind: Kind, entity_id: str, dedup_key: str) -> Memory | None:
        """Return what is remembered under a dedup key (see `View`)."""
        key = layout.memory_key(kind, entity_id.encode(), dedup_key)
        data = self.get(key)
        try:
            return layout.load_memory(data) if data is not None else None
        except MsgspecError as error:
            raise unreadable(self._changelog, f"memory {dedup_key!r} of {entity_id!r}", error) from error

    def put_state(self, entity: bytes, state: EntityState) -> None:
        """Stage an entity's state."""
        key = layout.state_key(entity)
        before = self._states.get(key)
        if state.armed is not None or (before is not None and before.armed is not None):
            self._rearm(layout.armed_keys(before or UNSEEN, entity), layout.armed_keys(state, entity))
        self._states[key] = state
        data = self._writes[key] = self._form.dump(state)
        self.size_bytes += len(data)

    def _rearm(self, before: set[bytes], after: set[bytes]) -> None:
        for key in before - after:
            self._writes[key] = None
        for key in after - before:
            self._writes[key] = b""
            self.armed.append(key)

    def put(self, key: bytes, value: bytes | None) -> None:
        """Stage any other key; None deletes it."""
        self._writes[key] = value

    def remember(self, key: bytes, value: bytes) -> None:
        """Stage one of d, u and x (see `layout`), so that housekeeping finds it when its time has come."""
        self._writes[key] = value
        self._remembered.append(key)

    def remind(self, key: bytes, value: bytes) -> None:
        """Stage one of them again, with the time at which it was first remembered."""
        layout.remember(self._writes, key, value)

    def get(self, key: bytes) -> bytes | None:
        """Return what is stored, or staged, under a key."""
        return self._writes[key] if key in self._writes else self._store.get(key)

    def forget(self, entity: bytes) -> None:
        """Stage that nothing is known of an entity any more."""
        self._states[layout.state_key(entity)] = UNSEEN
        self._writes[layout.state_key(entity)] = None
        self._writes[layout.deleted_key(entity)] = None

    def send(self, record: ProducerRecord) -> None:
        """Add a record to the transaction."""
        self.records.append(record)

    def send_digested(self, record: ProducerRecord) -> None:
        """Add a decision or a change: the commit record's digest covers its key and bytes, in this order."""
        self._digested += (record.key or b"", record.value or b"")
        self.records.append(record)

    @property
    def digest(self) -> bytes:
        """16 bytes over what `send_digested` added."""
        return blake2b(b"".join(self._digested), digest_size=16).digest()

    def writes(self) -> dict[bytes, bytes | None]:
        """Return what the store is to hold after the commit, values and commit record together."""
        assert self.commit is not None, "a batch is stored with its commit record"
        self._writes.update(layout.reminders(self.commit.log_time, self.commit.sequence, self._remembered))
        self._writes[layout.COMMIT] = layout.commit_to_bytes(self.commit)
        return self._writes
