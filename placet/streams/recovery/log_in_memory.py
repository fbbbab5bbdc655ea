"""Topics in memory, for the driver without Kafka and for tests of a restore."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import TypeVar

from placet.streams.records import ConsumerRecord, Headers, TopicPartition
from placet.streams.recovery.log import Take

__all__ = ["MemoryLog"]

Answer = TypeVar("Answer")


class MemoryLog:
    """Topics as lists of records, and the positions of the gate's group: what a restore reads. See `recovery.log`."""

    def __init__(self) -> None:
        self._records: dict[TopicPartition, list[ConsumerRecord]] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._read_at: dict[TopicPartition, int] = {}
        self.broken = ""

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

    def ask_committed(self, partitions: list[TopicPartition]) -> Future[dict[TopicPartition, int | None] | None]:
        """See `RestoreLog`."""
        return _answered(self.committed(partitions))

    def ask_ends(self, partitions: list[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        """See `RestoreLog`."""
        return {partition: _answered(end) for partition, end in self.end_offsets(partitions).items()}

    def ask_starts(self, partitions: list[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        """See `RestoreLog`."""
        return {partition: _answered(start) for partition, start in self.start_offsets(partitions).items()}

    def ask_topic_ids(self, _topics: Iterable[str]) -> dict[str, Future[str]]:
        """See `RestoreLog`: these topics are never made anew."""
        return {}

    def start(self, partition: TopicPartition, position: int) -> None:
        """See `RestoreLog`."""
        self._read_at[partition] = position

    def take(self, partition: TopicPartition) -> tuple[list[ConsumerRecord], int | None]:
        """See `RestoreLog`: all that there is, at once."""
        end = self.end_offsets([partition])[partition]
        taken: list[ConsumerRecord] = []
        self.read(partition, self._read_at[partition], end, lambda records, _position: not taken.extend(records))  # type: ignore[func-returns-value]
        self._read_at[partition] = end
        return taken, end

    def stop(self, partition: TopicPartition) -> None:
        """See `RestoreLog`."""
        self._read_at.pop(partition, None)

    def poll(self) -> None:
        """See `RestoreLog`."""

    def close(self) -> None:
        """See `Log`."""


def _answered(answer: Answer) -> Future[Answer]:
    future: Future[Answer] = Future()
    future.set_result(answer)
    return future
