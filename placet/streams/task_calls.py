"""How the loop calls a task: what goes wrong in it is raised by the reaction that it calls for, and names the task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from placet.schemas.errors import PlacetError
from placet.streams.errors import TaskCorrupted, TaskStopped
from placet.streams.producer import Transaction
from placet.streams.records import ConsumerRecord, ProducerRecord, TopicPartition
from placet.streams.store import StoreDamaged
from placet.streams.task import Task

__all__ = ["needs_housekeeping", "positions_of", "process", "store"]


def process(
    task: Task, records: list[ConsumerRecord], clock_ms: int, control_position: int
) -> Iterable[ProducerRecord]:
    """Let a task decide. What it raises is its own doing, and takes out this task alone.

    Raises:
        TaskStopped: its code raised.
        TaskCorrupted: its store is damaged.
    """
    try:
        with _damage_of(task):
            return task.process(records, clock_ms, control_position)
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


def positions_of(ready: list[tuple[Task, list[ConsumerRecord]]]) -> dict[TopicPartition, int]:
    """Next positions of every input partition of every task in the transaction, moved or not."""
    positions = {}
    for task, records in ready:
        partition = task.task_id.partition
        ends = task.positions | {record.topic: record.offset + 1 for record in records}
        positions.update({TopicPartition(topic, partition): at for topic, at in ends.items()})
    return positions


@contextmanager
def _damage_of(task: Task) -> Iterator[None]:
    try:
        yield
    except StoreDamaged as error:
        raise TaskCorrupted(task.task_id, str(error)) from error
