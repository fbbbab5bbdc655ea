"""A consumer that is given its partitions: ends, positions that are not there, pauses, seeks, assignments."""

from __future__ import annotations

from confluent_kafka import KafkaError, Message

from placet.streams.kafka.clients import ConsumerCalls
from tests.contract.kafka.calls import (
    CALL_S,
    Found,
    at,
    code_of,
    ends_at,
    note,
    read,
    read_to,
    reader,
    start_producer,
    write,
)  # fmt: skip
from tests.contract.kafka.under_test import KafkaUnderTest

_QUIET_S = 0.3


def _five_transactions(kafka: KafkaUnderTest, topic: str) -> list[int]:
    """Write five transactions of forty records each to partition 0, and return their offsets: the end is 205."""
    producer = start_producer(kafka)
    for number in range(5):
        write(producer, topic, *[b"%d" % record for record in range(number * 40, number * 40 + 40)])
    assert ends_at(kafka, topic, 205, stable=True)
    return [offset for offset in range(205) if offset % 41 != 40]


def _quiet(kafka: KafkaUnderTest, consumer: ConsumerCalls) -> bool:
    """Poll for a while, and tell whether nothing came."""
    until_s = kafka.clients.monotonic_s() + _QUIET_S
    found = Found([], {})
    while kafka.clients.monotonic_s() < until_s:
        message = consumer.poll(0.05)
        if message is not None:
            note(message, found)
    return not found.records and not found.ends


def _some(kafka: KafkaUnderTest, consumer: ConsumerCalls, records: int) -> Found:
    """Read so many records."""
    return read(kafka, consumer, lambda found: len(found.records) == records)


def _offset_and_code(kafka: KafkaUnderTest, consumer: ConsumerCalls) -> tuple[int | None, int]:
    """Poll until an error comes, and return the offset that it names and its code."""
    errors: list[Message] = []

    def came() -> bool:
        message = consumer.poll(0.1)
        if message is not None and message.error() is not None:
            errors.append(message)
        return bool(errors)

    kafka.until(came)
    error = errors[0].error()
    assert error is not None
    assert (errors[0].partition(), error.fatal()) == (0, False)
    return errors[0].offset(), error.code()


def a_consumer_without_partitions_gets_nothing(kafka: KafkaUnderTest) -> None:
    """`poll` returns None and `consume` an empty list, when their time is over."""
    consumer = reader(kafka)
    assert consumer.poll(0.05) is None
    assert consumer.poll(0) is None
    assert consumer.consume(5, 0.05) == []
    assert consumer.consume(5, 0) == []


def an_end_is_told_behind_markers_and_again_after_new_records(kafka: KafkaUnderTest) -> None:
    """Its offset is the end of what is committed; once told, it is told again only when another one is reached."""
    topic, producer = kafka.new_topic(), start_producer(kafka)
    consumer = reader(kafka, topic)
    consumer.assign([at(topic)])
    assert read_to(kafka, consumer, 0).records == []
    write(producer, topic, b"a")
    assert read_to(kafka, consumer, 2).values == [b"a"]
    assert _quiet(kafka, consumer)
    write(producer, topic, b"b", b"c")
    assert read_to(kafka, consumer, 5).offsets == [2, 3]
    consumer.assign([at(topic, 4)])
    assert read_to(kafka, consumer, 5).records == []


def consume_takes_so_many_at_most_and_in_order(kafka: KafkaUnderTest) -> None:
    """Records and ends count alike. What it does not take comes next."""
    topic = kafka.new_topic()
    offsets = _five_transactions(kafka, topic)
    consumer = reader(kafka, topic)
    consumer.assign([at(topic)])
    found, sizes = Found([], {}), []

    def all_came() -> bool:
        messages = consumer.consume(7, 0.1)
        sizes.append(len(messages))
        for message in messages:
            note(message, found)
        return found.ends == {0: 205}

    kafka.until(all_came)
    assert found.offsets == offsets
    assert max(sizes) == 7


def a_position_beyond_the_end_is_told_once_and_heals_when_it_is_assigned_anew(kafka: KafkaUnderTest) -> None:
    """By `_AUTO_OFFSET_RESET`. Until then nothing comes, and a seek is refused by `_STATE`."""
    topic = kafka.new_topic()
    write(start_producer(kafka), topic, b"a", b"b")
    assert ends_at(kafka, topic, 3, stable=True)
    consumer = reader(kafka, topic)
    consumer.assign([at(topic, 20)])
    assert _offset_and_code(kafka, consumer) == (20, KafkaError._AUTO_OFFSET_RESET)
    assert _quiet(kafka, consumer)
    assert code_of(consumer.seek, at(topic, 0)) == KafkaError._STATE
    consumer.assign([at(topic, 1)])
    assert read_to(kafka, consumer, 3).values == [b"b"]


