"""What a restore asks of Kafka, answered by a reader and the admin client."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Final

from placet.streams.errors import LogUnreachable
from placet.streams.kafka.admin import Admin
from placet.streams.kafka.consumer import LogReader
from placet.streams.records import TopicPartition
from placet.streams.recovery.restore import Take

__all__ = ["KafkaLog"]

_MOMENT_S: Final = 0.05


class KafkaLog:
    """See `placet.streams.recovery.restore.Log` and `placet.streams.recovery.restorer.RestoreLog`."""

    def __init__(self, reader: LogReader, admin: Admin) -> None:
        self._reader = reader
        self._admin = admin
        self._asked: dict[frozenset[TopicPartition], dict[TopicPartition, Future[int]]] = {}

    def unreachable(self, partitions: list[TopicPartition]) -> str:
        """See `RestoreLog`. All are asked at once, and the question stays open when no answer comes at once."""
        key = frozenset(partitions)
        asked = self._asked.pop(key, None) or self._admin.ask_ends(partitions)
        if not self._admin.clients.wait(asked.values(), _MOMENT_S):
            self._asked[key] = asked
            late = sorted(partition for partition, answer in asked.items() if not answer.done())
            return f"the leader of {_named(late)} does not answer"
        failed = {partition: answer.exception() for partition, answer in asked.items()}
        lost = sorted(partition for partition, error in failed.items() if isinstance(error, LogUnreachable))
        return f"{_named(lost)}: {failed[lost[0]]}" if lost else ""

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


def _named(partitions: list[TopicPartition]) -> str:
    return ", ".join(f"{topic}-{number}" for topic, number in partitions)
