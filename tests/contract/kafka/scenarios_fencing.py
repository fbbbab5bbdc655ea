"""Transactions that a newer producer, or the coordinator's clock, ends: which call says so, and how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaError

from placet.streams.kafka.client_errors import CLIENT_ERRORS, kafka_reason
from placet.streams.kafka.clients import ProducerCalls
from tests.contract.kafka.calls import (
    CALL_S,
    Seen,
    at,
    code_of,
    ends_at,
    put,
    read_all,
    reader,
    refused,
    start_producer,
    write,
)
from tests.contract.kafka.under_test import KafkaUnderTest

_SHORT: Final = {"transaction.timeout.ms": 1_000, "socket.timeout.ms": 900}


def _fenced(kafka: KafkaUnderTest) -> tuple[ProducerCalls, ProducerCalls, str]:
    """Return a producer that was fenced amid a transaction of one record, its successor, and the topic."""
    topic, name = kafka.new_topic(), kafka.new_name("writer")
    zombie = start_producer(kafka, name)
    zombie.begin_transaction()
    put(zombie, topic, b"zombie")
    assert zombie.flush(CALL_S) == 0
    return zombie, start_producer(kafka, name), topic


def _outlived(kafka: KafkaUnderTest) -> tuple[ProducerCalls, str]:
    """Return a producer whose transaction the coordinator aborted, and the topic."""
    topic, producer = kafka.new_topic(), start_producer(kafka, options=_SHORT)
    producer.begin_transaction()
    put(producer, topic, b"late")
    assert producer.flush(CALL_S) == 0
    assert ends_at(kafka, topic, 2, stable=True)
    return producer, topic


def _fatal_of(call: Callable[..., object], *arguments: Any) -> bool:
    """Make a call that must be refused, and tell whether that is by `_FENCED`, as a fatal error."""
    error = refused(call, *arguments)
    return (error.code(), error.fatal(), error.retriable(), error.txn_requires_abort()) == (
        KafkaError._FENCED, True, False, False,
    )  # fmt: skip


def _is_done_for(producer: ProducerCalls, topic: str) -> None:
    """Each call that changes something is refused with a fatal error, from then on; `poll` says so once at most."""
    assert _fatal_of(producer.commit_transaction, CALL_S)
    assert _fatal_of(producer.abort_transaction, CALL_S)
    assert _fatal_of(producer.begin_transaction)
    assert _fatal_of(producer.init_transactions, CALL_S)
    error = refused(put, producer, topic, b"x")
    assert (error.code(), error.fatal()) == (KafkaError._FATAL, False)
    producer.purge()
    raised = 0
    for _ in range(3):
        try:
            producer.poll(0)
        except CLIENT_ERRORS as error:
            raised += kafka_reason(error).code() == KafkaError._FENCED
    assert raised <= 1
    assert len(producer) == 0


def the_commit_of_a_fenced_producer_is_refused(kafka: KafkaUnderTest) -> None:
    """By `_FENCED`, which is fatal: the producer is of no use any more. `poll` raises the same error once."""
    zombie, successor, topic = _fenced(kafka)
    assert _fatal_of(zombie.commit_transaction, CALL_S)
    assert _fatal_of(zombie.poll, 0)
    assert zombie.poll(0) == 0
    _is_done_for(zombie, topic)
    write(successor, topic, b"a")
    assert read_all(kafka, topic, 4).records == [Seen(0, 2, b"a")]


def the_abort_of_a_fenced_producer_is_refused(kafka: KafkaUnderTest) -> None:
    """Its transaction is aborted already, by its successor's start."""
    zombie, _, topic = _fenced(kafka)
    assert _fatal_of(zombie.abort_transaction, CALL_S)
    _is_done_for(zombie, topic)
    assert ends_at(kafka, topic, 2, stable=True)


def the_positions_of_a_fenced_producer_are_refused(kafka: KafkaUnderTest) -> None:
    """Before the group is asked: by the coordinator of the transaction."""
    zombie, _, topic = _fenced(kafka)
    metadata = reader(kafka).consumer_group_metadata()
    assert _fatal_of(zombie.send_offsets_to_transaction, [at(topic, 1)], metadata, CALL_S)
    _is_done_for(zombie, topic)


def a_record_of_a_fenced_producer_is_refused_by_its_leader(kafka: KafkaUnderTest) -> None:
    """`produce` takes it, and a poll raises the fatal error once. A later one brings the report, of another code."""
    zombie, _, topic = _fenced(kafka)
    told: list[int | None] = []
    put(zombie, topic, b"late", told=lambda error, _message: told.append(error and error.code()))
    errors = []

    def served() -> bool:
        try:
            zombie.poll(0.01)
        except CLIENT_ERRORS as error:
            errors.append(kafka_reason(error))
        return bool(told)

    kafka.until(served)
    assert told == [KafkaError.INVALID_PRODUCER_EPOCH]
    assert [(error.code(), error.fatal()) for error in errors] == [(KafkaError._FENCED, True)]
    _is_done_for(zombie, topic)
    assert ends_at(kafka, topic, 2, stable=True)


