"""Transactions: who sees which records, and which offsets they take."""

from __future__ import annotations

from tests.contract.kafka.calls import (
    CALL_S,
    UNCOMMITTED,
    Seen,
    at,
    end,
    ends_at,
    put,
    read_all,
    read_to,
    reader,
    start_producer,
    write,
)
from tests.contract.kafka.under_test import KafkaUnderTest


def committed_records_are_read_in_order_and_a_marker_follows_them(kafka: KafkaUnderTest) -> None:
    """The end is one more than the records for each transaction: its marker has an offset too."""
    topic, producer = kafka.new_topic(), start_producer(kafka)
    write(producer, topic, b"a", b"b")
    write(producer, topic, b"c")
    assert ends_at(kafka, topic, 5)
    assert read_all(kafka, topic, 5).records == [Seen(0, 0, b"a"), Seen(0, 1, b"b"), Seen(0, 3, b"c")]


def aborted_records_take_offsets_and_are_never_read(kafka: KafkaUnderTest) -> None:
    """An abort leaves a marker too, if anything had been sent. Readers of uncommitted records see the records."""
    topic, producer = kafka.new_topic(), start_producer(kafka)
    producer.begin_transaction()
    put(producer, topic, b"never", b"ever")
    assert producer.flush(CALL_S) == 0
    producer.abort_transaction(CALL_S)
    write(producer, topic, b"a")
    assert ends_at(kafka, topic, 5)
    assert read_all(kafka, topic, 5).records == [Seen(0, 3, b"a")]
    assert read_all(kafka, topic, 5, options=UNCOMMITTED).values == [b"never", b"ever", b"a"]


def records_of_an_open_transaction_are_seen_by_readers_of_uncommitted_ones_only(kafka: KafkaUnderTest) -> None:
    """They hold the last stable offset at the first of them, and all that others commit behind it."""
    topic, opened, other = kafka.new_topic(), start_producer(kafka), start_producer(kafka)
    write(other, topic, b"before")
    assert ends_at(kafka, topic, 2, stable=True)
    opened.begin_transaction()
    put(opened, topic, b"open")
    assert opened.flush(CALL_S) == 0
    write(other, topic, b"behind")
    assert ends_at(kafka, topic, 5)
    assert ends_at(kafka, topic, 2, stable=True)
    committed = reader(kafka, topic)
    committed.assign([at(topic)])
    assert read_to(kafka, committed, 2).values == [b"before"]
    assert read_all(kafka, topic, 5, options=UNCOMMITTED).values == [b"before", b"open", b"behind"]
    opened.commit_transaction(CALL_S)
    assert read_to(kafka, committed, 6).values == [b"open", b"behind"]


def the_watermark_asked_for_is_the_last_stable_offset_and_the_cached_one_the_high_watermark(
    kafka: KafkaUnderTest,
) -> None:
    """For a reader of committed records. What is cached came with what was fetched: asking does not change it."""
    topic, producer = kafka.new_topic(), start_producer(kafka)
    write(producer, topic, b"a")
    producer.begin_transaction()
    put(producer, topic, b"open")
    assert producer.flush(CALL_S) == 0
    assert ends_at(kafka, topic, 2, stable=True)
    for level, end_of_its_records in (("read_committed", 2), ("read_uncommitted", 3)):
        consumer = reader(kafka, topic, options={"isolation.level": level})
        assert consumer.get_watermark_offsets(at(topic), CALL_S) == (0, end_of_its_records)
        assert consumer.get_watermark_offsets(at(topic), cached=True) == (-1001, -1001)
        consumer.assign([at(topic)])
        read_to(kafka, consumer, end_of_its_records)
        assert consumer.get_watermark_offsets(at(topic), cached=True) == (0, 3)
        consumer.unassign()
        assert consumer.get_watermark_offsets(at(topic), cached=True) == (0, 3)
    producer.abort_transaction(CALL_S)


def two_partitions_commit_together(kafka: KafkaUnderTest) -> None:
    """Each gets a marker of its own. The order within a partition is that of the calls."""
    topic, producer = kafka.new_topic(2), start_producer(kafka)
    producer.begin_transaction()
    for number in range(4):
        put(producer, topic, b"%d" % number, partition=number % 2)
    producer.commit_transaction(CALL_S)
    found = read_all(kafka, topic, 3, 3)
    assert sorted(found.records) == [Seen(0, 0, b"0"), Seen(0, 1, b"2"), Seen(1, 0, b"1"), Seen(1, 1, b"3")]


def an_empty_transaction_leaves_no_trace(kafka: KafkaUnderTest) -> None:
    """Neither its commit nor its abort writes a marker, and the next transaction works."""
    topic, producer = kafka.new_topic(), start_producer(kafka)
    producer.begin_transaction()
    producer.commit_transaction(CALL_S)
    producer.begin_transaction()
    producer.abort_transaction(CALL_S)
    write(producer, topic, b"a")
    assert ends_at(kafka, topic, 2)


def records_may_land_before_they_are_flushed(kafka: KafkaUnderTest) -> None:
    """The client sends by itself after `linger.ms`. What landed is not told before a call that serves reports."""
    topic, producer, told = kafka.new_topic(), start_producer(kafka), list[int | None]()
    producer.begin_transaction()
    put(producer, topic, b"a", b"b", told=lambda _error, message: told.append(message.offset()))
    assert ends_at(kafka, topic, 2)
    assert told == []
    kafka.until(lambda: producer.poll(0) or told)
    producer.commit_transaction(CALL_S)
    assert told == [0, 1]
    assert ends_at(kafka, topic, 3)


def a_successor_aborts_what_the_earlier_producer_left_open(kafka: KafkaUnderTest) -> None:
    """When its `init_transactions` returns, the last stable offset does not wait for that transaction for long."""
    topic, name = kafka.new_topic(), kafka.new_name("writer")
    earlier = start_producer(kafka, name)
    earlier.begin_transaction()
    put(earlier, topic, b"left open")
    assert earlier.flush(CALL_S) == 0
    assert end(kafka, topic, stable=True) == 0
    successor = start_producer(kafka, name)
    assert ends_at(kafka, topic, 2, stable=True)
    write(successor, topic, b"a")
    assert read_all(kafka, topic, 4).records == [Seen(0, 2, b"a")]


def a_successor_leaves_alone_what_the_earlier_producer_committed(kafka: KafkaUnderTest) -> None:
    """It waits until the markers are written."""
    topic, name = kafka.new_topic(2), kafka.new_name("writer")
    earlier = start_producer(kafka, name)
    earlier.begin_transaction()
    put(earlier, topic, b"a")
    put(earlier, topic, b"b", partition=1)
    earlier.commit_transaction(CALL_S)
    start_producer(kafka, name)
    assert read_all(kafka, topic, 2, 2).values in ([b"a", b"b"], [b"b", b"a"])
