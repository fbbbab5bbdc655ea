"""The admin client: offsets, topics, settings, groups, and what it says of what is not there."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import IsolationLevel, KafkaError, TopicCollection
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but without __all__
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from placet.streams.kafka.clients import AdminCalls
from tests.contract.kafka.calls import CALL_S, EARLIEST, answer, code_of, end, ends_at, reader, start_producer, write
from tests.contract.kafka.members import quick_group
from tests.contract.kafka.under_test import KafkaUnderTest

_ABSENT = "no-such-topic"


def _admin(kafka: KafkaUnderTest) -> AdminCalls:
    return kafka.clients.admin(kafka.options)


def _description(kafka: KafkaUnderTest, admin: AdminCalls, topic: str) -> Any:
    return answer(kafka, admin.describe_topics(TopicCollection([topic]), request_timeout=CALL_S)[topic])


def _settings(kafka: KafkaUnderTest, admin: AdminCalls, kind: ResourceType, name: str) -> dict[str, str | None]:
    resource = ConfigResource(kind, name)
    found = answer(kafka, admin.describe_configs([resource], request_timeout=CALL_S)[resource])
    return {key: entry.value for key, entry in found.items()}


def _created(admin: AdminCalls, topic: NewTopic) -> Future[Any]:
    return admin.create_topics([topic], operation_timeout=CALL_S, request_timeout=CALL_S)[topic.topic]


def _set(kafka: KafkaUnderTest, admin: AdminCalls, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    answer(kafka, admin.incremental_alter_configs([resource], request_timeout=CALL_S)[resource])


def first_and_last_offsets_are_the_leaders(kafka: KafkaUnderTest) -> None:
    """An empty log begins and ends at 0. Deleted records move the first offset, and not the last."""
    topic = kafka.new_topic(2)
    assert (end(kafka, topic, spec=EARLIEST), end(kafka, topic)) == (0, 0)
    write(start_producer(kafka), topic, b"a", b"b")
    assert ends_at(kafka, topic, 3)
    kafka.delete_records(topic, 0, 1)
    assert (end(kafka, topic, spec=EARLIEST), end(kafka, topic)) == (1, 3)
    assert end(kafka, topic, 1) == 0


def offsets_of_what_is_not_there_are_refused(kafka: KafkaUnderTest) -> None:
    """By `_NOENT`: the client finds no leader to ask. A consumer says `_UNKNOWN_PARTITION`, or knows nothing."""
    topic = kafka.new_topic()
    assert code_of(lambda: end(kafka, topic, 7)) == KafkaError._NOENT
    assert code_of(lambda: end(kafka, _ABSENT)) == KafkaError._NOENT
    consumer = reader(kafka, topic)
    for absent in (ClientPartition(topic, 7), ClientPartition(_ABSENT, 0)):
        assert code_of(consumer.get_watermark_offsets, absent, CALL_S) == KafkaError._UNKNOWN_PARTITION
        assert consumer.get_watermark_offsets(absent, cached=True) == (-1001, -1001)


def a_topic_is_described_with_its_id_and_partitions(kafka: KafkaUnderTest) -> None:
    """Each partition with leader and replicas; an unknown topic by UNKNOWN_TOPIC_OR_PART."""
    topic, admin = kafka.new_topic(3), _admin(kafka)
    found = _description(kafka, admin, topic)
    assert (found.name, found.is_internal, len(str(found.topic_id))) == (topic, False, 22)
    assert [partition.id for partition in found.partitions] == [0, 1, 2]
    for partition in found.partitions:
        assert [node.id for node in partition.replicas] == [partition.leader.id]
        assert [node.id for node in partition.isr] == [partition.leader.id]
    assert str(_description(kafka, _admin(kafka), topic).topic_id) == str(found.topic_id)
    assert code_of(_description, kafka, admin, _ABSENT) == KafkaError.UNKNOWN_TOPIC_OR_PART


def a_topic_is_created_once(kafka: KafkaUnderTest) -> None:
    """The second time it is there already. -1 replicas are as many as the broker's default; too many are refused."""
    topic, admin = kafka.new_name("topic"), _admin(kafka)
    new = NewTopic(topic, 2, -1, config={"cleanup.policy": "compact"})
    assert answer(kafka, _created(admin, new)) is None
    kafka.until(lambda: len(_described_or_none(kafka, admin, topic)) == 2)
    assert code_of(answer, kafka, _created(admin, new)) == KafkaError.TOPIC_ALREADY_EXISTS
    too_many = NewTopic(kafka.new_name("topic"), 1, 9)
    assert code_of(answer, kafka, _created(admin, too_many)) == KafkaError.INVALID_REPLICATION_FACTOR
    wrong = NewTopic("a b", 1, 1)
    assert code_of(answer, kafka, _created(admin, wrong)) == KafkaError.TOPIC_EXCEPTION


