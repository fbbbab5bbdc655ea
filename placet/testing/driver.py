"""The driver: sends inputs to a gate in memory, moves its clock, and reads what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from weakref import finalize

from pydantic import TypeAdapter, ValidationError

from placet.definitions import load_definition, parse_definition
from placet.processors.address import partition_of
from placet.processors.machine import Machine
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.dead_letter import DeadLetter, decode_dead_letter
from placet.schemas.codec.inputs import made_message
from placet.schemas.decision import Decision
from placet.schemas.definition.grammar import Duration
from placet.schemas.definition.model import Definition
from placet.schemas.ledger import LedgerEntry
from placet.schemas.messages import Kind, Message
from placet.schemas.state import UNSEEN, Change, EntityState
from placet.schemas.times import Given, payload_values, time_ms
from placet.streams.entity_type import EntityType
from placet.streams.loop.task import Task
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.state import layout
from placet.streams.state.store import MemoryStore, StateStore
from placet.streams.topology import dead_letters_topic, entity_topics
from placet.testing.gate import APP, MemoryGate
from placet.testing.told import BasedOn, Decided

__all__ = ["START_MS", "BasedOn", "Decided", "TestDriver"]

_DURATION: Final[TypeAdapter[int]] = TypeAdapter(Duration)
START_MS: Final = 1_767_225_600_000
"""The clock's first time: 2026-01-01T00:00:00Z."""


