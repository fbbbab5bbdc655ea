"""The producer's own: states of its transactions, its queue, its reports, purges.

How a commit and an abort time out is shown amid an outage. With a timeout of zero librdkafka 2.16 may lose track of its
own state: once in some hundred times the call that is repeated is refused by `_STATE`.
"""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException, Message

from placet.streams.kafka.client_errors import kafka_reason
from placet.streams.kafka.clients import ProducerCalls
from tests.contract.kafka.calls import (
    CALL_S,
    Seen,
    at,
    code_of,
    ends_at,
    put,
    read,
    read_all,
    reader,
    refused,
    start_producer,
    write,
)
from tests.contract.kafka.under_test import KafkaUnderTest


class _Reports:
    """Delivery reports in the order in which they came: the offsets of what landed, the codes of what did not."""

    def __init__(self) -> None:
        self.offsets: list[int | None] = []
        self.codes: list[int] = []

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.offsets.append(message.offset())
        else:
            self.codes.append(error.code())


def calls_in_the_wrong_state_are_refused_and_do_no_harm(kafka: KafkaUnderTest) -> None:
    """By `_STATE`: neither fatal nor to be aborted. Each call has its state."""
    topic = kafka.new_topic()
    producer = kafka.clients.producer({**kafka.options, "transactional.id": kafka.new_name("writer")})
    metadata = reader(kafka).consumer_group_metadata()
    assert code_of(producer.begin_transaction) == KafkaError._STATE
    assert code_of(put, producer, topic, b"before init") == KafkaError._STATE
    producer.init_transactions(CALL_S)
    assert code_of(producer.init_transactions, CALL_S) == KafkaError._STATE
    error = refused(put, producer, topic, b"outside")
    assert (error.code(), error.fatal(), error.txn_requires_abort()) == (KafkaError._STATE, False, False)
    assert code_of(producer.commit_transaction, CALL_S) == KafkaError._STATE
    assert code_of(producer.abort_transaction, CALL_S) == KafkaError._STATE
    assert code_of(producer.send_offsets_to_transaction, [at(topic, 1)], metadata, CALL_S) == KafkaError._STATE
    producer.begin_transaction()
    assert code_of(producer.begin_transaction) == KafkaError._STATE
    assert code_of(producer.init_transactions, CALL_S) == KafkaError._STATE
    put(producer, topic, b"a")
    producer.commit_transaction(CALL_S)
    assert read_all(kafka, topic, 2).values == [b"a"]


def reports_come_in_poll_flush_and_commit_only(kafka: KafkaUnderTest) -> None:
    """Each with the offset at which its record landed, in order."""
    topic, producer = kafka.new_topic(), start_producer(kafka)
    polled, flushed, committed = _Reports(), _Reports(), _Reports()
    producer.begin_transaction()
    put(producer, topic, b"a", b"b", told=polled)
    assert ends_at(kafka, topic, 2)
    assert polled.offsets == []
    kafka.until(lambda: producer.poll(0.01) and len(polled.offsets) == 2)
    put(producer, topic, b"c", told=flushed)
    assert producer.flush(CALL_S) == 0
    put(producer, topic, b"d", told=committed)
    producer.commit_transaction(CALL_S)
    assert (polled.offsets, flushed.offsets, committed.offsets) == ([0, 1], [2], [3])
    assert polled.codes + flushed.codes + committed.codes == []


def its_length_counts_records_whose_report_was_not_served(kafka: KafkaUnderTest) -> None:
    """At least those: the client adds an event of its own now and then. Nothing waits, once all are served."""
    topic, producer = kafka.new_topic(), start_producer(kafka)
    assert len(producer) == 0
    producer.begin_transaction()
    put(producer, topic, b"a", b"b", b"c")
    assert len(producer) >= 3
    assert ends_at(kafka, topic, 3)
    assert len(producer) >= 3
    assert producer.flush(CALL_S) == 0
    assert len(producer) == 0
    producer.abort_transaction(CALL_S)


def a_full_queue_is_a_buffer_error_until_reports_are_served(kafka: KafkaUnderTest) -> None:
    """Records that have landed count too: only a call that serves their reports makes room."""
    topic = kafka.new_topic()
    producer = start_producer(kafka, options={"queue.buffering.max.messages": 3})
    producer.begin_transaction()
    put(producer, topic, b"a", b"b", b"c")
    assert _is_full(producer, topic)
    assert ends_at(kafka, topic, 3)
    assert _is_full(producer, topic)
    kafka.until(lambda: producer.poll(0.01) and len(producer) == 0)
    put(producer, topic, b"d")
    producer.commit_transaction(CALL_S)
    assert read_all(kafka, topic, 5).values == [b"a", b"b", b"c", b"d"]


def _is_full(producer: ProducerCalls, topic: str) -> bool:
    try:
        put(producer, topic, b"too many")
    except BufferError:
        return True
    return False


