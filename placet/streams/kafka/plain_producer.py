"""Producers without transactions: each record is durable, and that is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from confluent_kafka import KafkaError, Message

from placet.streams.errors import FatalError, LogUnreachable
from placet.streams.kafka.client_errors import CLIENT_ERRORS, kafka_errors_as, kafka_errors_ignored, kafka_reason
from placet.streams.kafka.clients import Clients
from placet.streams.records import ProducerRecord, RecordId

__all__ = ["DurableProducer", "produce_durably"]

_FLUSH_TIMEOUT_S: Final = 30.0


class DurableProducer:
    """An idempotent producer without transactions, for clients: it tells of each record when all replicas have it.

    `send` may be called from any thread, and never waits; what became of the records is told in `serve`.

    Args:
        clients: makes the client.
        options: librdkafka's options.
    """

    def __init__(self, clients: Clients, options: Mapping[str, object]) -> None:
        self._producer = clients.producer(options)

    def send(self, record: ProducerRecord, done: Callable[[str, RecordId | None], None]) -> None:
        """Send a record; `done` is called with "" and its place once it is durable, else with what went wrong.

        Raises:
            LogUnreachable: the queue is full: the brokers do not take what was sent before.
        """

        def delivered(error: KafkaError | None, message: Message) -> None:
            offset = message.offset()
            if error is not None:
                done(error.str(), None)
            elif offset is None or offset < 0:
                done("it was taken before, and the broker does not say where it lies", None)
            else:
                done("", RecordId(message.topic() or "", message.partition() or 0, offset))

        topic, partition, key, value, headers = record
        try:
            self._producer.produce(topic, value, key, partition, delivered, None, 0, headers)
        except BufferError:
            raise LogUnreachable("the queue of records to send is full: wait for those that were sent") from None
        except CLIENT_ERRORS as error:  # of this record, such as its size
            done(kafka_reason(error).str(), None)

    def serve(self) -> int:
        """Tell what became of records; return how many are still under way.

        Raises:
            FatalError: librdkafka says that the producer is of no use any more; what is under way fails.
        """
        try:
            self._producer.poll(0)
        except CLIENT_ERRORS as error:
            raise FatalError(f"producer: {kafka_reason(error).str()}") from error
        return len(self._producer)

    def close(self, timeout_s: float = _FLUSH_TIMEOUT_S) -> None:
        """Wait for what is under way."""
        with kafka_errors_ignored():
            self._producer.flush(timeout_s)


def produce_durably(clients: Clients, options: Mapping[str, object], topic: str) -> Callable[[bytes, bytes], None]:
    """Return a function that writes key and value to partition 0 of a topic and waits until all replicas have it.

    It raises `LogUnreachable` where nobody answers in time, and `FatalError` where the broker refuses the record.
    """

    def produce(key: bytes, value: bytes) -> None:
        failed: list[str] = []
        with kafka_errors_as(FatalError, f"a record for {topic} was not written"):
            producer = clients.producer(options)
            producer.produce(
                topic, value, key, 0, lambda error, _message: failed.append(error.str()) if error else None
            )
            left = producer.flush(_FLUSH_TIMEOUT_S)
        if failed:
            raise FatalError(f"a record for {topic} was not written: {''.join(failed)}")
        if left:
            raise LogUnreachable(f"a record for {topic} was not written in {_FLUSH_TIMEOUT_S:g} s: its leader is away")

    return produce
