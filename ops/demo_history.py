"""What a run left on the log, joined: who had read what, what came in, what the gate let through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, TopicPartition
from demo_without_a_gate import Input, Read, Row, Table

from placet.schemas.codec import Codec
from placet.schemas.decision import Decision, Outcome
from placet.schemas.messages import Kind, Message
from placet.schemas.state import Change
from placet.streams.topology import EntityTopics

Occasions = Mapping[str, tuple[str, ...] | None]
Place = tuple[str, int]
"""Topic and offset of an input, within one partition."""


class Record(NamedTuple):
    """One record of an input topic, decoded."""

    at_ms: int
    place: Place
    message: Message


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
    """One partition: its inputs in the order of the log, what the gate said to each, what it let through, in its order."""

    inputs: list[Input]
    answers: dict[int, str]
    accepted: list[Write]


def join(records: list[Record], decided: list[Decided], changes: list[tuple[Place, Change]], table: Table) -> History:
    """Join one partition's records. Pure.

    Args:
        records: of both input topics, in any order; the broker's append times put them in one.
        decided: in the order of the decisions.
        changes: in the order of the changelog, with the place of the input that caused each.
        table: the definition, as data.
    """
    blank, occasions = table.blank, table.occasions
    records = sorted(records, key=lambda record: (record.at_ms, record.message.kind, record.place[1]))
    positions = {record.place: position for position, record in enumerate(records)}
    versions: dict[tuple[str, int], Read] = {}
    for place, change in changes:
        row = {"status": change.state.status, **change.state.fields}
        read = Read(row, change.state.version, positions[place], change.decided_at)
        versions[change.entity_id, change.state.version] = read
    never = Read(blank, 0, -1, 0)
    again = Again(records, {each.place: each for each in decided}, occasions)
    inputs = []
    for position, (at_ms, place, message) in enumerate(records):
        read_by_it = versions.get((message.entity_id, message.base_version), never)
        is_fact = message.kind is Kind.SIGNAL
        inputs.append(Input(
            position, at_ms, message.entity_id, is_fact, message.name, message.input_id, message.proposer,
            message.payload, message.caused_by or "", None if is_fact else read_by_it, not is_fact and again.is_again(message),
        ))  # fmt: skip
    answers = {positions[each.place]: each.decision.reason.name if each.decision.reason else "ACCEPTED"
               for each in decided}  # fmt: skip
    accepted = [
        _write(inputs[positions[each.place]], each.decision, versions, blank)
        for each in decided
        if each.decision.outcome is Outcome.ACCEPTED
    ]
    return History(inputs, answers, accepted)


class Again:
    """Tells what was sent again only because of a gate, which nobody would have sent without one.

    That is: what was proposed after the gate had refused the same, by whomever, and what its proposer sent once more as
    no answer came. It leaves out rather too much than too little.
    """

    def __init__(self, records: list[Record], decided: Mapping[Place, Decided], occasions: Occasions) -> None:
        self._occasions = occasions
        self._refused_at: dict[tuple[object, ...], int] = {}
        self._sent: set[tuple[object, ...]] = set()
        for record in records:
            outcome = decided.get(record.place)
            if record.message.kind is Kind.PROPOSAL and outcome and outcome.decision.outcome is Outcome.REFUSED:
                self._refused_at.setdefault(self._same(record.message), outcome.decided_at)

    def is_again(self, message: Message) -> bool:
        """Look at the proposals in the order of the log, each once."""
        same = self._same(message)
        thought = (message.proposer, message.caused_by, *same)
        again = thought in self._sent or message.issued_at >= self._refused_at.get(same, message.issued_at + 1)
        self._sent.add(thought)
        return again

    def _same(self, message: Message) -> tuple[object, ...]:
        """Return what makes two proposals the same, whoever made them: flight, name, what the payload is about."""
        fields = self._occasions.get(message.name) or ()
        return message.entity_id, message.name, *(message.payload[name] for name in fields)


def _write(written: Input, decision: Decision, versions: Mapping[tuple[str, int], Read], blank: Row) -> Write:
    rows = [
        versions[decision.entity_id, version].row if version else blank
        for version in (decision.version_before, decision.version_after)
    ]
    return Write(written, rows[0], rows[1])


class Reader:
    """Reads the topics of a run that is over, partition by partition.

    Args:
        bootstrap_servers: of the broker.
        topics: of flights.
        codec: of flights.
        read: is told how many records were read, now and then.
    """

    def __init__(
        self, bootstrap_servers: str, topics: EntityTopics, codec: Codec, read: Callable[[int], object]
    ) -> None:
        self._servers, self._topics, self._codec, self._read = bootstrap_servers, topics, codec, read

    def history(self, partition: int, table: Table) -> History:
        """Return one partition's history."""
        topics, decode = self._topics, self._codec.decode
        records = [
            Record(message.timestamp()[1], (topic, message.offset()), decode(kind, message.value()))
            for topic, kind in ((topics.signals, Kind.SIGNAL), (topics.proposals, Kind.PROPOSAL))
            for message in self._records(topic, partition)
        ]
        decided = []
        for message in self._records(topics.decisions, partition):
            decision, at = self._codec.decode_decision(message.value())
            decided.append(Decided((at.topic, at.offset), at.decided_at, decision))
        changes = []
        for message in self._records(topics.changelog, partition):
            change = self._codec.decode_change(message.value(), message.headers())
            changes.append(((change.topic, change.offset), change))
        return join(records, decided, changes, table)

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
