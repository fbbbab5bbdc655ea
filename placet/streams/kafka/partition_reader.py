"""Kafka's consumer as a reader of several partitions side by side: committed records, each partition to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Final

from confluent_kafka import KafkaError, Message
from confluent_kafka import TopicPartition as ClientPartition

from placet.schemas.errors import PlacetError
from placet.streams.errors import LogUnreachable, TaskMigrated
from placet.streams.kafka.client_errors import kafka_errors_as
from placet.streams.kafka.clients import Clients
from placet.streams.kafka.log_reader import close_quietly, reader_client
from placet.streams.kafka.poll_errors import drain, partition_of, reaction_to, records_of
from placet.streams.records import ConsumerRecord, TopicPartition

__all__ = ["PartitionReader"]

_RECORDS_MAX: Final = 10_000
_PARTITION: Final = itemgetter(0, 1)


class PartitionReader:
    """Reads partitions that are started and stopped one by one. It belongs to no group's assignment.

    What goes wrong with one partition is told where that one is taken; what breaks the client is told for all.

    Args:
        clients: makes the client.
        options: librdkafka's options: isolation.level=read_committed, enable.partition.eof=true.
        topics: what will be read. Asked for at once: otherwise the first read of each waits for a timer of a second.

    Attributes:
        broken: why the client is of no use any more, "" while it is.

    Raises:
        LogUnreachable: no broker answered.
    """

    def __init__(self, clients: Clients, options: Mapping[str, object], topics: Iterable[str]) -> None:
        self._consumer = reader_client(clients, options, topics)
        self._lanes: dict[TopicPartition, _Lane] = {}
        self.broken = ""

    def start(self, partition: TopicPartition, position: int) -> None:
        """Read a partition from a position on.

        Raises:
            LogUnreachable: the client is broken: make another reader.
        """
        self._check()
        self._lanes[partition] = _Lane()
        self._change(self._consumer.incremental_assign, ClientPartition(*partition, position))
        self._check()

    def stop(self, partition: TopicPartition) -> None:
        """Read a partition no longer. What came of it is dropped."""
        if self._lanes.pop(partition, None) is not None and not self.broken:
            self._change(self._consumer.incremental_unassign, ClientPartition(*partition))

    def poll(self) -> None:
        """Take what has arrived, some MiB at most, without waiting."""
        if not self._lanes or self.broken:
            return
        ends: list[Message] = []
        try:
            records = records_of(drain(self._consumer, _RECORDS_MAX, 0), ends, self._noted)
        except PlacetError as error:
            self.broken = str(error)
            return
        for partition, run in groupby(records, _PARTITION):
            lane = self._lanes.get(TopicPartition(*partition))
            if lane is not None:
                lane.records += run
        for end in ends:
            lane = self._lanes.get(partition_of(end))
            if lane is not None:
                lane.end = end.offset() or 0

    def take(self, partition: TopicPartition) -> tuple[list[ConsumerRecord], int | None]:
        """Return the records that came of a partition since the last call, and its end if that was met behind them.

        Raises:
            LogUnreachable: it can't be read at the moment, or not from this position; or the client is broken.
            FatalError: this client may not read it.
        """
        self._check()
        lane = self._lanes[partition]
        if lane.error is not None:
            raise lane.error
        taken = lane.records, lane.end
        lane.records, lane.end = [], None
        return taken

    def close(self) -> None:
        """Give the connections back."""
        self.broken = self.broken or "the reader was closed"
        close_quietly(self._consumer)

    def _noted(self, message: Message, error: KafkaError) -> bool:
        reaction, lane = reaction_to(error, message), self._lanes.get(partition_of(message))
        if isinstance(reaction, TaskMigrated):  # of a group that this reader is no member of
            reaction = LogUnreachable(str(reaction))
        if reaction is not None and lane is not None:
            lane.error = reaction
        return lane is not None or partition_of(message).partition >= 0

    def _change(self, call: Callable[[list[ClientPartition]], None], partition: ClientPartition) -> None:
        try:
            with kafka_errors_as(LogUnreachable, f"reading {partition.topic}-{partition.partition}"):
                call([partition])
        except LogUnreachable as error:
            self.broken = str(error)

    def _check(self) -> None:
        if self.broken:
            raise LogUnreachable(self.broken)


class _Lane:
    """What came of one partition and was not taken yet."""

    def __init__(self) -> None:
        self.records: list[ConsumerRecord] = []
        self.end: int | None = None
        self.error: PlacetError | None = None
