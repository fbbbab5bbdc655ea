"""Answers of leaders: an offset, or what is the matter."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from placet.schemas.errors import SettingsError
from placet.simulation.brokers.cluster import SimulatedCluster
from placet.simulation.choices import Choices
from placet.simulation.disk import SimulatedDisk
from placet.simulation.host import SimulatedHost
from placet.simulation.scheduler import Process, Scheduler
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from placet.streams.kafka.admin_errors import BrokerUnreachable, UnknownTopic
from placet.streams.kafka.clients import AdminCalls
from placet.streams.kafka.questions import Insisting, _handed_on, _offset_of, ask_configs, ask_topics
from placet.streams.publishing import ELECTION_S
from placet.streams.records import TopicPartition
from tests.staged import StagedHost


def handed_on(result: int | Exception) -> Future[int]:
    found: Future[Any] = Future()
    if isinstance(result, int):
        found.set_result(SimpleNamespace(offset=result))
    else:
        found.set_exception(result)
    return _handed_on(found, _offset_of, "list offsets")


@pytest.mark.parametrize("offset", [0, 7])
def test_an_offset_is_an_answer(offset: int) -> None:
    assert handed_on(offset).result() == offset


def test_no_offset_amid_an_election_is_no_answer() -> None:
    """Taken for one, it would make every store look as if it were ahead of the log, and be set aside."""
    with pytest.raises(BrokerUnreachable, match="gave no offset"):
        handed_on(-1001).result()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (KafkaError._TIMED_OUT, BrokerUnreachable),
        (KafkaError.NOT_LEADER_FOR_PARTITION, BrokerUnreachable),
        (KafkaError.KAFKA_STORAGE_ERROR, BrokerUnreachable),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, SettingsError),
    ],
)
def test_an_error_is_handed_on_as_what_it_means(code: int, told: type[Exception]) -> None:
    with pytest.raises(told):
        handed_on(KafkaException(KafkaError(code))).result()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (KafkaError._TIMED_OUT, BrokerUnreachable),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, UnknownTopic),  # or not known to this broker yet
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, SettingsError),
    ],
)
def test_topics_are_asked_for_without_waiting(code: int, told: type[Exception]) -> None:
    client, known, unknown = MagicMock(), Future[Any](), Future[Any]()
    client.describe_topics.return_value = {"known": known, "unknown": unknown}
    answers = ask_topics(client, ["known", "unknown"], 1.0)
    assert not any(answer.done() for answer in answers.values())
    known.set_result(SimpleNamespace(topic_id="an id", partitions=[]))
    unknown.set_exception(KafkaException(KafkaError(code)))
    assert answers["known"].result().topic_id == "an id"
    with pytest.raises(told):
        answers["unknown"].result()


@pytest.mark.parametrize(
    ("code", "told"),
    [(KafkaError._TIMED_OUT, BrokerUnreachable), (KafkaError.UNKNOWN_TOPIC_OR_PART, UnknownTopic)],
)
def test_settings_of_topics_are_asked_for_without_waiting(code: int, told: type[Exception]) -> None:
    client, futures = MagicMock(), [Future[Any](), Future[Any]()]
    client.describe_configs.side_effect = lambda asked, **_: dict(zip(asked, futures, strict=True))
    answers = ask_configs(client, ["known", "unknown"], 1.0)
    assert not any(answer.done() for answer in answers.values())
    futures[0].set_result({"cleanup.policy": SimpleNamespace(value="compact"), "secret": SimpleNamespace(value=None)})
    futures[1].set_exception(KafkaException(KafkaError(code)))
    assert answers["known"].result() == {"cleanup.policy": "compact"}
    with pytest.raises(told):
        answers["unknown"].result()


@pytest.mark.parametrize("asked", [KafkaException(KafkaError(KafkaError._TRANSPORT)), Future()])
def test_a_connection_that_is_tried_in_vain_is_no_failure(asked: Exception | Future[Any]) -> None:
    """What is asked for afterwards says it, with a limit of its own."""
    client = MagicMock()
    client.describe_cluster.side_effect = [asked]
    Admin(StagedHost(client=client), {"bootstrap.servers": "nowhere:1"}, timeout_s=0.05).connect()
    client.describe_cluster.assert_called_once()


class _Overheard(LocalHost):
    """Listens to what librdkafka says of its questions for metadata."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def admin(self, options: Mapping[str, Any], /) -> AdminCalls:
        return super().admin({**options, "debug": "metadata", "logger": self})

    def log(self, _level: int, line: str, *arguments: object) -> None:
        self.said.append(line % arguments)


