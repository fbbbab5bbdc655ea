"""A consumer group's plain member, for those who follow a topic and keep what they read."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import TopicPartition as ClientPartition

from placet.streams.errors import LogUnreachable
from placet.streams.kafka.client_errors import CLIENT_ERRORS, kafka_errors_as, kafka_errors_ignored, kafka_reason
from placet.streams.kafka.clients import Clients
from placet.streams.kafka.poll_errors import MIGRATED, drain, records_of
from placet.streams.records import ConsumerRecord, TopicPartition

__all__ = ["GroupReader"]


class GroupReader:
    """A plain member of a consumer group, for those who follow a topic and keep what they read.

    Args:
        clients: makes the client.
        options: librdkafka's options: group.id, group.protocol=consumer, isolation.level=read_committed.
        topic: what is read; where the group has no position yet, from the beginning.
    """

    def __init__(self, clients: Clients, options: Mapping[str, object], topic: str) -> None:
        self._consumer = clients.consumer(options)
        with kafka_errors_as(LogUnreachable, "joining the group"):
            self._consumer.subscribe([topic])

    def poll_batch(self, records_max: int, timeout_ms: int) -> list[ConsumerRecord]:
        """Wait for the first record, then take what is there.

        Raises:
            LogUnreachable, TaskMigrated, FatalError: make a new reader, or stop.
        """
        return records_of(drain(self._consumer, records_max, timeout_ms / 1000))

    def commit(self, positions: Mapping[TopicPartition, int]) -> bool:
        """Keep these next positions for the group. False: a partition moved on to another member, which reads again."""
        try:
            parts = [ClientPartition(*partition, position) for partition, position in positions.items()]
            done = self._consumer.commit(offsets=parts, asynchronous=False)
        except CLIENT_ERRORS as error:
            reason = kafka_reason(error)
            if reason.code() in MIGRATED:
                return False
            raise LogUnreachable(f"keeping the position: {reason.str()}") from error
        return all(partition.error is None for partition in done or ())

    def close(self) -> None:
        """Leave the group."""
        with kafka_errors_ignored():
            self._consumer.close()
