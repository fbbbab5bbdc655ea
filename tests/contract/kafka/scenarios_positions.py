"""A group's positions, sent with a transaction: who sees them when, and whom the group lets send them."""

from __future__ import annotations

from confluent_kafka import KafkaError

from placet.streams.kafka.clients import ConsumerCalls, ProducerCalls
from placet.streams.kafka.group_positions import GroupPositions
from placet.streams.kafka.membership import membership
from placet.streams.records import TopicPartition
from tests.contract.kafka.calls import (
    CALL_S,
    COMMITTED,
    UNCOMMITTED,
    answer,
    at,
    code_of,
    put,
    read_all,
    reader,
    refused,
    start_producer,
    write,
)  # fmt: skip
from tests.contract.kafka.members import GROUP_OPTIONS, Member, all_polled_until, joined, quick_group, with_epoch
from tests.contract.kafka.under_test import KafkaUnderTest

_SHORT_S = 0.5


def _stored(consumer: ConsumerCalls, topic: str, partition: int = 0) -> int:
    (found,) = consumer.committed([at(topic, 0, partition)], timeout=CALL_S)
    assert found.error is None
    return found.offset


def _send(producer: ProducerCalls, metadata: bytes, topic: str, offset: int, partition: int = 0) -> None:
    """Send a position in a transaction of its own, and commit it."""
    producer.begin_transaction()
    producer.send_offsets_to_transaction([at(topic, offset, partition)], metadata, CALL_S)
    producer.commit_transaction(CALL_S)


def _code_of_sending(producer: ProducerCalls, metadata: bytes, topic: str, partition: int = 0) -> int:
    """Send a position that is refused: the transaction must be aborted, and the producer goes on. Return the code."""
    producer.begin_transaction()
    error = refused(producer.send_offsets_to_transaction, [at(topic, 99, partition)], metadata, CALL_S)
    assert (error.fatal(), error.retriable(), error.txn_requires_abort()) == (False, False, True)
    assert code_of(producer.commit_transaction, CALL_S) == error.code()
    producer.abort_transaction(CALL_S)
    code: int = error.code()
    return code


def positions_are_unstable_until_the_commit_and_then_stored(kafka: KafkaUnderTest) -> None:
    """Meanwhile `committed` of a reader of committed records times out, for these partitions and no others."""
    topic, producer, group = kafka.new_topic(2), start_producer(kafka), kafka.new_name("group")
    stable = reader(kafka, topic, options={"group.id": group})
    any_kind = reader(kafka, topic, options={"group.id": group, **UNCOMMITTED})
    assert _stored(stable, topic) == -1001
    _send(producer, stable.consumer_group_metadata(), topic, 3)
    assert _stored(stable, topic) == 3
    producer.begin_transaction()
    producer.send_offsets_to_transaction([at(topic, 5)], stable.consumer_group_metadata(), CALL_S)
    error = refused(lambda: stable.committed([at(topic)], timeout=_SHORT_S))
    assert (error.code(), error.fatal()) == (KafkaError._TIMED_OUT, False)
    assert _stored(any_kind, topic) == 3
    assert _stored(stable, topic, 1) == -1001
    producer.commit_transaction(CALL_S)
    assert _stored(stable, topic) == 5


def positions_of_an_aborted_transaction_are_dropped(kafka: KafkaUnderTest) -> None:
    """The earlier ones stand, or none."""
    topic, producer, consumer = kafka.new_topic(2), start_producer(kafka), reader(kafka)
    metadata = consumer.consumer_group_metadata()
    _send(producer, metadata, topic, 3)
    producer.begin_transaction()
    producer.send_offsets_to_transaction([at(topic, 5), at(topic, 7, 1)], metadata, CALL_S)
    producer.abort_transaction(CALL_S)
    assert [_stored(consumer, topic, partition) for partition in (0, 1)] == [3, -1001]


def a_successor_settles_the_positions_that_the_earlier_producer_left_open(kafka: KafkaUnderTest) -> None:
    """After its `init_transactions` they are stable again, at what was committed before."""
    topic, name, consumer = kafka.new_topic(), kafka.new_name("writer"), reader(kafka)
    metadata = consumer.consumer_group_metadata()
    earlier = start_producer(kafka, name)
    earlier.begin_transaction()
    earlier.send_offsets_to_transaction([at(topic, 5)], metadata, CALL_S)
    assert code_of(lambda: consumer.committed([at(topic)], timeout=_SHORT_S)) == KafkaError._TIMED_OUT
    start_producer(kafka, name)
    assert _stored(consumer, topic) == -1001
    assert code_of(earlier.commit_transaction, CALL_S) == KafkaError._FENCED