def a_flush_raises_a_fatal_error_and_may_lose_reports(kafka: KafkaUnderTest) -> None:
    """Where it goes on to a report with the error pending, Python makes a SystemError of it and the report is lost."""
    zombie, _, topic = _fenced(kafka)
    told: list[int | None] = []
    put(zombie, topic, b"late", told=lambda error, _message: told.append(error and error.code()))
    assert _fatal_of(zombie.flush, CALL_S)
    assert zombie.flush(CALL_S) == 0
    assert told in ([], [KafkaError.INVALID_PRODUCER_EPOCH])
    _is_done_for(zombie, topic)


def a_commit_that_fails_amid_its_flush_stands_in_the_way_of_an_abort(kafka: KafkaUnderTest) -> None:
    """The first record of a zombie is refused in the commit. Then `abort_transaction` may be a conflict: not fatal."""
    topic, name = kafka.new_topic(), kafka.new_name("writer")
    zombie = start_producer(kafka, name)
    zombie.begin_transaction()
    start_producer(kafka, name)
    put(zombie, topic, b"zombie")
    assert _fatal_of(zombie.commit_transaction, CALL_S)
    assert code_of(zombie.abort_transaction, CALL_S) in {KafkaError._CONFLICT, KafkaError._FENCED}
    assert ends_at(kafka, topic, 0)


def a_fenced_producer_with_nothing_to_send_is_not_told(kafka: KafkaUnderTest) -> None:
    """Nobody is asked: its polls are quiet and its empty transaction commits. Hence positions in every transaction."""
    name = kafka.new_name("writer")
    zombie = start_producer(kafka, name)
    start_producer(kafka, name)
    assert zombie.poll(0.2) == 0
    zombie.begin_transaction()
    zombie.commit_transaction(CALL_S)
    zombie.begin_transaction()
    metadata = reader(kafka).consumer_group_metadata()
    topic = kafka.new_topic()
    assert _fatal_of(zombie.send_offsets_to_transaction, [at(topic, 1)], metadata, CALL_S)


def a_successor_is_fenced_by_the_next_one(kafka: KafkaUnderTest) -> None:
    """Whoever began last, writes."""
    topic, name = kafka.new_topic(), kafka.new_name("writer")
    producers = [start_producer(kafka, name) for _ in range(3)]
    for producer in producers[:2]:
        producer.begin_transaction()
        put(producer, topic, b"zombie")
        assert _fatal_of(producer.commit_transaction, CALL_S)
    write(producers[2], topic, b"a")
    assert read_all(kafka, topic, 2).values == [b"a"]


def a_transaction_that_outlives_its_timeout_cannot_commit(kafka: KafkaUnderTest) -> None:
    """The coordinator aborts it and raises the epoch: its producer hears the same as one that another fenced."""
    producer, topic = _outlived(kafka)
    assert _fatal_of(producer.commit_transaction, CALL_S)
    _is_done_for(producer, topic)
    assert read_all(kafka, topic, 2).records == []


def a_transaction_that_outlives_its_timeout_cannot_abort_or_go_on(kafka: KafkaUnderTest) -> None:
    """Its abort is refused, and so is another record: that one never lands."""
    producer, topic = _outlived(kafka)
    put(producer, topic, b"later")
    assert _fatal_of(producer.flush, CALL_S)
    assert _fatal_of(producer.abort_transaction, CALL_S)
    _is_done_for(producer, topic)
    assert ends_at(kafka, topic, 2)


def a_producer_without_an_open_transaction_does_not_time_out(kafka: KafkaUnderTest) -> None:
    """The timeout is that of a transaction: between two of them time does not count."""
    topic, producer = kafka.new_topic(), start_producer(kafka, options=_SHORT)
    write(producer, topic, b"a")
    kafka.clients.sleep(2.5)
    write(producer, topic, b"b")
    assert read_all(kafka, topic, 4).values == [b"a", b"b"]


def a_transaction_timeout_above_the_brokers_limit_is_refused(kafka: KafkaUnderTest) -> None:
    """By `init_transactions`, as a fatal error; a socket timeout above it is refused when the client is made."""
    producer = kafka.clients.producer(
        {**kafka.options, "transactional.id": kafka.new_name("writer"), "transaction.timeout.ms": 1_000_000}
    )
    error = refused(producer.init_transactions, CALL_S)
    assert (error.code(), error.fatal()) == (KafkaError.INVALID_TRANSACTION_TIMEOUT, True)
    too_long = {**_SHORT, "socket.timeout.ms": 2_000, "transactional.id": "any", **kafka.options}
    assert code_of(kafka.clients.producer, too_long) == KafkaError._INVALID_ARG