def test_no_offsets_are_asked_for_while_a_leader_is_unknown_but_for_the_first_time() -> None:
    """librdkafka 2.16 crashes where a leader becomes known while it still notes the question down."""
    topics, host = ["one", "two", "three"], _Overheard()
    with Producer({"bootstrap.servers": "none:1", "test.mock.num.brokers": 1, "log_level": 0}) as mock:
        broker = [mock.list_topics(topic, 10) for topic in topics][-1].brokers[1]
        with Admin(host, {"bootstrap.servers": f"{broker.host}:{broker.port}"}, timeout_s=2.0) as admin:

            def looked_for() -> list[str]:
                admin._client.poll(0)
                return [line for line in host.said if "query partition leaders" in line]

            admin.connect(topics)
            first = looked_for()
            for _ in range(6):
                asked = [admin.ask_ends([TopicPartition(topic, 0)]) for topic in topics]
                assert [answer.result(5) for answers in asked for answer in answers.values()] == [0, 0, 0]
                time.sleep(0.35)  # in all, for longer than librdkafka goes without looking them up
            assert first
            assert looked_for() == first


class Leaders:
    """Leaders of partitions, who answer when a test has them answer."""

    def __init__(self) -> None:
        self.asked: list[dict[TopicPartition, Future[int]]] = []
        self.now_s = 0.0
        self.insisting = Insisting(lambda: self.now_s)

    def ask(self, partitions: list[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        self.asked.append({partition: Future() for partition in partitions})
        return self.asked[-1]

    def later(self, seconds: float) -> None:
        self.now_s += seconds
        self.insisting.again()


A, B = TopicPartition("topic", 0), TopicPartition("topic", 1)


def test_a_leader_that_does_not_answer_is_asked_again_and_the_first_answer_counts() -> None:
    leaders = Leaders()
    answers = leaders.insisting.ask(leaders.ask, [A, B])
    leaders.asked[0][A].set_result(7)
    leaders.later(0.6)
    assert [set(each) for each in leaders.asked] == [{A, B}, {B}], "only for what nobody answered"
    leaders.asked[1][B].set_result(8)
    leaders.asked[0][B].set_result(9)  # the slow one, at last
    leaders.later(10.0)
    assert ({partition: answer.result(0) for partition, answer in answers.items()}, len(leaders.asked)) == (
        {A: 7, B: 8}, 2,
    )  # fmt: skip


def test_a_leader_that_is_only_slow_answers_the_first_question() -> None:
    leaders = Leaders()
    answers = leaders.insisting.ask(leaders.ask, [A])
    for _ in range(5):
        leaders.later(0.6)
    leaders.asked[0][A].set_result(7)
    assert answers[A].result(0) == 7


def test_one_that_was_just_elected_and_refuses_is_asked_again_soon_and_not_at_once() -> None:
    leaders = Leaders()
    answers = leaders.insisting.ask(leaders.ask, [A])
    leaders.asked[0][A].set_exception(BrokerUnreachable("its leader gave no offset"))
    leaders.later(0.1)
    assert len(leaders.asked) == 1
    leaders.later(0.15)
    leaders.asked[1][A].set_result(7)
    assert answers[A].result(0) == 7


def test_an_answer_that_never_comes_is_told_in_the_end_and_what_nobody_may_ask_at_once() -> None:
    leaders = Leaders()
    answers = leaders.insisting.ask(leaders.ask, [A, B])
    leaders.asked[0][A].set_exception(SettingsError("not allowed"))
    with pytest.raises(SettingsError):
        answers[A].result(0)
    leaders.later(3.0)
    assert not answers[B].done()
    leaders.later(1.1)
    with pytest.raises(BrokerUnreachable, match="does not answer"):
        answers[B].result(0)
    asked = len(leaders.asked)
    leaders.later(5.0)
    assert len(leaders.asked) == asked


def test_a_leader_that_does_not_answer_is_named_where_others_do() -> None:
    """Which broker to look at: a start waits for it for 20 s, and ends."""
    scheduler = Scheduler(Choices(1))
    cluster = SimulatedCluster(scheduler)
    cluster.create_topic("topic", 1, {})
    cluster.election_ns = 10**12
    process, told = Process("start"), list[str]()
    host = SimulatedHost(scheduler, process, SimulatedDisk(scheduler.choices), 0, cluster)
    leader = cluster.leader_of(("topic", 0))

    def ask() -> None:
        with Admin(host, {"bootstrap.servers": "somewhere:1"}, ELECTION_S) as admin:
            with pytest.raises(BrokerUnreachable) as caught:
                admin.latest_offsets([A])
            told.append(str(caught.value))

    cluster.freeze(leader)
    scheduler.spawn(process, "asks", ask)
    scheduler.run(lambda: bool(told), 60)
    assert told[0].startswith(f"topic-0: the leader, broker {leader} (")
    assert "does not answer; others do. Asked for 20 s" in told[0]
    scheduler.close()
