"""Test a definition without Kafka: the real task, codec, ladder, store and restore, over topics in memory.

    driver = TestDriver.from_file("refund.yaml")
    driver.signal("order-7", "order_paid", {"amount_minor": 500}, signal_id="payment-1")
    seen = driver.read("order-7")
    decision = driver.propose("order-7", "refund", {"amount_minor": 500}, dedup_key="ticket-3", base=seen)
    assert decision.outcome is Outcome.ACCEPTED

The clock stands still until `advance` moves it. Nothing is lost, aborted or rebalanced here, as it could be with Kafka:
such a test shows what the rules decide. The gate's own tests show that it decides the same when machines fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

from placet.definitions import load_definition, parse_definition
from placet.processors.address import partition_of
from placet.processors.machine import compile_machine
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.contracts import contracts
from placet.schemas.codec.dead_letter import DeadLetter, decode_dead_letter
from placet.schemas.decision import Coordinates, Decision, Outcome, Reason
from placet.schemas.definition.model import Definition
from placet.schemas.ledger import LedgerEntry
from placet.schemas.messages import Kind, Message, Value
from placet.schemas.state import UNSEEN, Change, EntityState
from placet.streams.loop.task import Task
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.log_in_memory import MemoryLog
from placet.streams.recovery.restore import restore_at_once
from placet.streams.recovery.steps import Restoration
from placet.streams.state import layout
from placet.streams.state.store import MemoryStore, StateStore
from placet.streams.topology import TaskId, dead_letters_topic, entity_topics

__all__ = ["START_MS", "BasedOn", "Decided", "Kind", "Outcome", "Reason", "TestDriver"]

START_MS: Final = 1_767_225_600_000
"""The clock's first time: 2026-01-01T00:00:00Z."""

_APP: Final = "test"
_CONTROL_POSITION: Final = 1
"""The definition counts as the control topic's only record."""


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


