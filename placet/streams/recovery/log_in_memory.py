"""Topics in memory, for the driver without Kafka and for tests of a restore."""

from __future__ import annotations

from collections.abc import Mapping

from placet.streams.records import ConsumerRecord, Headers, TopicPartition
from placet.streams.recovery.restore import Take

__all__ = ["MemoryLog"]


class MemoryLog:
    """Topics as lists of records, and the positions of the gate's group: what a restore reads. See `Log`."""

    def __init__(self) -> None:
        self._records: dict[TopicPartition, list[ConsumerRecord]] = {}
        self._positions: dict[TopicPartition, int] = {}

    def append(
        self,
        partition: TopicPartition,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
    ) -> int:
        """Append a record as a broker with `LogAppendTime` does; return its offset."""
        records = self._records.setdefault(partition, [])
        records.append(ConsumerRecord(*partition, len(records), timestamp, key, value, headers))
        return len(records) - 1

    def records(self, partition: TopicPartition, position: int = 0) -> list[ConsumerRecord]:
        """Return a partition's records from a position on."""
        return self._records.get(partition, [])[position:]

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Set the group's positions."""
        self._positions.update(positions)

    def unreachable(self, _partitions: list[TopicPartition]) -> str:
        """See `RestoreLog`: memory always answers."""
        return ""

    def committed(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int | None]:
        """See `Log`."""
        return {partition: self._positions.get(partition) for partition in partitions}

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Log`."""
        return {partition: len(self._records.get(partition, ())) for partition in partitions}

    def start_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Log`: nothing is ever removed."""
        return dict.fromkeys(partitions, 0)

    def read(self, partition: TopicPartition, position: int, target: int, take: Take) -> bool:
        """See `Log`."""
        records = self._records.get(partition, [])[position:target]
        return take(records, target) if records else True

    def close(self) -> None:
        """See `Log`."""