def the_last_positions_of_a_transaction_count(kafka: KafkaUnderTest) -> None:
    """They may be sent more than once, and beside records; none at all are no error."""
    topic, producer, consumer = kafka.new_topic(), start_producer(kafka), reader(kafka)
    metadata = consumer.consumer_group_metadata()
    producer.begin_transaction()
    producer.send_offsets_to_transaction([], metadata, CALL_S)
    producer.send_offsets_to_transaction([at(topic, 7)], metadata, CALL_S)
    put(producer, topic, b"a")
    producer.send_offsets_to_transaction([at(topic, 8)], metadata, CALL_S)
    producer.commit_transaction(CALL_S)
    assert _stored(consumer, topic) == 8
    assert read_all(kafka, topic, 2).values == [b"a"]


def a_reader_begins_where_its_group_stands(kafka: KafkaUnderTest) -> None:
    """Where it is given a partition without a position. Where the group has none, it is told `_AUTO_OFFSET_RESET`."""
    topic, producer, consumer = kafka.new_topic(2), start_producer(kafka), reader(kafka)
    consumer.list_topics(topic, CALL_S)
    write(producer, topic, b"a", b"b", b"c")
    _send(producer, consumer.consumer_group_metadata(), topic, 2)
    assert _stored(consumer, topic) == 2
    consumer.assign([at(topic, -1001)])
    assert _first(kafka, consumer) == (None, 0)
    consumer.assign([at(topic, -1001, 1)])
    assert _first(kafka, consumer) == (KafkaError._AUTO_OFFSET_RESET, 1)


def _first(kafka: KafkaUnderTest, consumer: ConsumerCalls) -> tuple[int | None, int | None]:
    """Return the code and the partition of the first message that is no end."""
    found: list[tuple[int | None, int | None]] = []

    def came() -> bool:
        message = consumer.poll(0.1)
        error = None if message is None else message.error()
        if message is not None and (error is None or error.code() != KafkaError._PARTITION_EOF):
            found.append((None if error is None else error.code(), message.partition()))
        return bool(found)

    kafka.until(came)
    return found[0]


def positions_stored_without_a_transaction_are_there_at_once(kafka: KafkaUnderTest) -> None:
    """By a consumer of a group that has no members; where there are some, it is no one of them and refused."""
    topic, group = kafka.new_topic(), quick_group(kafka)
    consumer = reader(kafka, topic, options={"group.id": group})
    consumer.commit(offsets=[at(topic, 4)], asynchronous=False)
    assert _stored(consumer, topic) == 4
    joined(kafka, group, topic, 1)
    refusal = code_of(lambda: consumer.commit(offsets=[at(topic, 5)], asynchronous=False))
    assert refusal == KafkaError.UNKNOWN_MEMBER_ID
    assert _stored(consumer, topic) == 4


def a_member_of_this_epoch_may_send_any_position(kafka: KafkaUnderTest) -> None:
    """Even one of a partition that the group gave to another member: the epoch is checked, and not the partition."""
    topic, group, producer = kafka.new_topic(2), quick_group(kafka), start_producer(kafka)
    one, other = _two_members(kafka, group, topic)
    (own,), (others,) = one.owned, other.owned
    _send(producer, one.metadata, topic, 3, own)
    _send(producer, one.metadata, topic, 4, others)
    assert [_stored(one.consumer, topic, number) for number in (own, others)] == [3, 4]


def a_member_of_an_earlier_epoch_may_send_positions_of_what_it_kept(kafka: KafkaUnderTest) -> None:
    """And of no other partition. Refused by ILLEGAL_GENERATION, as every epoch is that the member never had."""
    topic, group, producer = kafka.new_topic(2), quick_group(kafka), start_producer(kafka)
    one = joined(kafka, group, topic, 2)
    before = one.metadata
    other = Member(kafka, group, topic)
    all_polled_until(kafka, [one, other], lambda: one.owned and other.owned and one.epoch == other.epoch)
    (kept,), (lost,) = one.owned, other.owned
    assert membership(before)[0] < one.epoch
    _send(producer, before, topic, 3, kept)
    assert _stored(one.consumer, topic, kept) == 3
    assert _code_of_sending(producer, before, topic, lost) == KafkaError.ILLEGAL_GENERATION
    for epoch in (one.epoch + 1, 0, -1):
        refusal = _code_of_sending(producer, with_epoch(one.metadata, epoch), topic, kept)
        assert refusal == KafkaError.ILLEGAL_GENERATION
    assert _stored(one.consumer, topic, lost) == -1001


