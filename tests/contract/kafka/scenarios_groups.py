"""Groups of the protocol of KIP-848: who is given which partitions, when it is told, and who is refused."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError

from placet.streams.kafka.membership import membership, names_a_member
from tests.contract.kafka.calls import CALL_S, answer, code_of, refused, start_producer, write
from tests.contract.kafka.calls import at as position_in
from tests.contract.kafka.members import Member, all_polled_until, joined, quick_group
from tests.contract.kafka.under_test import KafkaUnderTest


def _described(kafka: KafkaUnderTest, group: str) -> Any:
    return answer(kafka, kafka.admin.describe_consumer_groups([group], request_timeout=CALL_S)[group])


def a_single_member_gets_all_partitions(kafka: KafkaUnderTest) -> None:
    """Told in a poll. Before, its metadata names an id and no epoch; afterwards the broker would check it."""
    topic, group = kafka.new_topic(3), quick_group(kafka)
    member = Member(kafka, group, topic)
    assert (member.epoch <= 0, member.told) == (True, [])
    all_polled_until(kafka, [member], lambda: member.owned)
    assert member.told == [("assigned", [0, 1, 2])]
    assert member.epoch > 0
    assert names_a_member(member.metadata)
    assert member.errors == []


def two_members_share_by_range_and_one_gives_before_the_other_gets(kafka: KafkaUnderTest) -> None:
    """The member with the smaller id has the first ones. What one loses, the other gets after it was given back."""
    topic, group = kafka.new_topic(3), quick_group(kafka)
    one = joined(kafka, group, topic, 3)
    before = one.epoch
    other = Member(kafka, group, topic)

    def all_settled() -> bool:
        assert not one.owned & other.owned, "a partition has two owners"
        return len(one.owned | other.owned) == 3 and bool(other.owned) and one.epoch == other.epoch

    all_polled_until(kafka, [one, other], all_settled)
    first, second = sorted((one, other), key=lambda member: member.member_id)
    assert (first.owned, second.owned) == ({0, 1}, {2})
    assert one.told == [("assigned", [0, 1, 2]), ("revoked", sorted(other.owned))]
    assert other.told == [("assigned", sorted(other.owned))]
    assert one.epoch > before


def a_member_that_does_not_poll_keeps_its_partitions(kafka: KafkaUnderTest) -> None:
    """Callbacks come only in polls: until then the other one waits, and gets nothing."""
    topic, group = kafka.new_topic(2), quick_group(kafka)
    one = joined(kafka, group, topic, 2)
    other = Member(kafka, group, topic)
    until_s = kafka.clients.monotonic_s() + 2
    all_polled_until(kafka, [other], lambda: kafka.clients.monotonic_s() > until_s)
    assert (one.owned, other.owned) == ({0, 1}, set())
    assert other.epoch > 0
    all_polled_until(kafka, [one, other], lambda: one.owned and other.owned)
    assert one.told[-1] == ("revoked", sorted(other.owned))


def a_member_that_closes_gives_its_partitions_to_the_other(kafka: KafkaUnderTest) -> None:
    """`close` calls its `on_revoke`, and the other one need not wait for a session to end."""
    topic, group = kafka.new_topic(2), quick_group(kafka)
    one, other = Member(kafka, group, topic), Member(kafka, group, topic)
    all_polled_until(kafka, [one, other], lambda: one.owned and other.owned)
    given, epoch = sorted(one.owned), other.epoch
    one.consumer.close()
    assert one.told[-1] == ("revoked", given)
    all_polled_until(kafka, [other], lambda: other.owned == {0, 1} and other.epoch > epoch)
    assert other.told[-1] == ("assigned", given)
    other.consumer.close()
    assert other.owned == set()


def a_member_reads_what_it_started_until_it_is_revoked(kafka: KafkaUnderTest) -> None:
    """Acknowledged without a position, a partition gives nothing; then it is given with one, as the gate does it."""
    topic, group, producer = kafka.new_topic(2), quick_group(kafka), start_producer(kafka)
    for partition in (0, 1):
        write(producer, topic, b"a", b"b", partition=partition)
    one = joined(kafka, group, topic, 2)
    assert one.records == []
    one.start({0: 1, 1: 0})
    all_polled_until(kafka, [one], lambda: len(one.records) == 3)
    assert sorted((record.partition(), record.offset()) for record in one.records) == [(0, 1), (1, 0), (1, 1)]
    other = Member(kafka, group, topic)
    all_polled_until(kafka, [one, other], lambda: one.owned and other.owned)
    for partition in (0, 1):
        write(producer, topic, b"c", partition=partition)
    all_polled_until(kafka, [one, other], lambda: len(one.records) == 4)
    assert {one.records[-1].partition()} == one.owned
    assert code_of(one.consumer.seek, position_in(topic, 0, *other.owned)) == KafkaError._STATE


def a_member_that_polls_too_late_is_out_and_may_join_again(kafka: KafkaUnderTest) -> None:
    """It falls silent, and is out when its session is over. Its next polls tell it, and it joins anew."""
    topic, group, producer = kafka.new_topic(), quick_group(kafka, 1_500), start_producer(kafka)
    late = joined(kafka, group, topic, 1, max_poll_interval_ms=1_500)
    kafka.until(lambda: not _described(kafka, group).members)
    old = late.metadata
    assert late.owned == {0}
    producer.begin_transaction()
    error = refused(producer.send_offsets_to_transaction, [position_in(topic, 1)], old, CALL_S)
    assert (error.code(), error.txn_requires_abort()) == (KafkaError.UNKNOWN_MEMBER_ID, True)
    all_polled_until(kafka, [late], lambda: late.told[-1][0] == "assigned" and len(late.told) == 3)
    assert late.told == [("assigned", [0]), ("lost", [0]), ("assigned", [0])]
    assert [(error.code(), error.fatal()) for error in late.errors] == [(KafkaError._MAX_POLL_EXCEEDED, False)]


def a_member_that_was_removed_joins_again_once_it_was_told(kafka: KafkaUnderTest) -> None:
    """Its polls tell that all is lost; until then it stays out, and the other one gets everything."""
    topic, group = kafka.new_topic(2), quick_group(kafka)
    removed = joined(kafka, group, topic, 2)
    kafka.remove_member(group, removed.member_id)
    kafka.clients.sleep(1)  # for three heartbeats: it hears of it
    before, other = removed.epoch, Member(kafka, group, topic)
    all_polled_until(kafka, [other], lambda: other.owned == {0, 1})
    assert (removed.told, removed.epoch) == ([("assigned", [0, 1])], before)
    all_polled_until(kafka, [removed], lambda: ("lost", [0, 1]) in removed.told)
    all_polled_until(kafka, [removed, other], lambda: len(removed.owned) == len(other.owned) == 1)
    assert [word for word, _ in removed.told] == ["assigned", "lost", "assigned"]


def a_static_member_comes_back_to_its_partitions(kafka: KafkaUnderTest) -> None:
    """While it is away for less than a session they wait for it, and it stays listed. It returns with a new id."""
    topic, group = kafka.new_topic(2), quick_group(kafka)
    one = Member(kafka, group, topic, group_instance_id="one")
    other = Member(kafka, group, topic, group_instance_id="other")
    all_polled_until(kafka, [one, other], lambda: one.owned and other.owned and one.epoch == other.epoch)
    had, first_id, told = set(one.owned), one.member_id, list(other.told)
    one.consumer.close()
    assert one.told[-1] == ("revoked", sorted(had))
    assert {member.group_instance_id for member in _described(kafka, group).members} == {"one", "other"}
    again = Member(kafka, group, topic, group_instance_id="one")
    all_polled_until(kafka, [again, other], lambda: again.owned)
    assert (again.owned, other.told) == (had, told)
    assert again.member_id != first_id


def a_static_member_that_stays_away_loses_its_partitions(kafka: KafkaUnderTest) -> None:
    """After a session. While it is away its epoch is refused, though its id is known."""
    topic, group, producer = kafka.new_topic(2), quick_group(kafka, 1_500), start_producer(kafka)
    one = Member(kafka, group, topic, group_instance_id="one")
    other = Member(kafka, group, topic, group_instance_id="other")
    all_polled_until(kafka, [one, other], lambda: one.owned and other.owned)
    old = one.metadata
    assert old.endswith(b"one\0")
    one.consumer.close()
    producer.begin_transaction()
    error = refused(producer.send_offsets_to_transaction, [position_in(topic, 1)], old, CALL_S)
    assert (error.code(), error.txn_requires_abort()) == (KafkaError.ILLEGAL_GENERATION, True)
    all_polled_until(kafka, [other], lambda: other.owned == {0, 1})


def a_second_member_of_the_same_instance_is_refused(kafka: KafkaUnderTest) -> None:
    """A poll tells it, by `_FATAL`, which is not flagged as fatal, in words of the instance id. The first one stays."""
    topic, group = kafka.new_topic(), quick_group(kafka)
    first = joined(kafka, group, topic, 1, group_instance_id="one")
    second = Member(kafka, group, topic, group_instance_id="one")
    all_polled_until(kafka, [first, second], lambda: second.errors)
    assert [(error.code(), error.fatal()) for error in second.errors] == [(KafkaError._FATAL, False)]
    assert "instance ID is still used" in str(second.errors[0].str())
    assert second.owned == set()
    second.consumer.close()
    kafka.clients.sleep(1)
    first.poll()
    assert (first.owned, first.told, first.errors) == ({0}, [("assigned", [0])], [])


def a_group_is_described_by_its_members(kafka: KafkaUnderTest) -> None:
    """Each with id, client and partitions; a group without members, or one that never was, has none and no error."""
    topic, group = kafka.new_topic(3), quick_group(kafka)
    assert _described(kafka, group).members == []
    one = Member(kafka, group, topic, client_id="first")
    other = Member(kafka, group, topic, client_id="second", group_instance_id="static")
    all_polled_until(kafka, [one, other], lambda: one.owned and other.owned and one.epoch == other.epoch)
    described = _described(kafka, group)
    assert described.coordinator.id == 1
    members = {member.member_id: member for member in described.members}
    assert members.keys() == {one.member_id, other.member_id}
    for member, client, instance in ((one, "first", None), (other, "second", "static")):
        found = members[member.member_id]
        assert (found.client_id, found.group_instance_id) == (client, instance)
        assert found.host
        assert {at.partition for at in found.assignment.topic_partitions} == member.owned
    one.consumer.close()
    kafka.until(lambda: len(_described(kafka, group).members) == 1)


def an_epoch_grows_with_each_change_of_the_group(kafka: KafkaUnderTest) -> None:
    """And only then: a member that polls alone keeps its own."""
    topic, group = kafka.new_topic(2), quick_group(kafka)
    one = joined(kafka, group, topic, 2)
    first = one.epoch
    kafka.clients.sleep(1)
    one.poll()
    assert membership(one.metadata) == (first, one.member_id)
    other = Member(kafka, group, topic)
    all_polled_until(kafka, [one, other], lambda: other.owned and one.epoch == other.epoch)
    second = one.epoch
    other.consumer.close()
    all_polled_until(kafka, [one], lambda: one.owned == {0, 1} and one.epoch > second)
    assert first < second
