"""What a gate recorded, and gates that are given the same inputs in other ways."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import msgspec

from placet.processors.rules import Rules
from placet.schemas.codec.codec import Codec
from placet.streams.loop.task import Task
from placet.streams.records import ConsumerRecord, ProducerRecord, TopicPartition
from placet.streams.state import layout
from placet.streams.state.store import MemoryStore, StateStore
from placet.streams.topology import EntityTopics, TaskId
from placet.testing import TestDriver

__all__ = ["Input", "Outcomes", "Replica", "recorded_inputs", "recorded_outcomes", "states_of"]

_exact = msgspec.msgpack.Encoder(order="deterministic").encode


class Input(NamedTuple):
    """One input as it was taken: the record, and the clock of its batch."""

    record: ConsumerRecord
    decided_at: int


class Outcomes(NamedTuple):
    """What came out, as bytes without the names of transactions: decisions by input, changes by entity, states."""

    decisions: dict[tuple[str, int], bytes]
    changes: dict[bytes, list[bytes]]
    states: dict[bytes, bytes]


def recorded_inputs(driver: TestDriver, partition: int = 0) -> list[Input]:
    """Return a partition's inputs in the order in which they were taken."""
    ordered = [at for _, at in driver.decided if at.partition == partition]
    return [
        Input(driver.log.records(TopicPartition(at.topic, partition), at.offset)[0], at.decided_at) for at in ordered
    ]


def recorded_outcomes(driver: TestDriver, partition: int = 0) -> Outcomes:
    """Return what the driver's gate made of them."""
    topics = (driver.topics.decisions, driver.topics.changelog)
    records = [record for topic in topics for record in driver.log.records(TopicPartition(topic, partition))]
    return _outcomes(driver.codec, driver.topics, records, driver.task(partition).store, _form(driver))


def _form(driver: TestDriver) -> layout.StateFormat:
    return layout.StateFormat(driver.codec, driver.machine.decimal_fields)


def states_of(store: StateStore, form: layout.StateFormat) -> dict[bytes, bytes]:
    """Return all states of a store, so that equal ones have equal bytes."""
    return {key[1:]: _exact(form.load(data)) for key, data in store.scan(b"s", b"s", 1_000_000)}


def _outcomes(
    codec: Codec,
    topics: EntityTopics,
    records: Iterable[ConsumerRecord | ProducerRecord],
    store: StateStore,
    form: layout.StateFormat,
) -> Outcomes:
    found = Outcomes({}, {}, states_of(store, form))
    for record in records:
        key, value = record.key or b"", record.value or b""
        if record.topic == topics.decisions:
            decision, at = codec.decode_decision(value)
            nameless = replace(at, task_epoch=0, sequence=0, index=0)
            found.decisions[at.topic, at.offset] = key + codec.encode_decision(decision, nameless)
        elif record.topic == topics.changelog:
            assert value, "nothing expires here"
            change = codec.decode_change(value, record.headers or [])
            nameless_value, _ = codec.encode_change(replace(change, task_epoch=0, sequence=0))
            found.changes.setdefault(key, []).append(nameless_value + repr(record.headers).encode())
    return found


class Replica:
    """A task of its own on an empty store, that is given batches by hand."""

    def __init__(self, driver: TestDriver, partition: int, partitions: int) -> None:
        self._driver = driver
        self._task = Task(
            TaskId(driver.machine.entity, partition), driver.topics, "dead", Rules(driver.machine, driver.codec, 1),
            MemoryStore(), partitions,
        )  # fmt: skip
        self._task.open(None, dict.fromkeys(driver.topics.inputs, 0), None)
        self.records: list[ProducerRecord] = []

    def process(self, batch: list[Input]) -> None:
        """Let the task take one batch at its clock."""
        assert len({given.decided_at for given in batch}) == 1, "one clock for each batch"
        clock_ms = batch[0].decided_at
        self.records += self._task.process([given.record for given in batch], clock_ms, clock_ms)
        self._task.committed({})
        while self._task.asking.number:
            self._task.asking.go_on(self._task.next_positions, frozenset())
            self.records += self._task.process([], clock_ms, clock_ms)
            self._task.committed({})

    def outcomes(self) -> Outcomes:
        """Return all that came out so far."""
        driver = self._driver
        return _outcomes(driver.codec, driver.topics, self.records, self._task.store, _form(driver))
