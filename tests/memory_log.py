"""Topics in memory: a copy of a driver's, for tests of a restore."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from operator import attrgetter
from typing import Final, TypeVar

from placet.streams.kafka.cluster import TopicInfo
from placet.streams.records import ConsumerRecord, Headers, TopicPartition
from placet.streams.recovery.log import RestoreLog, Take
from placet.streams.recovery.restore import restore
from placet.streams.recovery.steps import Restoration, Restored
from placet.streams.topology import dead_letters_topic
from placet.testing import TestDriver

__all__ = ["MemoryLog", "log_of", "restore_at_once"]

_OFFSET: Final = attrgetter("offset")
Answer = TypeVar("Answer")


class MemoryLog:
    """Topics as lists of records, and the positions of the gate's group: what a restore reads. See `recovery.log`."""

    def __init__(self) -> None:
        self._ends: dict[TopicPartition, int] = {}
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
        offset = self.end(partition)
        self._records.setdefault(partition, []).append(
            ConsumerRecord(*partition, offset, timestamp, key, value, headers)
        )
        return offset

    def put(self, partition: TopicPartition, records: list[ConsumerRecord], end: int) -> None:
        """Put a partition's records there, with holes between them where markers lay."""
        self._records[partition], self._ends[partition] = records, end

    def end(self, partition: TopicPartition) -> int:
        """Return the offset that the next record gets."""
        records = self._records.get(partition)
        return max(records[-1].offset + 1 if records else 0, self._ends.get(partition, 0))

    def records(self, partition: TopicPartition, position: int = 0) -> list[ConsumerRecord]:
        """Return a partition's records from a position on."""
        records = self._records.get(partition, [])
        return records[bisect_left(records, position, key=_OFFSET) :]

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Set the group's positions."""
        self._positions.update(positions)

    def committed(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int | None]:
        """See `Log`."""
        return {partition: self._positions.get(partition) for partition in partitions}

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Log`."""
        return {partition: self.end(partition) for partition in partitions}

    def start_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Log`: nothing is ever removed."""
        return dict.fromkeys(partitions, 0)

    def read(self, partition: TopicPartition, position: int, target: int, take: Take) -> bool:
        """See `Log`."""
        records = [record for record in self.records(partition, position) if record.offset < target]
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

    def ask_topics(self, _topics: Iterable[str]) -> dict[str, Future[TopicInfo]]:
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


def restore_at_once(job: Restoration, log: RestoreLog) -> Restored:
    """Restore in one go, on a log that answers everything at once. Raises as `restore` does."""
    steps = restore(job, log)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            restored: Restored = done.value
            return restored
        log.poll()


def log_of(driver: TestDriver) -> MemoryLog:
    """Return a copy of what lies on a driver's topics now."""
    log, partitions = MemoryLog(), range(driver.partitions)
    places = [TopicPartition(topic, number) for topic in driver.topics for number in partitions]
    for place in (*places, TopicPartition(dead_letters_topic("test"), 0)):
        log.put(place, driver.log.records(place), driver.log.end(place))
    found = driver.log.committed([place for place in places if place.topic in driver.topics.inputs])
    log.commit({place: position for place, position in found.items() if position is not None})
    return log


def _answered(answer: Answer) -> Future[Answer]:
    future: Future[Answer] = Future()
    future.set_result(answer)
    return future