def _two_members(kafka: KafkaUnderTest, group: str, topic: str) -> tuple[Member, Member]:
    """Return two members of which each has one of two partitions, and both the same epoch."""
    one, other = Member(kafka, group, topic), Member(kafka, group, topic)
    all_polled_until(kafka, [one, other], lambda: one.owned and other.owned and one.epoch == other.epoch)
    return one, other


def a_stranger_is_refused(kafka: KafkaUnderTest) -> None:
    """By UNKNOWN_MEMBER_ID: an unknown member, one that has not joined yet, and one that has left. Each has an id."""
    topic, group, producer = kafka.new_topic(), quick_group(kafka), start_producer(kafka)
    member = joined(kafka, group, topic, 1)
    unknown = member.metadata.replace(member.member_id.encode(), b"x" * len(member.member_id))
    never_joined = reader(kafka, options={**GROUP_OPTIONS, "group.id": group}).consumer_group_metadata()
    assert membership(never_joined)[0] == -1
    assert membership(never_joined)[1]
    for metadata in (unknown, never_joined):
        assert _code_of_sending(producer, metadata, topic) == KafkaError.UNKNOWN_MEMBER_ID
    left = member.metadata
    member.consumer.close()
    assert _code_of_sending(producer, left, topic) == KafkaError.UNKNOWN_MEMBER_ID


def metadata_without_a_member_is_not_checked(kafka: KafkaUnderTest) -> None:
    """Of a consumer of the older protocol that has not joined: it is accepted even beside a living member."""
    topic, group, producer = kafka.new_topic(), quick_group(kafka), start_producer(kafka)
    member = joined(kafka, group, topic, 1)
    empty = reader(kafka, options={"group.id": group}).consumer_group_metadata()
    assert membership(empty) == (-1, "")
    _send(producer, empty, topic, 3)
    assert _stored(member.consumer, topic) == 3


def a_group_that_is_not_there_takes_positions_of_those_without_an_epoch_only(kafka: KafkaUnderTest) -> None:
    """So one that never joined founds it, whether its metadata has an id or none."""
    topic, producer = kafka.new_topic(), start_producer(kafka)
    for options in ({}, GROUP_OPTIONS):
        consumer = reader(kafka, options=options)
        metadata = consumer.consumer_group_metadata()
        refusal = _code_of_sending(producer, with_epoch(metadata, 1), topic)
        assert refusal == KafkaError.ILLEGAL_GENERATION
        _send(producer, metadata, topic, 3)
        assert _stored(consumer, topic) == 3


def positions_survive_the_members(kafka: KafkaUnderTest) -> None:
    """Whoever joins later finds them; so does a reader of the same group id."""
    topic, group, producer = kafka.new_topic(), quick_group(kafka), start_producer(kafka)
    member = joined(kafka, group, topic, 1)
    _send(producer, member.metadata, topic, 3)
    member.consumer.close()
    assert _stored(reader(kafka, options={"group.id": group}), topic) == 3
    assert _stored(joined(kafka, group, topic, 1).consumer, topic) == 3


def positions_of_one_open_transaction_keep_nobody_else_from_an_answer(kafka: KafkaUnderTest) -> None:
    """Of several tasks that ask at once, the one whose positions are unstable is told so, and the others theirs."""
    topic, producer, name = kafka.new_topic(3), start_producer(kafka), kafka.new_name("group")
    member = reader(kafka, options={"group.id": name})
    group = GroupPositions(kafka.clients, {**kafka.options, "group.id": name, **COMMITTED}, TopicPartition(topic, 2))
    partitions = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    producer.begin_transaction()
    producer.send_offsets_to_transaction([at(topic, 5)], member.consumer_group_metadata(), CALL_S)
    asked = [group.ask([partition]) for partition in partitions]
    assert [answer(kafka, one) for one in asked] == [None, {partitions[1]: None}]
    producer.commit_transaction(CALL_S)
    kafka.until(lambda: answer(kafka, group.ask(partitions)) == {partitions[0]: 5, partitions[1]: None})
    group.close()
