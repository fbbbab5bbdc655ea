"""Three brokers, and one of them goes: killed, or silent without a word. Everybody else goes on after the election."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from placet.streams.errors import LogUnreachable
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from placet.streams.records import TopicPartition
from tests.cluster import Cluster
from tests.integration.gates import wait_until
from tests.integration.outage import PARTITIONS, WAYS, Outage

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

SESSION_S = 3.0
"""Of the brokers: after it the controller elects new leaders."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(session_timeout_ms=int(SESSION_S * 1000)) as running:
        yield running


@pytest.fixture
def outage(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Outage]:
    with Outage(cluster, tmp_path, f"away-{request.node.callspec.id}") as made:
        yield made


def ends(cluster: Cluster, outage: Outage) -> dict[TopicPartition, int]:
    """How far the decisions of each partition have come; nothing while a leader is elected."""
    partitions = [TopicPartition(outage.world.topics.decisions, number) for number in range(PARTITIONS)]
    options = {"bootstrap.servers": cluster.bootstrap_servers}
    with suppress(LogUnreachable), Admin(LocalHost(), options, timeout_s=2) as admin:
        admin.connect()  # one of ten new clients loses what it is asked before, and asks again after the two seconds
        return admin.latest_offsets(partitions)
    return {}


@pytest.mark.parametrize(
    ("way", "node", "starts"),
    [
        ("killed", 2, False),
        ("silent", 3, False),
        pytest.param("killed", 1, True, marks=pytest.mark.long),
        pytest.param("silent", 2, True, marks=pytest.mark.long),
    ],
)
def test_a_broker_that_is_away_keeps_no_partition_waiting_and_no_gate_from_starting(
    cluster: Cluster, outage: Outage, way: str, node: int, starts: bool
) -> None:
    go, come_back = WAYS[way]
    # On busy cores a heartbeat can come after the session, and its broker is out for a moment before any is stopped.
    wait_until(outage.whole, 60, "the cluster is whole")
    before = wait_until(lambda: ends(cluster, outage), 60, "the ends of all partitions are told")
    assert len(before) == PARTITIONS
    go(cluster.brokers[node])
    try:
        third = outage.world.gate("c") if starts else None

        def all_move() -> bool:
            now = ends(cluster, outage)
            return all(now.get(partition, 0) > end + 50 for partition, end in before.items())

        wait_until(all_move, 60, "each partition decides while the broker is away")
        if third:
            wait_until(lambda: third.events("restored"), 60, "a gate starts meanwhile")
    finally:
        come_back(cluster.brokers[node])
    wait_until(outage.whole, 60, "the cluster is whole again")
    outage.check()


def test_a_record_that_a_silent_follower_does_not_have_yet_is_not_named_as_the_newest(cluster: Cluster) -> None:
    """It lies on the leader's log, with its time, and nobody can read it: so the partition is not idle."""
    options = {"bootstrap.servers": cluster.bootstrap_servers}
    host, at = LocalHost(), TopicPartition("unreplicated", 0)
    producer = host.producer({**options, "acks": "1", "linger.ms": 0})

    def append(count: int) -> None:
        producer.produce(at.topic, b"record", None, at.partition, None)
        assert producer.flush(20) == 0
        wait_until(lambda: admin.ask_ends([at])[at].result(20) >= count, 20, "it is replicated")

    with Admin(host, options) as admin:
        admin.create_topic(at.topic, 1, replication_factor=3, configs={"message.timestamp.type": "LogAppendTime"})
        append(1)
        assert admin.ask_newest([at])[at].result(20) == 0
        leader = admin._client.list_topics(at.topic, 20).topics[at.topic].partitions[0].leader
        follower = cluster.brokers[leader % 3 + 1]
        follower.pause()
        try:
            producer.produce(at.topic, b"unreplicated", None, at.partition, None)
            assert producer.flush(20) == 0
            assert admin.ask_newest([at])[at].result(20) == -1
            assert admin.ask_ends([at])[at].result(20) == 1
        finally:
            follower.resume()
        wait_until(lambda: admin.ask_newest([at])[at].result(20) == 1, 30, "the follower has it")
        assert admin.ask_ends([at])[at].result(20) == 2
