"""The broker's clock, as it stamps records of a LogAppendTime topic. No Kafka request just asks for the time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message

from placet.schemas.errors import SettingsError
from placet.streams.kafka.clients import Clients, ProducerCalls
from placet.streams.kafka.cluster import ClockReading

__all__ = ["BrokerClock", "made"]

_LOG_APPEND_TIME: Final = 2
Made = TypeVar("Made")
_SAMPLES: Final = 5


class BrokerClock:
    """Reads it by records in a transaction that is aborted.

    Args:
        clients: makes the producer.
        options: librdkafka's options.
        timeout_s: limit of each call, in seconds.
        on_error: hears what librdkafka sees.
    """

    def __init__(
        self, clients: Clients, options: Mapping[str, str], timeout_s: float, on_error: Callable[[KafkaError], None]
    ) -> None:
        self._clients = clients
        self._options = {**options, "linger.ms": "0", "error_cb": on_error}
        self._timeout_s = timeout_s

    def read(self, topic: str, transactional_id: str) -> ClockReading:
        """See `Admin.measure_clock`.

        Raises:
            KafkaException, TimeoutError: no answer, or a refusal.
            SettingsError: the topic has no LogAppendTime.
        """
        producer = made(self._clients.producer, {**self._options, "transactional.id": transactional_id})
        producer.init_transactions(self._timeout_s)
        producer.begin_transaction()
        readings = [self._one_reading(producer, topic) for _ in range(_SAMPLES)]  # the shortest way counts
        producer.abort_transaction(self._timeout_s)
        return min(readings, key=lambda reading: reading.uncertainty_ms)

    def _one_reading(self, producer: ProducerCalls, topic: str) -> ClockReading:
        delivered: list[tuple[KafkaError | None, tuple[int, int], int]] = []

        def note(error: KafkaError | None, message: Message) -> None:
            delivered.append((error, message.timestamp(), self._clients.now_ns()))

        sent_ns = self._clients.now_ns()
        producer.produce(topic, b"clock", None, 0, note)
        if producer.flush(self._timeout_s) or not delivered:
            raise TimeoutError(f"no answer to a record for {topic}")
        error, (kind, appended_ms), received_ns = delivered[0]
        if error is not None:
            raise KafkaException(error)
        if kind != _LOG_APPEND_TIME:
            raise SettingsError(f"{topic} stamps records with the producer's time, not with LogAppendTime.")
        return ClockReading(appended_ms - (sent_ns + received_ns) / 2e6, (received_ns - sent_ns) / 2e6)


def made(make: Callable[[Mapping[str, object]], Made], options: Mapping[str, object]) -> Made:
    """A client that says nothing on stderr by itself: what it sees comes through `error_cb`.

    Raises:
        SettingsError: librdkafka refuses an option.
    """
    try:
        return make({**options, "logger": _SILENT})
    except (KafkaException, ValueError, TypeError) as error:
        raise SettingsError(f"librdkafka refuses its options: {error}. Look at PLACET_KAFKA__OPTIONS.") from error


_SILENT: Final = logging.Logger("librdkafka of the admin client", logging.CRITICAL + 1)