def a_purge_drops_what_is_queued_and_reports_it(kafka: KafkaUnderTest) -> None:
    """The commit then refuses, and asks for an abort. Nothing was sent: so nothing lands, not even a marker."""
    topic, producer, told = kafka.new_topic(), start_producer(kafka, options={"linger.ms": 5_000}), _Reports()
    producer.begin_transaction()
    put(producer, topic, b"a", b"b", told=told)
    producer.purge()
    assert told.codes == []
    assert producer.flush(CALL_S) == 0
    assert (told.offsets, told.codes) == ([], [KafkaError._PURGE_QUEUE] * 2)
    error = refused(producer.commit_transaction, CALL_S)
    assert error.code() == KafkaError._INCONSISTENT
    assert (error.fatal(), error.retriable(), error.txn_requires_abort()) == (False, False, True)
    producer.abort_transaction(CALL_S)
    assert ends_at(kafka, topic, 0)


def a_producer_that_was_purged_may_fail_once_more(kafka: KafkaUnderTest) -> None:
    """librdkafka goes on counting behind what it dropped: the leader may miss records, and the next one is aborted."""
    topic, producer = kafka.new_topic(), start_producer(kafka)
    write(producer, topic, b"a")
    producer.begin_transaction()
    put(producer, topic, b"dropped")
    producer.purge()
    producer.abort_transaction(CALL_S)
    producer.begin_transaction()
    put(producer, topic, b"b")
    try:
        producer.commit_transaction(CALL_S)
    except KafkaException as failed:
        error = kafka_reason(failed)
        assert error.code() == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert (error.fatal(), error.retriable(), error.txn_requires_abort()) == (False, False, True)
        producer.abort_transaction(CALL_S)
    write(producer, topic, b"c")
    consumer = reader(kafka, topic)
    consumer.assign([at(topic)])
    found = read(kafka, consumer, lambda found: b"c" in found.values)
    assert found.values in ([b"a", b"c"], [b"a", b"b", b"c"])


def an_abort_drops_what_is_queued_and_reports_it(kafka: KafkaUnderTest) -> None:
    """It purges by itself. Nothing was sent: so nothing lands, and the producer goes on."""
    topic, producer, told = kafka.new_topic(), start_producer(kafka, options={"linger.ms": 5_000}), _Reports()
    producer.begin_transaction()
    put(producer, topic, b"never", told=told)
    producer.abort_transaction(CALL_S)
    assert (told.offsets, told.codes) == ([], [KafkaError._PURGE_QUEUE])
    write(producer, topic, b"a")
    assert read_all(kafka, topic, 2).records == [Seen(0, 0, b"a")]


def a_record_that_is_too_large_is_refused_at_once(kafka: KafkaUnderTest) -> None:
    """By `produce`, and the transaction goes on."""
    topic, producer = kafka.new_topic(), start_producer(kafka, options={"message.max.bytes": 10_000})
    producer.begin_transaction()
    assert code_of(put, producer, topic, b"x" * 20_000) == KafkaError.MSG_SIZE_TOO_LARGE
    put(producer, topic, b"a")
    producer.commit_transaction(CALL_S)
    assert read_all(kafka, topic, 2).values == [b"a"]


def a_partition_that_is_not_there_is_refused_at_once_where_the_topic_is_known(kafka: KafkaUnderTest) -> None:
    """By `_UNKNOWN_PARTITION`, and the transaction goes on."""
    topic, producer = kafka.new_topic(2), start_producer(kafka)
    write(producer, topic, b"a")
    producer.begin_transaction()
    assert code_of(lambda: put(producer, topic, b"x", partition=2)) == KafkaError._UNKNOWN_PARTITION
    put(producer, topic, b"b", partition=1)
    producer.commit_transaction(CALL_S)
    assert read_all(kafka, topic, 2, 2).values in ([b"a", b"b"], [b"b", b"a"])


def a_record_keeps_its_key_value_headers_and_gets_the_brokers_time(kafka: KafkaUnderTest) -> None:
    """With LogAppendTime, as the gate's topics have: the report tells the same time. A value may be absent or empty."""
    topic = kafka.new_topic(configs={"message.timestamp.type": "LogAppendTime"})
    producer, reported = start_producer(kafka), list[tuple[int, int]]()
    headers = [("a", b"1"), ("a", b""), ("b", None)]

    def told(_error: KafkaError | None, message: Message) -> None:
        reported.append(message.timestamp())

    producer.begin_transaction()
    producer.produce(topic, None, b"key", 0, told, None, 0, headers)
    producer.produce(topic, b"", None, 0, told, None, 0, None)
    producer.commit_transaction(CALL_S)
    consumer = reader(kafka, topic)
    consumer.assign([at(topic)])
    records: list[Message] = []

    def arrived() -> bool:
        records.extend(message for message in consumer.consume(2, 0.1) if message.error() is None)
        return len(records) == 2

    kafka.until(arrived)
    first, second = records
    assert (first.key(), first.value(), first.headers()) == (b"key", None, headers)
    assert (second.key(), second.value(), second.headers()) == (None, b"", None)
    assert [message.timestamp() for message in (first, second)] == reported
    assert [kind for kind, _ in reported] == [2, 2]
    assert abs(reported[0][1] - kafka.clients.now_ms()) < 60_000