def _described_or_none(kafka: KafkaUnderTest, admin: AdminCalls, topic: str) -> list[Any]:
    """Return a topic's partitions, none while the broker has not heard of it yet."""
    future = admin.describe_topics(TopicCollection([topic]), request_timeout=CALL_S)[topic]
    assert kafka.clients.wait([future], CALL_S)
    return [] if future.exception() else list(future.result().partitions)


def a_topic_made_anew_has_another_id(kafka: KafkaUnderTest) -> None:
    """And an empty log, under the same name."""
    topic, admin = kafka.new_topic(2), _admin(kafka)
    write(start_producer(kafka), topic, b"a")
    before = str(_description(kafka, admin, topic).topic_id)
    kafka.recreate(topic)
    found = _description(kafka, admin, topic)
    assert str(found.topic_id) != before
    assert len(found.partitions) == 2
    assert ends_at(kafka, topic, 0)


def topics_asked_for_together_are_answered_each_by_itself(kafka: KafkaUnderTest) -> None:
    """In one request: those that are there are described, their settings too, and the others are unknown."""
    topic, admin = kafka.new_topic(2, {"cleanup.policy": "compact"}), _admin(kafka)
    described = admin.describe_topics(TopicCollection([topic, _ABSENT]), request_timeout=CALL_S)
    assert len(answer(kafka, described[topic]).partitions) == 2
    assert code_of(answer, kafka, described[_ABSENT]) == KafkaError.UNKNOWN_TOPIC_OR_PART
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in (topic, _ABSENT)]
    settings = admin.describe_configs(resources, request_timeout=CALL_S)
    assert answer(kafka, settings[resources[0]])["cleanup.policy"].value == "compact"
    assert code_of(answer, kafka, settings[resources[1]]) == KafkaError.UNKNOWN_TOPIC_OR_PART


def to_ask_for_the_settings_of_nothing_is_a_mistake(kafka: KafkaUnderTest) -> None:
    """And not to ask for topics or offsets of none, which are simply none."""
    admin = _admin(kafka)
    with pytest.raises(ValueError, match="non-empty"):
        admin.describe_configs([], request_timeout=CALL_S)
    assert admin.describe_topics(TopicCollection([]), request_timeout=CALL_S) == {}
    assert admin.list_offsets({}, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=CALL_S) == {}


def partitions_that_are_added_are_told_to_a_client_that_knew_fewer(kafka: KafkaUnderTest) -> None:
    """And the id stays."""
    topic, admin = kafka.new_topic(2), _admin(kafka)
    before = _description(kafka, admin, topic)
    assert len(before.partitions) == 2
    kafka.add_partitions(topic, 3)
    kafka.until(lambda: len(_described_or_none(kafka, admin, topic)) == 3)
    assert str(_description(kafka, admin, topic).topic_id) == str(before.topic_id)


def a_topic_that_is_deleted_is_unknown_to_a_client_that_knew_it(kafka: KafkaUnderTest) -> None:
    """To one question after the other, and so are its settings."""
    topic, admin = kafka.new_topic(), _admin(kafka)
    write(start_producer(kafka), topic, b"a")
    assert ends_at(kafka, topic, 2)
    assert len(_described_or_none(kafka, admin, topic)) == 1
    kafka.delete(topic)
    kafka.until(lambda: not _described_or_none(kafka, admin, topic))
    assert code_of(_description, kafka, admin, topic) == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert code_of(_settings, kafka, admin, ResourceType.TOPIC, topic) == KafkaError.UNKNOWN_TOPIC_OR_PART