class TestDriver:
    """One entity type's gate in memory: every input is decided before the call returns.

    Args:
        definition: the rules under test.
        partitions: how many partitions each topic has.
        start_ms: the clock's first time, ms since the epoch.
        make_store: makes a partition's local store.

    Raises:
        DefinitionError: the definition does not compile.
    """

    __test__ = False  # pytest: not a test in spite of its name

    def __init__(
        self,
        definition: Definition,
        *,
        partitions: int = 1,
        start_ms: int = START_MS,
        make_store: Callable[[], StateStore] = MemoryStore,
    ) -> None:
        self.topics = entity_topics(_APP, definition.entity)
        self.log = MemoryLog()
        self._partitions = partitions
        self._now_ms = start_ms
        self._make_store = make_store
        self._definitions: list[Definition] = []
        self._tasks: list[Task] = []
        self._sent = 0
        self.restart(definition)

    @classmethod
    def from_file(cls, path: str | Path) -> TestDriver:
        """Return a driver for a definition's file.

        Raises:
            DefinitionError: the file is no definition; the error names file, line and fix.
        """
        return cls(load_definition(Path(path)))

    @classmethod
    def from_text(cls, text: str) -> TestDriver:
        """Return a driver for a definition's YAML text.

        Raises:
            DefinitionError: the text is no definition.
        """
        return cls(parse_definition(text))

    @property
    def now_ms(self) -> int:
        """The clock, ms since the epoch; it gives both log time and decision time."""
        return self._now_ms

    def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0, milliseconds: float = 0
    ) -> None:
        """Move the clock forward; expired memory is deleted as in an idle gate."""
        step = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
        if step < timedelta():
            raise ValueError("time goes forward only")
        self._now_ms += step // timedelta(milliseconds=1)
        for task in self._tasks:
            if not self._waiting(task) and task.needs_housekeeping(self._now_ms):
                self._transact(task, [])

    def signal(
        self,
        entity_id: str,
        name: str,
        payload: Mapping[str, Value] | None = None,
        *,
        signal_id: str,
        event_time: int | None = None,
        issued_at: int | None = None,
        dedup_key: str | None = None,
        caused_by: str | None = None,
        source: str = "",
    ) -> Decision:
        """Send a signal and return its decision. Times in ms since the epoch, by default now.

        Raises:
            InvalidPayload: the definition has no such signal, or the payload is not the declared one.
        """
        event_time = self._now_ms if event_time is None else event_time
        issued_at = self._now_ms if issued_at is None else issued_at
        return self.send(
            Message(
                Kind.SIGNAL, name, signal_id, entity_id, dict(payload or {}), event_time, issued_at,
                dedup_key, caused_by, proposer=source,
            )
        )  # fmt: skip

    def propose(
        self,
        entity_id: str,
        name: str,
        payload: Mapping[str, Value] | None = None,
        *,
        base: BasedOn | None = None,
        dedup_key: str | None = None,
        caused_by: str | None = None,
        proposal_id: str | None = None,
        issued_at: int | None = None,
        valid_until: int | None = None,
        proposer: str = "",
    ) -> Decision:
        """Send a proposal and return its decision. Times in ms since the epoch, `issued_at` by default now.

        Args:
            base: the state that the proposal is based on; by default the current one.
            proposal_id: the proposal's id; by default proposal-1, proposal-2, …

        Raises:
            InvalidPayload: the definition has no such proposal, or the payload is not the declared one.
        """
        self._sent += 1
        base = self.read(entity_id) if base is None else base
        issued_at = self._now_ms if issued_at is None else issued_at
        return self.send(
            Message(
                Kind.PROPOSAL, name, proposal_id or f"proposal-{self._sent}", entity_id, dict(payload or {}),
                issued_at, issued_at, dedup_key, caused_by, valid_until, base.version, base.incarnation,
                proposer=proposer,
            )
        )  # fmt: skip

    def send(self, message: Message) -> Decision:
        """Encode a message, send it and return its decision.

        Raises:
            InvalidPayload: it does not fit the definition.
        """
        return self.send_raw(message.kind, message.entity_id.encode(), self.codec.encode_message(message))

    def send_raw(self, kind: Kind, key: bytes | None, value: bytes | None, *, partition: int | None = None) -> Decision:
        """Send bytes as they are, by default to the partition of the key, and return their decision."""
        at = self.append(kind, key, value, partition=partition)
        decided = self.run()
        return next(found.decision for found in decided if _position_of(found) == at)

    def append(
        self, kind: Kind, key: bytes | None, value: bytes | None, *, partition: int | None = None
    ) -> tuple[TopicPartition, int]:
        """Put an input on its topic, for the next `run` to decide; return its partition and offset."""
        if partition is None:
            partition = partition_of(key or b"", self._partitions)
        topic = self.topics.signals if kind is Kind.SIGNAL else self.topics.proposals
        place = TopicPartition(topic, partition)
        return place, self.log.append(place, self._now_ms, key, value)

    def run(self) -> list[Decided]:
        """Decide what waits, one transaction a partition, at the same time proposals first; return the decisions."""
        decided = []
        for task in self._tasks:
            waiting = self._waiting(task)
            if waiting:
                decided += self._transact(task, waiting)
        return decided

    def restart(self, definition: Definition | None = None) -> None:
        """Delete the stores and restore them from changelog and ledger, as a gate on a new machine does.

        Args:
            definition: a new version of the definition; by default the same.

        Raises:
            TaskStopped: the log contradicts itself.
        """
        if definition is not None:
            self._run_by(definition)
        for task in self._tasks:
            task.close()
        self._tasks = [self._restored(partition) for partition in range(self._partitions)]

    def read(self, entity_id: str) -> EntityState:
        """Return an entity's committed state: status, version, fields. A new entity is `absent` at version 0."""
        key = entity_id.encode()
        data = self._tasks[partition_of(key, self._partitions)].store.get(layout.state_key(key))
        if data is None:
            return UNSEEN
        state = self._form().load(data)
        return msgspec.structs.replace(state, fields={**self.machine.initial_fields, **state.fields})

    @property
    def decisions(self) -> list[Decision]:
        """All decisions so far, per partition in order."""
        return [found.decision for found in self.decided]

    @property
    def decided(self) -> list[Decided]:
        """All decisions so far with their coordinates, per partition in order."""
        return [self._decided(record) for record in self._all(self.topics.decisions)]

    @property
    def changelog(self) -> list[Change | None]:
        """All changes so far, per partition in order; None is the late tombstone of a deleted entity."""
        return [
            None if record.value is None else self.codec.decode_change(record.value, record.headers or [])
            for record in self._all(self.topics.changelog)
        ]

    @property
    def ledger(self) -> list[LedgerEntry]:
        """All entries of the ledger so far, per partition in order, without tombstones."""
        return [self.codec.decode_ledger(record.value) for record in self._all(self.topics.ledger) if record.value]

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """All dead letters so far: the bytes that did not decode, with the reason."""
        records = self.log.records(TopicPartition(dead_letters_topic(_APP), 0))
        return [decode_dead_letter(record.value) for record in records if record.value]

    def task(self, partition: int = 0) -> Task:
        """Return the task of a partition, for tests that look inside."""
        return self._tasks[partition]

    def _run_by(self, definition: Definition) -> None:
        others = [known for known in self._definitions if known.digest != definition.digest]
        self._definitions = [*others, definition]
        self.machine = compile_machine(definition)
        self.codec = Codec(definition)
        for other in others:
            for schema in contracts(other):
                self.codec.learn(schema)

    def _form(self) -> layout.StateFormat:
        return layout.StateFormat(self.codec, self.machine.decimal_fields)

    def _all(self, topic: str) -> list[ConsumerRecord]:
        return [r for number in range(self._partitions) for r in self.log.records(TopicPartition(topic, number))]

    def _decided(self, record: ConsumerRecord) -> Decided:
        return Decided(*self.codec.decode_decision(record.value or b""))

    def _waiting(self, task: Task) -> list[ConsumerRecord]:
        partition = task.task_id.partition
        return [
            r for topic, at in task.positions.items() for r in self.log.records(TopicPartition(topic, partition), at)
        ]

    def _restored(self, partition: int) -> Task:
        """Open a partition's task on an empty store, by the gate's own restore."""
        task_id, store = TaskId(self.machine.entity, partition), self._make_store()
        ids = {topic: f"id-of-{topic}" for topic in self.topics}
        restored = restore_at_once(
            Restoration(
                task_id, self.topics, ids, self._partitions, self.codec, self._form(), store, self._now_ms
            ),
            self.log,
        )  # fmt: skip
        task = Task(
            task_id, self.topics, dead_letters_topic(_APP), self.machine, self.codec, store, self._partitions
        )  # fmt: skip
        task.open(restored.last, restored.positions, restored.genesis)
        return task

    def _transact(self, task: Task, records: list[ConsumerRecord]) -> list[Decided]:
        """Do what the worker does with a batch, in a transaction that always commits, whatever its size."""
        written: dict[str, int] = {}
        decided = []
        for record in task.process(records, self._now_ms, _CONTROL_POSITION):
            place = TopicPartition(record.topic, max(record.partition, 0))
            offset = self.log.append(place, self._now_ms, record.key, record.value, record.headers)
            if record.topic in (self.topics.changelog, self.topics.ledger):
                written[record.topic] = offset + 1
            elif record.topic == self.topics.decisions:
                decided.append(self._decided(self.log.records(place, offset)[0]))
        task.committed(written)
        self.log.commit({TopicPartition(t, task.task_id.partition): at for t, at in task.positions.items()})
        return decided


def _position_of(found: Decided) -> tuple[TopicPartition, int]:
    return TopicPartition(found.at.topic, found.at.partition), found.at.offset
