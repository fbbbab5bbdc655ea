"""What a restore, a survey and `placet verify` ask of Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Protocol

from placet.streams.kafka.cluster import TopicInfo
from placet.streams.records import ConsumerRecord, TopicPartition

__all__ = ["Log", "RestoreLog", "Take"]

Take = Callable[[list[ConsumerRecord], int], bool]
"""Is handed records and the next position; returns False to stop."""


class Log(Protocol):
    """Topics, read one after the other. Each call waits for its answer; `LogUnreachable` where none comes."""

    def committed(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int | None] | None:
        """Stable positions of the group, None for none; None as a whole while they are not stable."""
        ...

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """End offsets, uncommitted records included."""
        ...

    def start_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """First offsets still held."""
        ...

    def read(self, partition: TopicPartition, position: int, target: int, take: Take) -> bool:
        """Hand over committed records to the end; False when `take` asked to stop."""
        ...

    def close(self) -> None:
        """Give the connections back."""
        ...


class RestoreLog(Protocol):
    """Topics, several of them at a time. No call waits: questions are futures, and records are there or not.

    A future holds an answer or `LogUnreachable` in the end. Meanwhile whoever has to answer is asked again: `poll`.
    """

    @property
    def broken(self) -> str:
        """Why nothing can be read with it any more, "" while it can: then `take` raises, and another has to be made."""
        ...

    def ask_committed(self, partitions: list[TopicPartition]) -> Future[dict[TopicPartition, int | None] | None]:
        """Ask for the group's positions, see `Log.committed`."""
        ...

    def ask_ends(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, Future[int]]:
        """Ask each leader for its end offset, uncommitted records included."""
        ...

    def ask_starts(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, Future[int]]:
        """Ask each leader for the first offset that it still holds."""
        ...

    def ask_topics(self, topics: Iterable[str]) -> Mapping[str, Future[TopicInfo]]:
        """Ask for topics as they are now, ids and partitions, as far as this log has topics with ids."""
        ...

    def start(self, partition: TopicPartition, position: int) -> None:
        """Read a partition from a position on."""
        ...

    def take(self, partition: TopicPartition) -> tuple[list[ConsumerRecord], int | None]:
        """Return what `poll` brought of a partition since the last call: committed records, and its end if it was met.

        Raises:
            LogUnreachable: it can't be read at the moment, or not from this position.
            FatalError: the gate may not read it.
        """
        ...

    def stop(self, partition: TopicPartition) -> None:
        """Read a partition no longer."""
        ...

    def poll(self) -> None:
        """Take some MiB of what has arrived from the brokers, of all partitions; ask again where it is time."""
        ...

    def close(self) -> None:
        """Give the connections back."""
        ...
