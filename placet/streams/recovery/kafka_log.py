"""What a restore, a survey and `placet verify` ask of Kafka, answered by readers and the admin client."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future

from placet.streams.kafka.admin import Admin
from placet.streams.kafka.cluster import TopicInfo
from placet.streams.kafka.group_positions import GroupPositions
from placet.streams.kafka.log_reader import LogReader
from placet.streams.kafka.partition_reader import PartitionReader
from placet.streams.kafka.questions import Insisting
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.log import Take
from placet.streams.runtime import Runtime

__all__ = ["KafkaLog", "KafkaRestoreLog"]


class KafkaLog:
    """See `placet.streams.recovery.log.Log`."""

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
        self._admin.close()


class KafkaRestoreLog:
    """See `placet.streams.recovery.log.RestoreLog`.

    Args:
        runtime: starts threads.
        reader: reads the partitions.
        admin: asks the leaders.
        group: asks the group's coordinator.
    """

    def __init__(self, runtime: Runtime, reader: PartitionReader, admin: Admin, group: GroupPositions) -> None:
        self._runtime = runtime
        self._reader = reader
        self._admin = admin
        self._group = group
        self._leaders = Insisting(runtime.monotonic_s)

    @property
    def broken(self) -> str:
        """See `RestoreLog`."""
        return self._reader.broken

    def ask_committed(self, partitions: list[TopicPartition]) -> Future[dict[TopicPartition, int | None] | None]:
        """See `RestoreLog`."""
        return self._group.ask(partitions)

    def ask_ends(self, partitions: list[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        """See `RestoreLog`. Uncommitted reading: the last stable offset may still hide a committed transaction."""
        return self._leaders.ask(self._admin.ask_ends, partitions)

    def ask_starts(self, partitions: list[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        """See `RestoreLog`."""
        return self._leaders.ask(self._admin.ask_starts, partitions)

    def ask_topics(self, topics: Iterable[str]) -> dict[str, Future[TopicInfo]]:
        """See `RestoreLog`."""
        return self._admin.ask_topics(topics)

    def start(self, partition: TopicPartition, position: int) -> None:
        """See `RestoreLog`."""
        self._reader.start(partition, position)

    def take(self, partition: TopicPartition) -> tuple[list[ConsumerRecord], int | None]:
        """See `RestoreLog`."""
        return self._reader.take(partition)

    def stop(self, partition: TopicPartition) -> None:
        """See `RestoreLog`."""
        self._reader.stop(partition)

    def poll(self) -> None:
        """See `RestoreLog`."""
        self._leaders.again()
        self._reader.poll()

    def close(self) -> None:
        """See `RestoreLog`. In a thread of its own: closing can block (confluent-kafka-python #1667).

        It is closed when no restore runs any more. They have freed what they read and the buffers by which the stores
        were filled, up to 80 MiB of two partitions, and the allocator would keep it for more of the same.
        """
        self._group.close()
        self._runtime.spawn("close a restore's clients", self._close)

    def _close(self) -> None:
        self._reader.close()
        self._admin.close()
        self._runtime.give_back_memory()
