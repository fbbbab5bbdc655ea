"""What a gate writes for the first inputs of a workload: the records that the copier writes in its place."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from bench.workload import DEFINITION, Input
from placet.definitions import load_definition
from placet.processors.machine import compile_machine
from placet.processors.rules import Rules
from placet.schemas.codec.codec import Codec
from placet.streams.loop.task import Task
from placet.streams.records import ConsumerRecord, Headers, ProducerRecord
from placet.streams.state.store import MemoryStore, StateStore
from placet.streams.topology import EntityTopics, TaskId, dead_letters_topic

__all__ = ["Written", "opened_task", "written"]

Record: TypeAlias = tuple[str, bytes | None, bytes | None, Headers]
"""Topic, key, value and headers. A plain tuple: the copier knows nothing of Placet."""


class Written(NamedTuple):
    """What follows from each input, and what ends the transaction of a task."""

    inputs: list[list[Record]]
    transaction: list[Record]

    def bytes_per_input(self) -> float:
        """Keys, values and headers, without those that end a transaction."""
        return sum(_size(record) for records in self.inputs for record in records) / len(self.inputs)


def opened_task(topics: EntityTopics, store: StateStore) -> Task:
    """Open the task of a single partition."""
    definition = load_definition(DEFINITION)
    task = Task(
        TaskId("machine", 0), topics, dead_letters_topic("bench"),
        Rules(compile_machine(definition), Codec(definition)), store, 1,
    )  # fmt: skip
    task.open(None, dict.fromkeys(topics.inputs, 0), None)
    return task


def written(topics: EntityTopics, inputs: list[Input], now_ms: int) -> Written:
    """Let a task decide some inputs, and return what it gives to its producer.

    Args:
        topics: where the records are to go.
        inputs: in order; those of a workload's beginning.
        now_ms: when they were appended, and are decided.
    """
    task = opened_task(topics, MemoryStore())
    log = [
        ConsumerRecord(topics.proposals, 0, offset, now_ms, each.key, each.value) for offset, each in enumerate(inputs)
    ]
    by_input: list[list[Record]] = [[]]
    for record in task.process(log, now_ms, now_ms):
        by_input[-1].append(_plain(record))
        if record.topic == topics.decisions:
            by_input.append([])
    return Written(by_input[:-1], by_input[-1])


def _plain(record: ProducerRecord) -> Record:
    return record.topic, record.key, record.value, list(record.headers or ())


def _size(record: Record) -> int:
    _, key, value, headers = record
    return len(key or b"") + len(value or b"") + sum(len(name) + len(content) for name, content in headers)
