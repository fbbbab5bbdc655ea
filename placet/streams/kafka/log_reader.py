"""Kafka's consumer as a reader of partitions that belong to no group: committed records, to the end of the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from confluent_kafka import KafkaError, Message
from confluent_kafka import TopicPartition as ClientPartition

from placet.streams.errors import LogUnreachable
from placet.streams.kafka.client_errors import CLIENT_ERRORS, kafka_errors_as, kafka_errors_ignored, kafka_reason
from placet.streams.kafka.clients import Clients, ConsumerCalls
from placet.streams.kafka.poll_errors import drain, partition_of, records_of
from placet.streams.records import ConsumerRecord, TopicPartition

__all__ = ["LogReader", "close_quietly", "committed_positions", "reader_client"]

_METADATA_TRIES: Final = 3
_METADATA_TRY_S: Final = 3.5
_COMMITTED_TIMEOUT_S: Final = 2.0
_NEW_RECORDS_MAX: Final = 1_000


def reader_client(clients: Clients, options: Mapping[str, object], topics: Iterable[str]) -> ConsumerCalls:
    """Make a consumer that knows these topics.

    Raises:
        LogUnreachable: no broker answered.
    """
    consumer = clients.consumer(options)
    try:
        for topic in topics:
            _learn(consumer, topic)
    except LogUnreachable:
        clients.spawn("close a reader", lambda: close_quietly(consumer))
        raise
    return consumer


def _learn(consumer: ConsumerCalls, topic: str) -> None:
    """Ask for a topic, several times: librdkafka asks one broker, and goes on asking it after it has stopped."""
    for left in reversed(range(_METADATA_TRIES)):
        try:
            with kafka_errors_as(LogUnreachable, "metadata"):
                consumer.list_topics(topic, _METADATA_TRY_S)
        except LogUnreachable:
            if not left:
                raise
        else:
            return


def close_quietly(consumer: ConsumerCalls) -> None:
    """Close a client that is not needed any more. It can block (confluent-kafka-python #1667)."""
    with kafka_errors_ignored():
        consumer.close()


def committed_positions(
    consumer: ConsumerCalls, partitions: Iterable[TopicPartition], timeout_s: float = _COMMITTED_TIMEOUT_S
) -> dict[TopicPartition, int | None] | None:
    """Return the *stable* next positions of a consumer's group (KIP-447), None for a partition that has none.

    Returns None instead while a transaction that moves them is still open, or where no answer came in time: ask again.

    Raises:
        LogUnreachable: the group's coordinator can't be asked.
    """
    asked = [ClientPartition(*partition) for partition in partitions]
    try:
        found = consumer.committed(asked, timeout=timeout_s)
    except CLIENT_ERRORS as error:
        reason = kafka_reason(error)
        if reason.code() in (KafkaError._TIMED_OUT, KafkaError.UNSTABLE_OFFSET_COMMIT):
            return None
        raise LogUnreachable(f"the group's positions: {reason.str()}") from error
    if any(partition.error is not None for partition in found):
        return None
    return {TopicPartition(at.topic, at.partition): at.offset if at.offset >= 0 else None for at in found}


class LogReader:
    """Reads single partitions to their end, committed records only. It belongs to no group's assignment.

    Args:
        clients: makes the client.
        options: librdkafka's options: group.id (for `committed`), isolation.level=read_committed,
            enable.partition.eof=true.
        topics: what will be read. Asked for at once: otherwise the first read of each waits for a timer of a second.

    Raises:
        LogUnreachable: no broker answered.
    """

    def __init__(self, clients: Clients, options: Mapping[str, object], topics: Iterable[str] = ()) -> None:
        self._consumer = reader_client(clients, options, topics)

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int | None] | None:
        """Return the group's *stable* next positions, None for a partition that has none.

        Returns None instead while a transaction that moves them is still open: ask again.
        """
        return committed_positions(self._consumer, partitions)

    def read(
        self,
        partition: TopicPartition,
        position: int,
        target: int,
        take: Callable[[list[ConsumerRecord], int], bool],
        records_max: int = 10_000,
    ) -> bool:
        """Hand all committed records from `position` to `take`, until the end of the log is `target` or beyond.

        The end is an end-of-partition event, never "the last record's offset": transactions end with markers.

        Args:
            partition: what to read.
            position: where to begin.
            target: the end offset (of uncommitted reading) that has to be reached.
            take: is called with records and the next position; returns False to stop.
            records_max: most records handed over at once; fewer where they are large.

        Returns:
            Whether the target was reached.
        """
        self.follow(partition, position)
        try:
            while True:  # the caller's `take` ends it
                messages = drain(self._consumer, records_max, 0.1)
                ends: list[Message] = []
                records = records_of(messages, ends)
                if records:
                    position = records[-1].offset + 1
                if ends:
                    position = max(position, ends[-1].offset() or 0)
                if not take(records, position):
                    return False
                if position >= target and ends:
                    return True
        finally:
            with kafka_errors_ignored():
                self._consumer.unassign()

    def follow(self, partition: TopicPartition, position: int) -> None:
        """Stay on a partition; `take_new` returns what arrives."""
        with kafka_errors_as(LogUnreachable, f"reading {partition.topic}-{partition.partition}"):
            self._consumer.assign([ClientPartition(*partition, position)])

    def take_new(self) -> tuple[list[ConsumerRecord], int | None]:
        """Return what has arrived, without waiting, and the end of the log if it was met behind that."""
        ends: list[Message] = []
        records = records_of(drain(self._consumer, _NEW_RECORDS_MAX, 0), ends)
        return records, ends[-1].offset() if ends else None

    def follow_also(self, positions: Mapping[TopicPartition, int]) -> None:
        """Stay on these partitions too, beside those that are followed already."""
        with kafka_errors_as(LogUnreachable, f"reading {', '.join(map(str, positions))}"):
            self._consumer.incremental_assign([ClientPartition(*partition, at) for partition, at in positions.items()])

    def leave(self, partitions: Iterable[TopicPartition]) -> None:
        """Stay no longer on these partitions; nothing of them comes afterwards."""
        with kafka_errors_as(LogUnreachable, "leaving partitions"):
            self._consumer.incremental_unassign([ClientPartition(*partition) for partition in partitions])

    def take(self, timeout_ms: int) -> tuple[list[ConsumerRecord], list[TopicPartition]]:
        """Wait for something new, then take what is there.

        Returns:
            The records, and the partitions whose end was met after them.
        """
        messages = drain(self._consumer, _NEW_RECORDS_MAX, timeout_ms / 1000)
        ends: list[Message] = []
        records = records_of(messages, ends)
        return records, [partition_of(end) for end in ends]

    def close(self) -> None:
        """Give the connections back."""
        close_quietly(self._consumer)
