"""How the loop calls a task: what goes wrong in it is raised by the reaction that it calls for, and names the task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from placet.schemas.errors import PlacetError
from placet.streams.errors import TaskCorrupted, TaskStopped
from placet.streams.producer import Transaction
from placet.streams.records import ConsumerRecord, ProducerRecord, TopicPartition
from placet.streams.store import StoreDamaged
from placet.streams.task import Task

__all__ = ["TRANSACTION_BYTES_MAX", "needs_housekeeping", "positions_of", "process", "room_for", "store"]

TRANSACTION_BYTES_MAX: Final = 8 << 20
"""States that a transaction reads and writes: it is held in memory several times over, decoded, encoded and queued."""
_LEFT_BYTES_MAX: Final = 8 << 20


def room_for(tasks: Iterable[Task], records_max: int) -> int:
    """How many records to poll beside those that are left over: one at least, for polling must go on."""
    left = [record for task in tasks for record in task.left]
    if left and sum(len(record.key or b"") + len(record.value or b"") for record in left) > _LEFT_BYTES_MAX:
        return 1
    return max(1, records_max - len(left))


def process(
    task: Task, records: list[ConsumerRecord], clock_ms: int, control_position: int, bytes_max: int
) -> Iterable[ProducerRecord]:
    """Let a task decide. What it raises is its own doing, and takes out this task alone.

    Raises:
        TaskStopped: its code raised.
        TaskCorrupted: its store is damaged.
    """
    try:
        with _damage_of(task):
            return task.process(records, clock_ms, control_position, bytes_max)
    except PlacetError:
        raise
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


def positions_of(tasks: Iterable[Task]) -> dict[TopicPartition, int]:
    """Next positions of every input partition of every task in the transaction, moved or not: behind what it took."""
    return {
        TopicPartition(topic, task.task_id.partition): at
        for task in tasks
        for topic, at in task.staged_positions.items()
    }


@contextmanager
def _damage_of(task: Task) -> Iterator[None]:
    try:
        yield
    except StoreDamaged as error:
        raise TaskCorrupted(task.task_id, str(error)) from error
