"""The group's member: which calls librdkafka gets, in which order, and what an error of one partition means."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from placet.streams.errors import FatalError, TaskMigrated
from placet.streams.kafka.consumer import GroupConsumer
from placet.streams.records import TopicPartition as Partition
from tests.staged import StagedHost

A, B = Partition("signals", 0), Partition("proposals", 0)


@pytest.fixture
def client() -> MagicMock:
    made = MagicMock()
    made.consumer_group_metadata.return_value = b""
    return made


@pytest.fixture
def member(client: MagicMock) -> GroupConsumer:
    member = GroupConsumer(StagedHost(client=client), {}, ["signals", "proposals"])
    assign(member, client)
    return member


def listed(*partitions: Partition) -> list[TopicPartition]:
    return [TopicPartition(*partition) for partition in partitions]


def assign(member: GroupConsumer, client: MagicMock) -> None:
    member._on_assign(client, listed(A, B))
    client.reset_mock()


def calls(client: MagicMock) -> list[tuple[str, list[tuple[str, int, int]]]]:
    """What was called with which partitions and offsets, calls without any left out."""
    found = []
    for name, arguments, _ in client.mock_calls:
        given = arguments[0] if isinstance(arguments[0], list) else [arguments[0]]
        if given:
            found.append((name, [(part.topic, part.partition, part.offset) for part in given]))
    return found


def test_nothing_is_given_to_the_client_before_its_position_is_known(client: MagicMock) -> None:
    member = GroupConsumer(StagedHost(client=client), {}, ["signals", "proposals"])
    member._on_assign(client, listed(A, B))
    client.incremental_assign.assert_called_once_with([])
    assert member.assigned == {A, B}

    client.reset_mock()
    member.start({A: 5, B: 7})
    assert calls(client) == [("incremental_assign", [(*A, 5), (*B, 7)])]


def test_a_partition_that_flows_is_sought_in_and_not_resumed(member: GroupConsumer, client: MagicMock) -> None:
    """It would drop what was fetched since the seek, without going back."""
    member.start({A: 5, B: 7})
    client.reset_mock()
    member.start({A: 5})
    assert calls(client) == [("seek", [(*A, 5)])]


def test_a_paused_partition_is_resumed_after_the_seek(member: GroupConsumer, client: MagicMock) -> None:
    member.start({A: 5, B: 7})
    member.pause([A])
    client.reset_mock()
    member.start({A: 5})
    assert [name for name, _ in calls(client)] == ["seek", "resume"]


def test_a_partition_that_was_paused_when_it_went_is_resumed_before_it_is_given_again(
    member: GroupConsumer, client: MagicMock
) -> None:
    """The client keeps the pause; resumed afterwards, what was fetched meanwhile would be dropped."""
    member.start({A: 5, B: 7})
    member.pause([A, B])
    member._on_revoke(client, listed(A, B))
    assert member.take_revoked() == {A, B}
    assign(member, client)
    member.start({A: 9, B: 9})
    assert [name for name, _ in calls(client)] == ["resume", "incremental_assign"]
    client.reset_mock()
    member.start({A: 9})
    assert [name for name, _ in calls(client)] == ["seek"]


def test_what_was_never_given_is_not_taken_back(member: GroupConsumer, client: MagicMock) -> None:
    member.start({A: 5})
    member._on_revoke(client, listed(A, B))
    client.incremental_unassign.assert_called_once_with(listed(A))


class Told:
    """A message that tells of an error of a partition."""

    def __init__(self, code: int, partition: Partition = A) -> None:
        self._error = KafkaError(code)
        self._partition = partition

    def error(self) -> KafkaError:
        return self._error

    def topic(self) -> str:
        return self._partition.topic

    def partition(self) -> int:
        return self._partition.partition


def poll(member: GroupConsumer, client: MagicMock, *told: Told) -> list[Any]:
    client.poll.return_value = told[0]
    client.consume.side_effect = [cast("Any", list(told[1:])), []]
    return member.poll_batch(10, 0)


@pytest.mark.parametrize("code", [KafkaError._AUTO_OFFSET_RESET, KafkaError.TOPIC_AUTHORIZATION_FAILED])
def test_an_error_of_a_partition_that_does_not_flow_means_nothing(
    member: GroupConsumer, client: MagicMock, code: int
) -> None:
    assert poll(member, client, Told(code)) == []
    assert member.take_out_of_range() == []


def test_a_flowing_partition_out_of_range_is_noted_and_the_others_go_on(
    member: GroupConsumer, client: MagicMock
) -> None:
    member.start({A: 5, B: 7})
    assert poll(member, client, Told(KafkaError._AUTO_OFFSET_RESET)) == []
    assert member.take_out_of_range() == [A]
    assert member.take_out_of_range() == []


def test_rights_that_are_missing_while_a_partition_flows_end_the_gate(member: GroupConsumer, client: MagicMock) -> None:
    member.start({A: 5})
    with pytest.raises(FatalError, match="grant READ"):
        poll(member, client, Told(KafkaError.TOPIC_AUTHORIZATION_FAILED))


@pytest.mark.parametrize(
    ("held", "why"),
    [
        ((8, 20), "signals: offsets 5 to 7 were removed before they were decided"),
        ((0, 3), "signals: the position is 5, its end is 3: was it cut, or made anew?"),
        ((0, 20), ""),
    ],
)
def test_why_a_position_can_not_be_read_is_asked_of_the_leader(
    member: GroupConsumer, client: MagicMock, held: tuple[int, int], why: str
) -> None:
    member.start({A: 5})
    client.reset_mock()
    client.get_watermark_offsets.return_value = held
    assert member.why_unreadable(A, 5) == why
    assert client.seek.called == (not why)


def test_a_partition_that_was_out_of_range_is_given_anew_for_it_can_not_be_sought_in(
    member: GroupConsumer, client: MagicMock
) -> None:
    member.start({A: 5, B: 7})
    poll(member, client, Told(KafkaError._AUTO_OFFSET_RESET))
    client.reset_mock()
    client.get_watermark_offsets.return_value = (0, 20)
    assert member.why_unreadable(A, 5) == ""
    assert calls(client)[1:] == [("incremental_unassign", [(*A, -1001)]), ("incremental_assign", [(*A, 5)])]
    client.reset_mock()
    member.start({A: 5, B: 7})
    assert [name for name, _ in calls(client)] == ["seek", "seek"]


def test_a_partition_that_went_out_of_range_while_it_was_paused_is_given_anew_too(
    member: GroupConsumer, client: MagicMock
) -> None:
    member.start({A: 5, B: 7})
    member.pause([A])
    poll(member, client, Told(KafkaError._AUTO_OFFSET_RESET))
    assert member.take_out_of_range() == []
    client.reset_mock()
    member.start({A: 9})
    assert [name for name, _ in calls(client)] == ["incremental_unassign", "resume", "incremental_assign"]


def test_a_partition_that_can_not_be_given_back_is_not_ours_any_more(member: GroupConsumer, client: MagicMock) -> None:
    member.start({A: 5})
    poll(member, client, Told(KafkaError._AUTO_OFFSET_RESET))
    client.incremental_unassign.side_effect = KafkaException(KafkaError(KafkaError._INVALID_ARG))
    with pytest.raises(TaskMigrated, match="can't give back"):
        member.start({A: 5})


def test_a_bug_in_a_poll_is_no_news_of_the_group(member: GroupConsumer, client: MagicMock) -> None:
    client.poll.side_effect = SystemError("returned a result with an exception set")
    with pytest.raises(SystemError):
        member.poll_batch(10, 0)
