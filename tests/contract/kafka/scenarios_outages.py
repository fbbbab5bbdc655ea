"""A broker that falls silent for a second and goes on: what times out meanwhile, and what has become of it.

Each scenario ends with a broker that answers. None describes a group: where the answer to the search for its
coordinator comes after the question timed out, librdkafka 2.16 aborts the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection

from placet.streams.kafka.client_errors import kafka_reason
from placet.streams.kafka.clients import AdminCalls, ProducerCalls
from placet.streams.kafka.group_positions import GroupPositions
from placet.streams.records import TopicPartition
from tests.contract.kafka.calls import (
    CALL_S,
    COMMITTED,
    LATEST,
    answer,
    at,
    code_of,
    end,
    ends_at,
    put,
    read_all,
    read_to,
    reader,
    refused,
    start_producer,
    write,
)  # fmt: skip
from tests.contract.kafka.under_test import KafkaUnderTest

_SHORT_S = 0.5


@contextmanager
def _silent(kafka: KafkaUnderTest) -> Iterator[None]:
    """Let the broker be silent meanwhile."""
    kafka.pause_broker()
    try:
        yield
    finally:
        kafka.resume_broker()


def _times_out(call: Callable[..., object], *arguments: float) -> bool:
    """Make a call that times out, and tell whether it says that it goes on when it is called again."""
    error = refused(call, *arguments)
    return (error.code(), error.retriable(), error.fatal()) == (KafkaError._TIMED_OUT, True, False)


def _opened(kafka: KafkaUnderTest, topic: str, name: str = "") -> ProducerCalls:
    """Return a producer with an open transaction, of which one record has landed."""
    producer = start_producer(kafka, name)
    producer.begin_transaction()
    put(producer, topic, b"a")
    assert producer.flush(CALL_S) == 0
    return producer


def a_commit_amid_an_outage_times_out_and_is_known_when_it_is_called_again(kafka: KafkaUnderTest) -> None:
    """It has begun, all the same: nothing else may be called before it is called again and brings the outcome."""
    topic = kafka.new_topic()
    producer = _opened(kafka, topic)
    with _silent(kafka):
        assert _times_out(producer.commit_transaction, _SHORT_S)
        error = refused(producer.abort_transaction, _SHORT_S)
        assert (error.code(), error.fatal(), error.retriable()) == (KafkaError._CONFLICT, False, True)
        assert code_of(producer.begin_transaction) == KafkaError._CONFLICT
        assert code_of(put, producer, topic, b"x") == KafkaError._STATE
    producer.commit_transaction(CALL_S)
    assert ends_at(kafka, topic, 2, stable=True)
    write(producer, topic, b"b")
    assert read_all(kafka, topic, 4).values == [b"a", b"b"]


def a_commit_amid_an_outage_is_settled_by_a_successor(kafka: KafkaUnderTest) -> None:
    """It has committed or not, records and positions alike; nothing stays open. The log tells, and no call."""
    topic, name, positions = kafka.new_topic(), kafka.new_name("writer"), reader(kafka)
    producer = _opened(kafka, topic, name)
    producer.send_offsets_to_transaction([at(topic, 5)], positions.consumer_group_metadata(), CALL_S)
    with _silent(kafka):
        assert _times_out(producer.commit_transaction, _SHORT_S)
    start_producer(kafka, name)
    assert ends_at(kafka, topic, 2, stable=True)
    values = read_all(kafka, topic, 2).values
    (found,) = positions.committed([at(topic)], timeout=CALL_S)
    assert (values, found.offset) in (([b"a"], 5), ([], -1001))


def an_abort_or_a_start_amid_an_outage_goes_on_when_it_is_called_again(kafka: KafkaUnderTest) -> None:
    """Both are refused as timed out, and may be called again."""
    topic = kafka.new_topic()
    producer = _opened(kafka, topic)
    late = kafka.clients.producer({**kafka.options, "transactional.id": kafka.new_name("writer")})
    with _silent(kafka):
        assert _times_out(producer.abort_transaction, _SHORT_S)
        assert _times_out(late.init_transactions, _SHORT_S)
    producer.abort_transaction(CALL_S)
    late.init_transactions(CALL_S)
    write(late, topic, b"b")
    assert read_all(kafka, topic, 4).values == [b"b"]


def records_wait_for_a_silent_broker(kafka: KafkaUnderTest) -> None:
    """`flush` returns how many are missing, no report comes; a commit times out, and goes on when called again."""
    topic, producer, told = kafka.new_topic(), start_producer(kafka), list[int | None]()
    write(producer, topic, b"a")
    producer.begin_transaction()
    with _silent(kafka):
        put(producer, topic, b"b", b"c", told=lambda _error, message: told.append(message.offset()))
        assert producer.flush(_SHORT_S) >= 2
        assert _times_out(producer.commit_transaction, _SHORT_S)
        assert told == []
    producer.commit_transaction(CALL_S)
    assert told == [2, 3]
    assert read_all(kafka, topic, 5).values == [b"a", b"b", b"c"]


def positions_wait_for_a_silent_broker_for_longer_than_they_are_told_to(kafka: KafkaUnderTest) -> None:
    """Then the call fails, as one to be repeated. A commit is accepted without them: it must not be called."""
    topic, consumer, producer = kafka.new_topic(), reader(kafka), start_producer(kafka)
    metadata, failed = consumer.consumer_group_metadata(), list[KafkaError]()
    producer.begin_transaction()

    def send() -> None:
        failed.append(refused(producer.send_offsets_to_transaction, [at(topic, 5)], metadata, _SHORT_S))

    with _silent(kafka):
        sending = kafka.clients.spawn("send positions", send)
        sending.join(3 * _SHORT_S)
        assert sending.is_alive()
    sending.join(CALL_S)
    (error,) = failed
    assert error.code() in {KafkaError._TIMED_OUT, KafkaError.CONCURRENT_TRANSACTIONS}
    assert (error.fatal(), error.retriable()) == (False, True)
    producer.commit_transaction(CALL_S)
    (found,) = consumer.committed([at(topic)], timeout=CALL_S)
    assert found.offset in {-1001, 5}


def a_reader_waits_for_a_silent_broker_and_reads_on(kafka: KafkaUnderTest) -> None:
    """Its polls are quiet, its questions time out: those of metadata by `_TRANSPORT`, all others by `_TIMED_OUT`."""
    topic, producer = kafka.new_topic(), start_producer(kafka)
    write(producer, topic, b"a")
    consumer = reader(kafka, topic)
    consumer.assign([at(topic)])
    read_to(kafka, consumer, 2)
    with _silent(kafka):
        assert consumer.poll(_SHORT_S) is None
        assert code_of(consumer.get_watermark_offsets, at(topic), _SHORT_S) == KafkaError._TIMED_OUT
        assert code_of(lambda: consumer.committed([at(topic)], timeout=_SHORT_S)) == KafkaError._TIMED_OUT
        assert code_of(consumer.list_topics, topic, _SHORT_S) in {KafkaError._TRANSPORT, KafkaError._TIMED_OUT}
    write(producer, topic, b"b")
    assert read_to(kafka, consumer, 4).values == [b"b"]


def calls_of_one_consumer_wait_for_each_other(kafka: KafkaUnderTest) -> None:
    """Whichever thread makes them: who reads has a client of its own, that no question keeps from reading."""
    topic, clients = kafka.new_topic(), kafka.clients
    asked, another = reader(kafka, topic), reader(kafka, topic)
    for consumer in (asked, another):
        consumer.assign([at(topic)])
        read_to(kafka, consumer, 0)
    with _silent(kafka):
        asking = clients.spawn("ask", lambda: refused(lambda: asked.committed([at(topic)], timeout=_SHORT_S)))
        asking.join(_SHORT_S / 5)
        another.consume(1, 0)
        assert asking.is_alive()
        asked.consume(1, 0)
        asking.join(_SHORT_S / 5)
        assert not asking.is_alive()


def a_coordinator_that_does_not_answer_costs_all_that_ask_for_positions_one_wait(kafka: KafkaUnderTest) -> None:
    """Not one for each of them: twelve would take half a minute, of which the coordinator is back in all but two s."""
    topic, name = kafka.new_topic(13), kafka.new_name("group")
    group = GroupPositions(kafka.clients, {**kafka.options, "group.id": name, **COMMITTED}, TopicPartition(topic, 12))
    partitions = [TopicPartition(topic, number) for number in range(12)]
    assert answer(kafka, group.ask(partitions)) == dict.fromkeys(partitions)
    with _silent(kafka):
        asked = [group.ask([partition]) for partition in partitions]
        assert [answer(kafka, one) for one in asked] == [None] * len(asked)
    asked = [group.ask([partition]) for partition in partitions]
    assert [answer(kafka, one) for one in asked] == [{partition: None} for partition in partitions]
    group.close()


def _end_or_code(kafka: KafkaUnderTest, admin: AdminCalls, topic: str) -> int:
    """Ask for the end of a log, and return it or the code of what came instead."""
    asked = at(topic)
    found = admin.list_offsets(
        {asked: LATEST}, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=_SHORT_S
    )[asked]
    try:
        offset: int = answer(kafka, found).offset
    except KafkaException as error:
        offset = kafka_reason(error).code()
    return offset


def questions_to_a_silent_broker_end_in_time(kafka: KafkaUnderTest) -> None:
    """Each future holds `_TIMED_OUT`, but that of an offset: there the answer may be -1001, and no error."""
    topic, admin = kafka.new_topic(), kafka.clients.admin(kafka.options)
    assert end(kafka, topic) == 0
    with _silent(kafka):
        offset = _end_or_code(kafka, admin, topic)
        described = admin.describe_topics(TopicCollection([topic]), request_timeout=_SHORT_S)[topic]
        assert code_of(answer, kafka, described) == KafkaError._TIMED_OUT
        assert code_of(answer, kafka, admin.describe_cluster(request_timeout=_SHORT_S)) == KafkaError._TIMED_OUT
        assert code_of(admin.list_topics, topic, _SHORT_S) in {KafkaError._TRANSPORT, KafkaError._TIMED_OUT}
    assert offset in {-1001, KafkaError._TIMED_OUT}
    kafka.until(lambda: _end_or_code(kafka, admin, topic) == 0)