class TestDriver:
    """One entity type's gate in memory: every input is decided before the call returns.

    It is used in the thread that made it.

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
        self.topics = entity_topics(APP, definition.entity)
        self.definition = definition
        self._gate = MemoryGate(definition, partitions, start_ms, make_store)
        self.log = self._gate.log
        self.partitions = partitions
        self._decisions_end = [0] * partitions
        self._sent = 0
        finalize(self, self._gate.close).atexit = False
        self._gate.start(definition)

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
        return self._gate.now_ms

    @property
    def codec(self) -> Codec:
        """The gate's codec, which knows all versions of the definition so far."""
        return self.entity_type.rules.codec

    @property
    def machine(self) -> Machine:
        """The compiled definition."""
        return self.entity_type.rules.machine

    @property
    def entity_type(self) -> EntityType:
        """The definition as the gate runs it, with the ids of its topics."""
        return self._gate.entity_type

    def advance(
        self,
        duration: str | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
    ) -> list[Decision]:
        """Move the clock forward, timers fire and expired memory is deleted as in an idle gate.

        Args:
            duration: how far, as in a definition: `31s`, `24h`.
            days, hours, minutes, seconds, milliseconds: how far too.

        Returns:
            The decisions on the timers that fired meanwhile.

        Raises:
            ValueError: it is no duration, or less than none.
            TaskStopped: a task can't go on.
        """
        step = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
        if step < timedelta():
            raise ValueError("time goes forward only")
        by_ms = step // timedelta(milliseconds=1) + (0 if duration is None else _duration_ms(duration))
        places = [TopicPartition(self.topics.decisions, number) for number in range(self.partitions)]
        ends = {place: self.log.end(place) for place in places}
        self._gate.advance(by_ms)
        decided = [self._decided(record) for place, end in ends.items() for record in self.log.records(place, end)]
        return [found.decision for found in decided if found.decision.timer is not None]

    def signal(
        self,
        entity_id: str,
        name: str,
        payload: Mapping[str, Given] | None = None,
        *,
        signal_id: str,
        event_time: int | datetime | None = None,
        issued_at: int | datetime | None = None,
        dedup_key: str | None = None,
        caused_by: str | None = None,
        source: str = "",
    ) -> Decision:
        """Send a signal and return its decision. Times as for a client, by default now.

        Raises:
            InvalidPayload: the definition has no such signal, the payload is not the declared one, or a time is none.
        """
        rule = self.definition.signals.get(name)
        return self.send(
            made_message(
                Kind.SIGNAL, name, input_id=signal_id, entity_id=entity_id,
                payload=payload_values(payload, rule.payload if rule else {}, name),
                event_time=self._time("event_time", event_time, name),
                issued_at=self._time("issued_at", issued_at, name),
                dedup_key=dedup_key, caused_by=caused_by, proposer=source,
            )
        )  # fmt: skip

    def propose(
        self,
        entity_id: str,
        name: str,
        payload: Mapping[str, Given] | None = None,
        *,
        base: BasedOn | None = None,
        dedup_key: str | None = None,
        caused_by: str | None = None,
        proposal_id: str | None = None,
        issued_at: int | datetime | None = None,
        valid_until: int | datetime | None = None,
        read_at: int | datetime | None = None,
        proposer: str = "",
    ) -> Decision:
        """Send a proposal and return its decision. Times as for a client, `issued_at` by default now.

        Args:
            base: the state that the proposal is based on; by default the current one.
            issued_at, read_at: when it was first sent, and the base was read; by default now.
            proposal_id: the proposal's id; by default proposal-1, proposal-2, …

        Raises:
            InvalidPayload: the definition has no such proposal, the payload is not the declared one, or a time is none.
        """
        self._sent += 1
        base = self.read(entity_id) if base is None else base
        rule = self.definition.proposals.get(name)
        issued_ms = self._time("issued_at", issued_at, name)
        return self.send(
            made_message(
                Kind.PROPOSAL, name, input_id=proposal_id or f"proposal-{self._sent}", entity_id=entity_id,
                payload=payload_values(payload, rule.payload if rule else {}, name), event_time=issued_ms,
                issued_at=issued_ms, dedup_key=dedup_key, caused_by=caused_by,
                valid_until=None if valid_until is None else time_ms("valid_until", valid_until, name),
                base_version=base.version, base_incarnation=base.incarnation, proposer=proposer,
                read_at=self._time("read_at", read_at, name),
            )
        )  # fmt: skip

    def _time(self, what: str, given: int | datetime | None, name: str) -> int:
        return self.now_ms if given is None else time_ms(what, given, name)

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
            partition = partition_of(key or b"", self.partitions)
        topic = self.topics.signals if kind is Kind.SIGNAL else self.topics.proposals
        place = TopicPartition(topic, partition)
        return place, self.log.append(place, self.now_ms, key, value)

    def run(self) -> list[Decided]:
        """Let the gate decide what waits, at the same time proposals first; return the decisions.

        Raises:
            TaskStopped: a task can't go on, such as after what another hand wrote to its topics.
        """
        self._gate.decide()
        return self.take_decided()

    def take_decided(self) -> list[Decided]:
        """Return the decisions since the last call of this or of `run`: of timers, those that fired meanwhile."""
        decided: list[Decided] = []
        for number, position in enumerate(self._decisions_end):
            place = TopicPartition(self.topics.decisions, number)
            decided += map(self._decided, self.log.records(place, position))
            self._decisions_end[number] = self.log.end(place)
        return decided

    def restart(self, definition: Definition | None = None) -> None:
        """Stop the gate, and start one with empty stores: it restores them, as a gate on a new machine does.

        Args:
            definition: a new version of the definition; by default the same.

        Raises:
            SettingsError: the new version does not go with those before, see `placet definitions diff`.
            TaskStopped: the log contradicts itself.
        """
        definition = definition or self.definition
        self._gate.end()
        self._gate.start(definition)
        self.definition = definition

    def read(self, entity_id: str) -> EntityState:
        """Return an entity's committed state: status, version, fields. A new entity is `absent` at version 0.

        Raises:
            TaskStopped: its task can't go on.
        """
        key = entity_id.encode()
        data = self.task(partition_of(key, self.partitions)).store.get(layout.state_key(key))
        if data is None:
            return UNSEEN
        state = self._form().load(data)
        return replace(state, fields={**self.machine.initial_fields, **state.fields})

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
        records = self.log.records(TopicPartition(dead_letters_topic(APP), 0))
        return [decode_dead_letter(record.value) for record in records if record.value]

    def task(self, partition: int = 0) -> Task:
        """Return the task of a partition, for tests that look inside."""
        return self._gate.task(partition)

    def _form(self) -> layout.StateFormat:
        return layout.StateFormat(self.codec, self.machine.decimal_fields)

    def _all(self, topic: str) -> list[ConsumerRecord]:
        return [r for number in range(self.partitions) for r in self.log.records(TopicPartition(topic, number))]

    def _decided(self, record: ConsumerRecord) -> Decided:
        return Decided(*self.codec.decode_decision(record.value or b""))


def _duration_ms(text: str) -> int:
    try:
        return _DURATION.validate_python(text)
    except ValidationError:
        raise ValueError(f"{text!r} is no duration: write 500ms, 31s, 5m, 24h or 7d") from None


def _position_of(found: Decided) -> tuple[TopicPartition, int]:
    return TopicPartition(found.at.topic, found.at.partition), found.at.offset
