"""How the loop calls a task: what goes wrong in it is raised by the reaction that it calls for, and names the task."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import Final, NamedTuple

from placet.schemas.errors import PlacetError
from placet.streams.errors import FatalError, TaskCorrupted, TaskStopped
from placet.streams.kafka.transactional_producer import Transaction
from placet.streams.loop.due_timers import NEVER
from placet.streams.loop.task import Task
from placet.streams.records import ConsumerRecord, ProducerRecord, TopicPartition
from placet.streams.recovery.steps import Restored
from placet.streams.state.state_dir import LOOKS_PER_RETENTION
from placet.streams.state.store import StoreDamaged
from placet.streams.topology import TaskId

__all__ = [
    "TRANSACTION_BYTES_MAX",
    "Moment",
    "all_positions",
    "clean",
    "lanes_of",
    "needs_housekeeping",
    "next_due",
    "open_task",
    "phases_of",
    "positions_of",
    "process",
    "ready",
    "room_for",
    "store",
]

TRANSACTION_BYTES_MAX: Final = 8 << 20
"""States that a transaction reads and writes: it is held in memory several times over, decoded, encoded and queued."""
_LEFT_BYTES_MAX: Final = 8 << 20
_PARTITION_OF: Final = attrgetter("topic", "partition")


def room_for(tasks: Iterable[Task], records_max: int) -> int:
    """How many records to poll beside those that are left over: one at least, for polling must go on."""
    left = [record for task in tasks for record in task.left]
    if left and sum(len(record.key or b"") + len(record.value or b"") for record in left) > _LEFT_BYTES_MAX:
        return 1
    return max(1, records_max - len(left))


def lanes_of(
    records: list[ConsumerRecord], tasks: Mapping[TaskId, Task], entities: Mapping[str, str]
) -> dict[TaskId, list[ConsumerRecord]]:
    """Hand records to their tasks: each once and in order, whatever a seek left in the client's queue.

    Args:
        records: as they were polled, per partition in order.
        tasks: those that run; what is not theirs is left out.
        entities: the entity type of each input topic.
    """
    lanes: dict[TaskId, list[ConsumerRecord]] = {}
    positions = {
        (topic, task_id.partition): position
        for task_id, task in tasks.items()
        for topic, position in task.next_positions.items()
    }
    for partition, run in groupby(records, key=_PARTITION_OF):
        position = positions.get(partition)
        if position is None:
            continue
        topic, number = partition
        lane = lanes.setdefault(TaskId(entities[topic], number), [])
        for record in run:
            if record.offset >= position:
                position = record.offset + 1
                lane.append(record)
        positions[partition] = position
    return {task_id: lane for task_id, lane in lanes.items() if lane}


def ready(
    lanes: Mapping[TaskId, list[ConsumerRecord]], tasks: Mapping[TaskId, Task], idle: AbstractSet[TaskId]
) -> list[tuple[Task, list[ConsumerRecord]]]:
    """Return the tasks that have something to do, with their records: what is new, left over, due, or expired."""
    has_some = [task_id for task_id, task in tasks.items() if task_id in lanes or task_id in idle or task.goes_on]
    found = [(tasks[task_id], lanes.get(task_id, [])) for task_id in has_some]
    return [(task, records) for task, records in found if not task.goes_on_waiting(records)]


class Moment(NamedTuple):
    """When a batch is decided, the same for all of its tasks.

    Attributes:
        clock_ms: the machine's clock, ms since the epoch.
        log_time_max: the latest time at which an input can have been appended, ms since the epoch.
        idle_ms: where log time moves on to in tasks that are read to the ends of their input partitions, ms since the
            epoch.
    """

    clock_ms: int
    log_time_max: int = sys.maxsize
    idle_ms: Mapping[TaskId, int] = MappingProxyType({})


def open_task(task: Task, restored: Restored) -> None:
    """Let a task start from what its restore found.

    Raises:
        TaskCorrupted: its store is damaged.
    """
    with _damage_of(task):
        task.open(restored.last, restored.positions, restored.genesis)


def process(task: Task, records: list[ConsumerRecord], now: Moment, bytes_max: int) -> Iterable[ProducerRecord]:
    """Let a task decide. What it raises is its own doing, and takes out this task alone.

    Raises:
        TaskStopped: its code raised, or what it reads can't be read.
        TaskCorrupted: its store is damaged.
        FatalError: the disk does not take its writes.
    """
    try:
        with _damage_of(task):
            return task.process(records, now.clock_ms, now.idle_ms.get(task.task_id, 0), bytes_max, now.log_time_max)
    except (TaskStopped, TaskCorrupted, FatalError):
        raise
    except PlacetError as error:
        raise TaskStopped(task.task_id, str(error)) from error
    except Exception as error:
        raise TaskStopped(task.task_id, f"{type(error).__name__}: {error}") from error


def store(task: Task, transaction: Transaction) -> TaskCorrupted | None:
    """Let a task store what was committed. Damage is returned, not raised: other tasks have yet to store theirs."""
    topics, partition = (task.topics.changelog, task.topics.ledger), task.task_id.partition
    written = {
        topic: transaction.written[TopicPartition(topic, partition)]
        for topic in topics
        if TopicPartition(topic, partition) in transaction.written
    }
    try:
        with _damage_of(task):
            task.committed(written)
    except TaskCorrupted as error:
        return error
    return None


def needs_housekeeping(task: Task, clock_ms: int) -> bool:
    """Tell whether something expired in an idle partition.

    Raises:
        TaskCorrupted: the task's store is damaged.
    """
    with _damage_of(task):
        return task.needs_housekeeping(clock_ms)


def clean(tasks: Iterable[Task], clock_ms: int, retention_ms: int) -> None:
    """Let a store take old values off its disk, one with each call: each often enough for all to be gone in time.

    In the worst case a value waits an eighth until it is in a file, a half until the file is old, and an eighth until
    that is noticed; the rest is for merging.

    Raises:
        TaskCorrupted: a task's store is damaged.
        FatalError: the disk does not take it.
    """
    for task in tasks:
        if not 0 <= clock_ms - task.cleaned_ms < retention_ms // LOOKS_PER_RETENTION:
            task.cleaned_ms = clock_ms
            with _damage_of(task):
                task.store.clean(retention_ms // 2_000)
            return


def positions_of(tasks: Iterable[Task]) -> dict[TopicPartition, int]:
    """Next positions of every input partition of every task in the transaction, moved or not: behind what it took."""
    return {
        TopicPartition(topic, task.task_id.partition): at
        for task in tasks
        for topic, at in task.staged_positions.items()
    }


def all_positions(tasks: Iterable[Task]) -> dict[TopicPartition, int]:
    """Return the next position of every input partition of the tasks, as committed."""
    return {TopicPartition(topic, task.task_id.partition): at for task in tasks for topic, at in task.positions.items()}


def next_due(tasks: Iterable[Task]) -> dict[TaskId, int]:
    """Return when the next timer may be due, ms since the epoch, of each task that has any."""
    return {task.task_id: task.timers.next_due for task in tasks if task.timers.next_due != NEVER}


def phases_of(
    tasks: Iterable[TaskId], waiting: Iterable[str], restoring: Iterable[TaskId], stopped: Iterable[TaskId]
) -> dict[str, str]:
    """Return the phase of each task, by name; those that wait are among those that run, or are gone."""
    phases = {str(task_id): "running" for task_id in tasks}
    phases |= {name: "waiting" for name in waiting if name in phases}
    phases |= {str(task_id): "restoring" for task_id in restoring}
    return phases | {str(task_id): "stopped" for task_id in stopped}


@contextmanager
def _damage_of(task: Task) -> Iterator[None]:
    try:
        yield
    except StoreDamaged as error:
        raise TaskCorrupted(task.task_id, str(error)) from error
