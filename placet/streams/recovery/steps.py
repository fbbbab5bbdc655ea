"""What a restore is given, what it tells on its way, and what a task starts from afterwards."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from placet.schemas.codec.codec import Codec
from placet.schemas.ledger import Commit, Genesis
from placet.streams.errors import TaskStopped, unreadable
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.state import layout
from placet.streams.state.store import StateStore
from placet.streams.topology import EntityTopics, TaskId

__all__ = ["Restoration", "RestoreStep", "Restored", "Steps", "unreadable_record"]

Result = TypeVar("Result")


class RestoreStep(NamedTuple):
    """One step of a restore.

    Attributes:
        read: records read in it.
        ahead: offsets still to go; None while they are not known.
        waits_for: what it waits for, "" where that has no name; None: the next step can follow at once.
        pause_s: for how long the next step is of no use.
    """

    read: int = 0
    ahead: int | None = None
    waits_for: str | None = None
    pause_s: float = 0.0


Steps = Generator[RestoreStep, None, Result]
"""Work in steps: each `next` takes one, and the last one gives the result."""


class Restored(NamedTuple):
    """What a task starts from."""

    last: Commit | None
    positions: dict[str, int]
    genesis: Genesis | None
    records: int
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Restoration:
    """One task's restore: what it belongs to, and the store to fill.

    Attributes:
        topic_ids: ids of the entity type's topics, and of the control topic, as this gate knows them.
        now_ms: when it begins, ms since the epoch.
        clock_ms: tells how late it is meanwhile.
        may_read: tells whether there is room to read; asked again until there is.
        control: the control topic, if there is one; a gate publishes its definition there before it writes states.
        rules_known: tells whether the rules are read up to an offset, or were waited for long enough.
        rules_read: tells whether the rules are read up to a position.
    """

    task_id: TaskId
    topics: EntityTopics
    topic_ids: Mapping[str, str]
    partitions: int
    codec: Codec
    form: layout.StateFormat
    store: StateStore
    now_ms: int
    may_read: Callable[[], bool] = field(default=lambda: True)
    control: TopicPartition | None = None
    rules_known: Callable[[int], bool] = field(default=lambda _end: True)
    rules_read: Callable[[int], bool] = field(default=lambda _position: True)
    clock_ms: Callable[[], int] = field(default=lambda: 0)

    def partition(self, topic: str) -> TopicPartition:
        """Return this task's partition of a topic."""
        return TopicPartition(topic, self.task_id.partition)


def unreadable_record(job: Restoration, record: ConsumerRecord, why: Exception) -> TaskStopped:
    """Return the error for a record of a restore that can't be read."""
    place, key = TopicPartition(record.topic, record.partition), (record.key or b"").decode("utf-8", "replace")
    return TaskStopped(job.task_id, str(unreadable(place, f"the record {key!r} at offset {record.offset}", why)))
