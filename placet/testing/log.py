"""The topics of a driver: its inputs wait there until the gate may read them, and what the gate wrote can be read."""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import Final

from placet.simulation.brokers.cluster import SimulatedCluster
from placet.simulation.brokers.log import Entry, Piece, ProducerBatch
from placet.streams.records import ConsumerRecord, Headers, TopicPartition
from placet.streams.topology import TaskId, entity_topics

__all__ = ["DriverLog"]

_OFFSET: Final = attrgetter("offset")
_NOBODY: Final = -1
"""The id of a producer that has none."""


class DriverLog:
    """Topics as a broker holds them: the ends of transactions take offsets too.

    Args:
        cluster: holds them.
        app: whose they are.
        entity: the entity type.
    """

    def __init__(self, cluster: SimulatedCluster, app: str, entity: str) -> None:
        self._cluster = cluster
        self._group = cluster.group(app)
        self._inputs = entity_topics(app, entity).inputs
        self._waiting: dict[TopicPartition, None] = {}

    def append(
        self,
        partition: TopicPartition,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
    ) -> int:
        """Append a record as a broker does; an input waits for the driver's `run`.

        Args:
            partition: where to.
            timestamp: the time of appending, ms since the epoch.
            key: the record's.
            value: the record's; None is a tombstone.
            headers: the record's.

        Returns:
            The record's offset.
        """
        log = self._cluster.log(partition)
        if partition.topic in self._inputs:
            self._waiting[partition] = None
            log.hold()
        offset = log.append(ProducerBatch(_NOBODY, 0, -1, False, [Piece(key, value, headers)]), timestamp)
        log.replicate()
        return offset

    def records(self, partition: TopicPartition, position: int = 0) -> list[ConsumerRecord]:
        """Return a partition's records from a position on."""
        entries = self._cluster.log(partition).entries
        first = bisect_left(entries, position, key=_OFFSET) if position else 0
        return [_record(partition, entry) for entry in entries[first:] if not entry.marker]

    def end(self, partition: TopicPartition) -> int:
        """Return the offset that the next record gets."""
        return self._cluster.log(partition).end

    def committed(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int | None]:
        """Return how far the gate's group has come; None where it has not begun."""
        return {partition: self._group.positions.get(partition) for partition in partitions}

    def waits_for(self, task_id: TaskId) -> bool:
        """Tell whether inputs of a task wait for `run`."""
        return any(partition.partition == task_id.partition for partition in self._waiting)

    def release(self) -> list[tuple[TopicPartition, int]]:
        """Let the gate read the inputs that wait; return how far it has to read where there were some."""
        waiting, self._waiting = self._waiting, {}
        logs = {partition: self._cluster.log(partition) for partition in waiting}
        for log in logs.values():
            log.release()
        return [(partition, log.end) for partition, log in logs.items()]


def _record(partition: TopicPartition, entry: Entry) -> ConsumerRecord:
    return ConsumerRecord(*partition, entry.offset, entry.timestamp, entry.key, entry.value, entry.headers)