def a_position_whose_records_were_deleted_is_told_and_heals_when_it_is_given_anew(kafka: KafkaUnderTest) -> None:
    """As above; with the calls that the gate makes: it is taken back and given anew."""
    topic = kafka.new_topic()
    write(start_producer(kafka), topic, b"a", b"b", b"c")
    assert ends_at(kafka, topic, 4, stable=True)
    kafka.delete_records(topic, 0, 2)
    consumer = reader(kafka, topic)
    consumer.incremental_assign([at(topic, 1)])
    assert _offset_and_code(kafka, consumer) == (1, KafkaError._AUTO_OFFSET_RESET)
    assert code_of(consumer.seek, at(topic, 2)) == KafkaError._STATE
    assert consumer.get_watermark_offsets(at(topic), CALL_S) == (2, 4)
    consumer.incremental_unassign([at(topic)])
    consumer.incremental_assign([at(topic, 2)])
    assert read_to(kafka, consumer, 4).values == [b"c"]


def a_topic_made_anew_ends_before_an_old_position(kafka: KafkaUnderTest) -> None:
    """Its reader is told so, unless the new log is as long already: then it would read on in the middle of it."""
    topic = kafka.new_topic()
    write(start_producer(kafka), topic, b"a", b"b")
    consumer = reader(kafka, topic)
    consumer.assign([at(topic)])
    read_to(kafka, consumer, 3)
    kafka.recreate(topic)
    errors: list[KafkaError] = []

    def told() -> bool:
        message = consumer.poll(0.1)
        error = None if message is None else message.error()
        if error is not None:
            errors.append(error)
        return bool(errors) and errors[-1].code() == KafkaError._AUTO_OFFSET_RESET

    kafka.until(told, 40)
    write(start_producer(kafka), topic, b"new")
    again = reader(kafka, topic)
    again.assign([at(topic)])
    assert read_to(kafka, again, 2).values == [b"new"]


def a_pause_holds_and_a_resume_goes_on_without_a_gap(kafka: KafkaUnderTest) -> None:
    """What was fetched and not taken comes again after the resume, and nothing that was taken."""
    topic = kafka.new_topic()
    offsets = _five_transactions(kafka, topic)
    consumer = reader(kafka, topic)
    consumer.assign([at(topic)])
    found = Found([], {})
    for more in (0, 1, 50, 70):
        if more:
            found.records.extend(_some(kafka, consumer, more).records)
        consumer.pause([at(topic)])
        assert _quiet(kafka, consumer)
        consumer.resume([at(topic)])
    found.records.extend(read_to(kafka, consumer, 205).records)
    assert found.offsets == offsets


def a_pause_outlives_the_assignment(kafka: KafkaUnderTest) -> None:
    """Given back and given anew, by either kind of call, a partition is still paused. A resume in between counts."""
    topic = kafka.new_topic()
    write(start_producer(kafka), topic, b"a", b"b")
    consumer = reader(kafka, topic)
    consumer.assign([at(topic)])
    consumer.pause([at(topic)])
    consumer.unassign()
    consumer.assign([at(topic)])
    assert _quiet(kafka, consumer)
    consumer.incremental_unassign([at(topic)])
    consumer.incremental_assign([at(topic)])
    assert _quiet(kafka, consumer)
    consumer.incremental_unassign([at(topic)])
    consumer.resume([at(topic)])
    consumer.incremental_assign([at(topic)])
    assert read_to(kafka, consumer, 3).values == [b"a", b"b"]
    consumer.unassign()
    consumer.pause([at(topic)])
    consumer.assign([at(topic)])
    assert _quiet(kafka, consumer)


def a_resume_of_what_is_not_paused_changes_nothing(kafka: KafkaUnderTest) -> None:
    """Neither record is lost nor read twice, with librdkafka 2.16. A pause of what is not there is no error either."""
    topic = kafka.new_topic()
    offsets = _five_transactions(kafka, topic)
    consumer = reader(kafka, topic)
    consumer.pause([at(topic, 0, 7), at("no-such-topic")])
    consumer.resume([at(topic, 0, 7), at("no-such-topic")])
    consumer.resume([])
    consumer.assign([at(topic)])

    def ended(found: Found) -> bool:
        consumer.resume([at(topic)])
        return found.ends == {0: 205}

    assert read(kafka, consumer, ended).offsets == offsets


def a_seek_goes_back_and_nothing_of_before_it_comes(kafka: KafkaUnderTest) -> None:
    """What was fetched already is dropped, whatever the number of records that waited."""
    topic = kafka.new_topic()
    offsets = _five_transactions(kafka, topic)
    consumer = reader(kafka, topic)
    consumer.assign([at(topic)])
    for target in (5, 0, 100, 40, 3, 204):
        read(kafka, consumer, lambda found: bool(found.records or found.ends))
        consumer.seek(at(topic, target))
        found = read(kafka, consumer, lambda found: bool(found.records or found.ends))
        expected = [offset for offset in offsets if offset >= target]
        assert found.offsets == expected[:1]
        assert expected or found.ends == {0: 205}


