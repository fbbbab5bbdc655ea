"""A connection that breaks when a request was sent: it is sent again, and the broker may do what it was sent first."""

from __future__ import annotations

from typing import Any, Final

from confluent_kafka import KafkaError

from placet.streams.kafka.clients import ProducerCalls
from tests.contract.kafka.calls import CALL_S, at, ends_at, put, read_to, reader, refused, start_producer, write
from tests.contract.kafka.under_test import KafkaUnderTest

_LATE_S: Final = 1.0


class _Heard:
    """What a producer tells of its connections: errors, and lines of the log by librdkafka's name for them."""

    def __init__(self) -> None:
        self.errors: list[KafkaError] = []
        self.lines: list[object] = []

    def log(self, _level: int, _line: str, *arguments: object) -> None:
        self.lines.append(arguments[0])

    def options(self) -> dict[str, Any]:
        return {"error_cb": self.errors.append, "logger": self}


def _warm(kafka: KafkaUnderTest, topic: str) -> tuple[ProducerCalls, _Heard]:
    """Return a producer that has written a record, and what it will tell from now on."""
    heard = _Heard()
    producer = start_producer(kafka, options=heard.options())
    write(producer, topic, b"a")
    producer.poll(0)
    heard.errors.clear()
    heard.lines.clear()
    return producer, heard


def a_connection_that_is_closed_under_a_commit_is_no_error_and_the_log_tells_of_it(kafka: KafkaUnderTest) -> None:
    topic = kafka.new_topic()
    producer, heard = _warm(kafka, topic)
    kafka.break_next("EndTxn", 0.0)
    write(producer, topic, b"b")
    producer.poll(0)
    assert "FAIL" in heard.lines
    assert not heard.errors
    assert ends_at(kafka, topic, 4, stable=True)


def a_connection_that_is_closed_under_other_requests_is_told_by_the_log_before_the_commit_returns(
    kafka: KafkaUnderTest,
) -> None:
    topic = kafka.new_topic()
    for what in ("AddPartitionsToTxn", "Produce"):
        producer, heard = _warm(kafka, topic)
        kafka.break_next(what, 0.0)
        write(producer, topic, b"b")
        producer.poll(0)
        assert "FAIL" in heard.lines, what


def a_commit_that_arrives_late_ends_the_next_transaction(kafka: KafkaUnderTest) -> None:
    topic = kafka.new_topic()
    producer, _ = _warm(kafka, topic)
    kafka.break_next("EndTxn", _LATE_S)
    write(producer, topic, b"b")
    producer.begin_transaction()
    put(producer, topic, b"c")
    assert producer.flush(CALL_S) == 0
    committed = reader(kafka, topic)
    committed.assign([at(topic)])
    assert read_to(kafka, committed, 6).values == [b"a", b"b", b"c"], "nobody has committed the third one"
    put(producer, topic, b"d")
    assert refused(producer.commit_transaction, CALL_S).code() == KafkaError.INVALID_TXN_STATE, "it is torn"
