"""What a restore asks of Kafka, answered by a reader and the admin client."""

from __future__ import annotations

from placet.streams.admin import Admin
from placet.streams.consumer import LogReader
from placet.streams.records import TopicPartition
from placet.streams.restore import Take

__all__ = ["KafkaLog"]


class KafkaLog:
    """See `placet.streams.restore.Log`."""

    def __init__(self, reader: LogReader, admin: Admin) -> None:
        self._reader = reader
        self._admin = admin

    def committed(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int | None] | None:
        """See `Log`."""
        return self._reader.committed(partitions)

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Log`. Uncommitted reading: the last stable offset may still hide a committed transaction."""
        return self._admin.latest_offsets(partitions, read_uncommitted=True)

    def start_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Log`."""
        return self._admin.earliest_offsets(partitions)

    def read(self, partition: TopicPartition, position: int, target: int, take: Take) -> bool:
        """See `Log`."""
        return self._reader.read(partition, position, target, take)

    def close(self) -> None:
        """Give the connections back."""
        self._reader.close()
