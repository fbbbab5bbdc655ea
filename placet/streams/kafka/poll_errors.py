"""What comes out of a poll: records, or the reaction that an error calls for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from confluent_kafka import KafkaError, Message

from placet.schemas.errors import PlacetError
from placet.streams.errors import FatalError, LogUnreachable, TaskMigrated
from placet.streams.kafka.client_errors import kafka_errors_as
from placet.streams.kafka.clients import ConsumerCalls
from placet.streams.records import ConsumerRecord, TopicPartition

__all__ = ["MIGRATED", "OUT_OF_RANGE", "drain", "partition_of", "reaction_to", "records_of", "what_is_there"]

OUT_OF_RANGE: Final = KafkaError._AUTO_OFFSET_RESET
"""Code of an error that names a partition: what was to be read next is not in its log."""
_BYTES_MAX: Final = 8 << 20
_BITE: Final = 200
"""Messages taken at once, before their size is looked at."""
_UNRELEASED: Final = KafkaError.UNRELEASED_INSTANCE_ID
MIGRATED: Final = frozenset({
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError._FATAL, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_MEMBER_EPOCH,
    KafkaError.STALE_MEMBER_EPOCH, KafkaError.FENCED_INSTANCE_ID, KafkaError.ILLEGAL_GENERATION, _UNRELEASED,
})  # fmt: skip
_TOO_OLD: Final = "the brokers do not know group.protocol=consumer (KIP-848): Kafka 4.0 or newer is needed."
_FATAL: Final = {
    KafkaError.UNSUPPORTED_VERSION: _TOO_OLD,
    KafkaError._UNSUPPORTED_FEATURE: _TOO_OLD,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "its topics may not be read: grant READ.",
    KafkaError.GROUP_AUTHORIZATION_FAILED: (
        "its consumer group may not be used: grant a gate READ on it, others DESCRIBE (docs/operating.md, Rights)."
    ),
}


def records_of(
    messages: Iterable[Message],
    ends: list[Message] | None = None,
    noted: Callable[[Message, KafkaError], bool] | None = None,
) -> list[ConsumerRecord]:
    """Convert messages; what is an error instead is raised by the reaction that it calls for.

    Args:
        messages: as librdkafka gave them.
        ends: takes those that tell of a partition's end.
        noted: is asked about every other error first; True: the caller has taken note of it, nothing is raised.
    """
    records = []
    for message in messages:
        error = message.error()
        if error is not None:
            if ends is not None and error.code() == KafkaError._PARTITION_EOF:
                ends.append(message)
            elif (noted is None or not noted(message, error)) and (reaction := reaction_to(error, message)):
                raise reaction
            continue
        records.append(
            ConsumerRecord(
                message.topic() or "",
                message.partition() or 0,
                message.offset() or 0,
                message.timestamp()[1],
                _bytes(message.key()),
                _bytes(message.value()),
                message.headers() or None,  # type: ignore[arg-type]  # librdkafka gives (str, bytes | None)
            )
        )
    return records


def partition_of(message: Message) -> TopicPartition:
    """Return the partition that a message is of, or its error or end; its number is -1 where it names none."""
    number = message.partition()
    return TopicPartition(message.topic() or "", -1 if number is None else number)


def _bytes(data: Any) -> bytes | None:
    return data  # type: ignore[no-any-return]  # the stubs say str | bytes; without a deserializer it is bytes


def reaction_to(error: KafkaError, message: Message) -> PlacetError | None:
    """Return what an error out of a poll calls for; None where it heals by itself while polling goes on."""
    code = error.code()
    if code == OUT_OF_RANGE:
        return LogUnreachable(
            f"{message.topic()}-{message.partition()}: what was to be read next is not in the log: retention or "
            f"somebody removed it, or the topic was made anew ({error.str()})"
        )
    if code in MIGRATED:
        return TaskMigrated(f"the group moved on: {error.str()}")
    if code in _FATAL:
        return FatalError(f"{error.str()}: {_FATAL[code]}")
    if error.fatal():
        return TaskMigrated(f"the consumer can't go on: {error.str()}")
    return None  # a broker away, a coordinator moving


def drain(consumer: ConsumerCalls, records_max: int, timeout_s: float) -> list[Message]:
    """Wait for the first message, then take what is there."""
    with kafka_errors_as(LogUnreachable, "reading"):
        first = consumer.poll(timeout_s)
        return [first, *what_is_there(consumer, records_max - 1)] if first is not None else []


def what_is_there(consumer: ConsumerCalls, records_max: int) -> list[Message]:
    """Take what has arrived, without waiting: so many messages, or some MiB of them. The rest comes next time."""
    messages: list[Message] = []
    size_bytes = 0
    while len(messages) < records_max and size_bytes < _BYTES_MAX:
        most = min(_BITE, records_max - len(messages))
        bite = consumer.consume(most, 0)
        messages += bite
        size_bytes += sum(map(len, bite))
        if len(bite) < most:
            break
    return messages