def a_seek_while_paused_counts_after_the_resume(kafka: KafkaUnderTest) -> None:
    """As the gate lets a partition flow again: seek, then resume."""
    topic = kafka.new_topic()
    offsets = _five_transactions(kafka, topic)
    consumer = reader(kafka, topic)
    consumer.incremental_assign([at(topic)])
    _some(kafka, consumer, 30)
    consumer.pause([at(topic)])
    consumer.seek(at(topic, 10))
    assert _quiet(kafka, consumer)
    consumer.resume([at(topic)])
    assert read_to(kafka, consumer, 205).offsets == [offset for offset in offsets if offset >= 10]


def a_seek_in_a_partition_that_is_not_assigned_is_refused(kafka: KafkaUnderTest) -> None:
    """By `_STATE`, and so it may be right after an assignment: the caller asks again."""
    topic = kafka.new_topic(2)
    consumer = reader(kafka, topic)
    consumer.assign([at(topic)])
    assert code_of(consumer.seek, at(topic, 0, 1)) == KafkaError._STATE
    consumer.unassign()
    assert code_of(consumer.seek, at(topic)) == KafkaError._STATE


def partitions_are_given_and_taken_one_by_one(kafka: KafkaUnderTest) -> None:
    """The others read on. One that was taken back gives nothing any more, and may be given anew."""
    topic, producer = kafka.new_topic(3), start_producer(kafka)
    for partition in range(3):
        write(producer, topic, b"%d" % partition, partition=partition)
    consumer = reader(kafka, topic)
    consumer.incremental_assign([at(topic)])
    consumer.incremental_assign([at(topic, 0, 1)])
    found = read(kafka, consumer, lambda found: found.ends == {0: 2, 1: 2})
    assert sorted(found.values, key=str) == [b"0", b"1"]
    consumer.incremental_unassign([at(topic)])
    write(producer, topic, b"more", partition=0)
    write(producer, topic, b"more", partition=1)
    assert read(kafka, consumer, lambda found: bool(found.ends)).ends == {1: 4}
    assert _quiet(kafka, consumer)
    consumer.incremental_assign([at(topic, 2)])
    assert read_to(kafka, consumer, 4).values == [b"more"]


def wrong_assignments_are_refused_and_change_nothing(kafka: KafkaUnderTest) -> None:
    """Twice the same: `_CONFLICT`. To take back what one does not have: `_INVALID_ARG`. Nothing at all is no error."""
    topic = kafka.new_topic(2)
    write(start_producer(kafka), topic, b"a")
    consumer = reader(kafka, topic)
    consumer.unassign()
    consumer.incremental_assign([])
    consumer.incremental_unassign([])
    assert code_of(consumer.incremental_unassign, [at(topic)]) == KafkaError._INVALID_ARG
    consumer.incremental_assign([at(topic)])
    assert code_of(consumer.incremental_assign, [at(topic, 1)]) == KafkaError._CONFLICT
    assert code_of(consumer.incremental_unassign, [at(topic, 0, 1)]) == KafkaError._INVALID_ARG
    assert read_to(kafka, consumer, 2).values == [b"a"]


def an_assignment_replaces_the_one_before(kafka: KafkaUnderTest) -> None:
    """Nothing of the old one comes any more, whatever was fetched."""
    topic, producer = kafka.new_topic(2), start_producer(kafka)
    _five_transactions(kafka, topic)
    write(producer, topic, b"a", partition=1)
    consumer = reader(kafka, topic)
    consumer.assign([at(topic)])
    _some(kafka, consumer, 3)
    consumer.assign([at(topic, 0, 1)])
    assert read(kafka, consumer, lambda found: found.ends == {1: 2}).values == [b"a"]
    assert _quiet(kafka, consumer)


def a_closed_consumer_takes_no_calls(kafka: KafkaUnderTest) -> None:
    """Each is a RuntimeError, and none of Kafka's. To close it again is no error."""
    topic = kafka.new_topic()
    consumer = reader(kafka, topic)
    consumer.close()
    consumer.close()
    for call in (
        lambda: consumer.poll(0),
        lambda: consumer.consume(1, 0),
        consumer.consumer_group_metadata,
        lambda: consumer.assign([at(topic)]),
        lambda: consumer.committed([at(topic)], timeout=1),
        lambda: consumer.get_watermark_offsets(at(topic), 1),
    ):
        try:
            call()
        except RuntimeError:
            continue
        raise AssertionError("the call was not refused")