def a_topic_has_settings_its_own_and_the_brokers(kafka: KafkaUnderTest) -> None:
    """One that is changed keeps the others. Of an unknown topic: UNKNOWN_TOPIC_OR_PART; an unknown one is refused."""
    topic, admin = kafka.new_topic(configs={"cleanup.policy": "compact"}), _admin(kafka)
    found = _settings(kafka, admin, ResourceType.TOPIC, topic)
    assert (found["cleanup.policy"], found["message.timestamp.type"]) == ("compact", "CreateTime")
    assert {"retention.ms", "min.compaction.lag.ms", "max.message.bytes", "min.insync.replicas"} <= found.keys()
    _set(kafka, admin, topic, "retention.ms", "1234567")
    kafka.until(lambda: _settings(kafka, admin, ResourceType.TOPIC, topic)["retention.ms"] == "1234567")
    assert _settings(kafka, admin, ResourceType.TOPIC, topic)["cleanup.policy"] == "compact"
    assert code_of(_settings, kafka, admin, ResourceType.TOPIC, _ABSENT) == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert code_of(_set, kafka, admin, topic, "no.such.setting", "1") == KafkaError.INVALID_CONFIG


def a_group_has_settings_before_it_has_members(kafka: KafkaUnderTest) -> None:
    """The broker's default, until it is changed for this group."""
    admin = _admin(kafka)
    found = _settings(kafka, admin, ResourceType.GROUP, kafka.new_name("group"))
    assert int(found["consumer.session.timeout.ms"] or 0) > 0
    quick = quick_group(kafka, 1_500)
    kafka.until(lambda: _settings(kafka, admin, ResourceType.GROUP, quick)["consumer.session.timeout.ms"] == "1500")


def a_cluster_is_described_by_its_id_and_brokers(kafka: KafkaUnderTest) -> None:
    """The same for every client; a broker's settings are asked for by its number."""
    admin = _admin(kafka)
    cluster = answer(kafka, admin.describe_cluster(request_timeout=CALL_S))
    assert len(cluster.cluster_id) == 22
    assert {f"{node.host}:{node.port}" for node in cluster.nodes} == {kafka.options["bootstrap.servers"]}
    (node,) = cluster.nodes
    found = _settings(kafka, admin, ResourceType.BROKER, str(node.id))
    assert int(found["transaction.max.timeout.ms"] or 0) == 900_000
    assert reader(kafka).list_topics(_ABSENT, CALL_S).cluster_id == cluster.cluster_id


def metadata_names_leaders_and_what_is_not_there(kafka: KafkaUnderTest) -> None:
    """From a consumer and an admin client alike; a topic that is not there is listed, with an error."""
    topic = kafka.new_topic(2)
    for client in (reader(kafka), _admin(kafka)):
        found = client.list_topics(topic, CALL_S).topics
        assert (found.keys(), found[topic].error) == ({topic}, None)
        partitions = found[topic].partitions
        assert [(number, partitions[number].error) for number in sorted(partitions)] == [(0, None), (1, None)]
        assert all(partition.leader in partition.replicas for partition in partitions.values())
        absent = client.list_topics(_ABSENT, CALL_S).topics[_ABSENT]
        assert (absent.partitions, absent.error.code()) == ({}, KafkaError.UNKNOWN_TOPIC_OR_PART)


def an_admin_client_that_ended_takes_no_calls(kafka: KafkaUnderTest) -> None:
    """A RuntimeError, and none of Kafka's."""
    admin = _admin(kafka)
    assert admin.poll(0) == 0
    admin.__exit__(None, None, None)
    try:
        admin.list_topics(_ABSENT, CALL_S)
    except RuntimeError:
        return
    raise AssertionError("the call was not refused")
