"""Steps that many scenarios take: clients with the gate's options, whole transactions, reading to the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final, NamedTuple

from confluent_kafka import IsolationLevel, KafkaError, Message
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # exported, but without __all__

from placet.streams.kafka.client_errors import CLIENT_ERRORS, kafka_reason
from placet.streams.kafka.clients import ConsumerCalls, ProducerCalls
from tests.contract.kafka.under_test import KafkaUnderTest

__all__ = [
    "CALL_S",
    "COMMITTED",
    "EARLIEST",
    "LATEST",
    "UNCOMMITTED",
    "Found",
    "Seen",
    "answer",
    "at",
    "code_of",
    "end",
    "ends_at",
    "put",
    "read",
    "read_all",
    "read_to",
    "reader",
    "refused",
    "start_producer",
    "write",
]

CALL_S: Final = 20.0
NO_OPTIONS: Final[Mapping[str, Any]] = {}
COMMITTED: Final = {"isolation.level": "read_committed"}
UNCOMMITTED: Final = {"isolation.level": "read_uncommitted"}
LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the client's own gap
EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # the client's own gap


class Seen(NamedTuple):
    """A record as a reader saw it."""

    partition: int
    offset: int
    value: bytes | None


class Found(NamedTuple):
    """What a read to the end found."""

    records: list[Seen]
    ends: dict[int, int]

    @property
    def values(self) -> list[bytes | None]:
        return [record.value for record in self.records]

    @property
    def offsets(self) -> list[int]:
        return [record.offset for record in self.records]


def start_producer(
    kafka: KafkaUnderTest, transactional_id: str = "", options: Mapping[str, Any] = NO_OPTIONS
) -> ProducerCalls:
    """Make a transactional producer with the gate's options, these win, and let it begin."""
    own = {
        "acks": "all",
        "enable.idempotence": True,
        "transactional.id": transactional_id or kafka.new_name("writer"),
        "linger.ms": 2,
    }
    producer = kafka.clients.producer({**kafka.options, **own, **options})
    producer.init_transactions(CALL_S)
    return producer


def reader(kafka: KafkaUnderTest, *topics: str, options: Mapping[str, Any] = NO_OPTIONS) -> ConsumerCalls:
    """Make a reader with the gate's options, these win, which knows these topics."""
    own = {
        "group.id": kafka.new_name("group"),
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,
        "fetch.queue.backoff.ms": 10,
    }
    consumer = kafka.clients.consumer({**kafka.options, **own, **options})
    for topic in topics:
        consumer.list_topics(topic, CALL_S)
    return consumer


def put(producer: ProducerCalls, topic: str, *values: bytes, partition: int = 0, told: Any = None) -> None:
    """Add records to the open transaction. `told`: the delivery report's callback."""
    for value in values:
        producer.produce(topic, value, b"key", partition, told, None, 0, None)


def write(producer: ProducerCalls, topic: str, *values: bytes, partition: int = 0) -> None:
    """Write records in a transaction of their own, and commit it."""
    producer.begin_transaction()
    put(producer, topic, *values, partition=partition)
    producer.commit_transaction(CALL_S)


def at(topic: str, offset: int = 0, partition: int = 0) -> ClientPartition:
    """Return a partition with a position in it."""
    return ClientPartition(topic, partition, offset)


def read(kafka: KafkaUnderTest, consumer: ConsumerCalls, until: Callable[[Found], bool]) -> Found:
    """Poll until what was read suffices."""
    found, until_s = Found([], {}), kafka.clients.monotonic_s() + CALL_S
    while not until(found):
        assert kafka.clients.monotonic_s() < until_s, f"no more than {found} came in {CALL_S:g} s"
        message = consumer.poll(0.1)
        if message is not None:
            note(message, found)
    return found


def note(message: Message, found: Found) -> None:
    """Add a message to what was read; an error that is no end fails the scenario."""
    error, partition, offset = message.error(), message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    if error is None:
        value = message.value()
        assert not isinstance(value, str)
        found.records.append(Seen(partition, offset, value))
    else:
        assert error.code() == KafkaError._PARTITION_EOF, error
        found.ends[partition] = offset


def read_to(kafka: KafkaUnderTest, consumer: ConsumerCalls, *ends: int) -> Found:
    """Poll until these are the ends that are told, of partition 0 and so on.

    A broker answers a commit before its markers are in the logs: a reader may be told of an end before them first.
    """
    wanted = dict(enumerate(ends))
    return read(kafka, consumer, lambda found: found.ends == wanted)


def read_all(kafka: KafkaUnderTest, topic: str, *ends: int, options: Mapping[str, Any] = NO_OPTIONS) -> Found:
    """Read a topic from its beginning to these ends, with a reader of its own."""
    consumer = reader(kafka, topic, options=options)
    consumer.assign([at(topic, 0, partition) for partition in range(len(ends))])
    found = read_to(kafka, consumer, *ends)
    consumer.close()
    return found


def end(
    kafka: KafkaUnderTest,
    topic: str,
    partition: int = 0,
    spec: Any = LATEST,
    *,
    stable: bool = False,
) -> int:
    """Ask a leader for the end of its log: the high watermark, or the last stable offset."""
    level = IsolationLevel.READ_COMMITTED if stable else IsolationLevel.READ_UNCOMMITTED
    asked = ClientPartition(topic, partition)
    found = kafka.admin.list_offsets({asked: spec}, isolation_level=level, request_timeout=CALL_S)[asked]
    offset: int = answer(kafka, found).offset
    return offset


def ends_at(kafka: KafkaUnderTest, topic: str, offset: int, *, partition: int = 0, stable: bool = False) -> bool:
    """Wait until the log ends there, then tell that it does."""
    kafka.until(lambda: end(kafka, topic, partition, stable=stable) == offset)
    return True


def answer(kafka: KafkaUnderTest, future: Future[Any]) -> Any:
    """Wait for an admin client's answer, and return it or raise what it holds."""
    assert kafka.clients.wait([future], CALL_S)
    return future.result()


def refused(call: Callable[..., object], *arguments: Any) -> KafkaError:
    """Make a call that must fail, and return Kafka's error behind what it raises."""
    try:
        call(*arguments)
    except CLIENT_ERRORS as error:
        return kafka_reason(error)
    raise AssertionError("the call was not refused")


def code_of(call: Callable[..., object], *arguments: Any) -> int:
    """Make a call that must fail, and return its code."""
    code: int = refused(call, *arguments).code()
    return code
