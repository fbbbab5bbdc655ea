"""What a run left on the log, joined: who had read what, what came in, what the gate let through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import Any, NamedTuple

from confluent_kafka import Consumer, TopicPartition
from fastavro import parse_schema, schemaless_reader

from demo.without_a_gate import OF_TIMERS, Input, Read, Row
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.contracts import contracts
from placet.schemas.decision import Decision, Outcome
from placet.schemas.definition.model import Definition
from placet.schemas.messages import Kind, Message
from placet.schemas.state import Change
from placet.streams.topology import EntityTopics

SINGLE_OBJECT_HEAD = 10
"""Bytes before the record in Avro's single-object encoding."""
Place = tuple[str, int]
"""Topic and offset of an input, within one partition."""


class Record(NamedTuple):
    """One record of an input topic, decoded. `read_at_ms` is when a proposer had read, by its own word."""

    at_ms: int
    place: Place
    message: Message
    read_at_ms: int = 0


class Decided(NamedTuple):
    """One decision, and which input it is about."""

    place: Place
    decided_at: int
    decision: Decision


class Write(NamedTuple):
    """What the gate let through: an accepted input, the row before, the row after."""

    input: Input
    before: Row
    after: Row


class History(NamedTuple):
    """One partition: its inputs in the order of the log, what the gate said to each, and what it let through."""

    inputs: list[Input]
    answers: dict[int, str]
    accepted: list[Write]


def join(records: list[Record], decided: list[Decided], changes: list[Change], blank: Row) -> History:
    """Join one partition's records. Pure.

    Args:
        records: of both input topics, in any order; the broker's append times put them in one.
        decided: in the order of the decisions.
        changes: in the order of the changelog.
        blank: the row of a flight never heard of.
    """
    records = sorted(records, key=lambda record: (record.at_ms, record.message.kind, record.place[1]))
    positions = {record.place: position for position, record in enumerate(records)}
    versions: dict[tuple[str, int], Row] = {}
    for change in changes:
        fields = {name: value for name, value in change.state.fields.items() if name not in OF_TIMERS}
        row: Row = {"status": change.state.status, **fields}
        versions[change.entity_id, change.state.version] = row
    sent: set[tuple[str, ...]] = set()
    inputs = []
    for position, (at_ms, _, message, read_at_ms) in enumerate(records):
        row, version = versions.get((message.entity_id, message.base_version), blank), message.base_version
        is_fact = message.kind is Kind.SIGNAL
        thought = (message.proposer, message.name, message.entity_id, message.caused_by or message.input_id)
        sent_again = not is_fact and thought in sent
        sent.add(thought)
        inputs.append(Input(
            position, at_ms, message.entity_id, is_fact, message.name, message.input_id, message.proposer,
            message.payload, message.caused_by or "", None if is_fact else Read(row, version, read_at_ms), sent_again,
        ))  # fmt: skip
    answers = {positions[each.place]: each.decision.reason.name if each.decision.reason else "ACCEPTED"
               for each in decided}  # fmt: skip
    accepted = [
        _write(inputs[positions[each.place]], each.decision, versions, blank)
        for each in decided
        if each.decision.outcome is Outcome.ACCEPTED
    ]
    return History(inputs, answers, accepted)


def _write(written: Input, decision: Decision, versions: Mapping[tuple[str, int], Row], blank: Row) -> Write:
    rows = [
        versions[decision.entity_id, version] if version else blank
        for version in (decision.version_before, decision.version_after)
    ]
    return Write(written, rows[0], rows[1])


class Reader:
    """Reads the topics of a run that is over, partition by partition.

    Args:
        bootstrap_servers: of the broker.
        topics: of flights.
        definition: of a flight.
        read: is told how many records were read, now and then.
    """

    def __init__(
        self, bootstrap_servers: str, topics: EntityTopics, definition: Definition, read: Callable[[int], object]
    ) -> None:
        self._servers, self._topics, self._read = bootstrap_servers, topics, read
        self._codec, self._schema = Codec(definition), parse_schema(contracts(definition).proposal)

    def history(self, partition: int, blank: Row) -> History:
        """Return one partition's history."""
        topics, decode = self._topics, self._codec.decode
        records = [
            Record(
                message.timestamp()[1],
                (topic, message.offset()),
                decode(kind, message.value()),
                self._read_at(message.value()) if kind is Kind.PROPOSAL else 0,
            )
            for topic, kind in ((topics.signals, Kind.SIGNAL), (topics.proposals, Kind.PROPOSAL))
            for message in self._records(topic, partition)
        ]
        decided = []
        for message in self._records(topics.decisions, partition):
            decision, at = self._codec.decode_decision(message.value())
            if decision.kind is not Kind.TIMER:  # nobody sent it
                decided.append(Decided((at.topic, at.offset), at.decided_at, decision))
        changes = [
            self._codec.decode_change(message.value(), message.headers())
            for message in self._records(topics.changelog, partition)
        ]
        return join(records, decided, changes, blank)

    def _read_at(self, proposal: bytes) -> int:
        """Return when its proposer had read, ms since the epoch: a remark, which gates and their codec pass over."""
        remarks: Any = schemaless_reader(BytesIO(proposal[SINGLE_OBJECT_HEAD:]), self._schema, None)
        return int(remarks["metadata"].get("read_at", 0))

    def _records(self, topic: str, partition: int) -> Iterator[Any]:
        consumer = Consumer({
            "bootstrap.servers": self._servers, "group.id": "demo-history", "enable.auto.commit": False,
            "isolation.level": "read_committed", "enable.partition.eof": True,
        })  # fmt: skip
        try:
            consumer.assign([TopicPartition(topic, partition, 0)])
            while True:
                messages: list[Any] = consumer.consume(1_000, 0.05)
                yield from (message for message in messages if message.error() is None)
                self._read(len(messages))
                if any(message.error() is not None for message in messages):  # the end of the partition
                    return
        finally:
            consumer.close()
