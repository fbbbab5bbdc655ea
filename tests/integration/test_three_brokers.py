"""Three brokers, and one of them goes: killed, or silent without a word. Everybody else goes on after the election."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from placet.streams.admin import Admin
from placet.streams.broker import Broker
from placet.streams.errors import LogUnreachable
from placet.streams.records import TopicPartition
from tests.cluster import Cluster
from tests.integration.gates import wait_until
from tests.integration.outage import PARTITIONS, Outage

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

SESSION_S = 3.0
"""Of the brokers: after it the controller elects new leaders."""
WAYS = {"killed": (Broker.kill, Broker.start), "silent": (Broker.pause, Broker.resume)}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(session_timeout_ms=int(SESSION_S * 1000)) as running:
        yield running


@pytest.fixture
def outage(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Outage]:
    with Outage(cluster, tmp_path, f"away-{request.node.callspec.id}") as made:
        yield made


def whole(cluster: Cluster, outage: Outage) -> bool:
    """Whether each replica is in sync again, those of Kafka's own topics too."""
    topics = [*outage.world.topics, "__consumer_offsets", "__transaction_state"]
    with Admin({"bootstrap.servers": cluster.bootstrap_servers}) as admin:
        return not any(topic.under_replicated for topic in admin.describe_topics(topics).values())


def checked(outage: Outage) -> None:
    """Everything is decided once and verifies, no gate ended or stopped a task, and none shows a traceback."""
    outage.end_load()
    outage.world.decided(90)
    assert "No difference" in outage.world.placet("verify").stdout
    for gate in outage.world.gates:
        assert gate.terminate() == 0
        assert not gate.events("task stopped")
        assert "Traceback" not in gate.text()


def ends(cluster: Cluster, outage: Outage) -> dict[TopicPartition, int]:
    """How far the decisions of each partition have come; nothing while a leader is elected."""
    partitions = [TopicPartition(outage.world.topics.decisions, number) for number in range(PARTITIONS)]
    with suppress(LogUnreachable), Admin({"bootstrap.servers": cluster.bootstrap_servers}, timeout_s=2) as admin:
        return admin.latest_offsets(partitions)
    return {}


@pytest.mark.parametrize(("way", "node"), [("killed", 2), ("silent", 3)])
def test_a_broker_that_is_away_keeps_no_partition_waiting_and_no_gate_from_starting(
    cluster: Cluster, outage: Outage, way: str, node: int
) -> None:
    go, come_back = WAYS[way]
    before = ends(cluster, outage)
    assert len(before) == PARTITIONS
    go(cluster.brokers[node])
    try:
        third = outage.world.gate("c")

        def all_move() -> bool:
            now = ends(cluster, outage)
            return all(now.get(partition, 0) > end + 50 for partition, end in before.items())

        wait_until(all_move, 40, "each partition decides while the broker is away")
        wait_until(lambda: third.events("restored"), 40, f"a gate starts meanwhile: {third.text()[-500:]}")
    finally:
        come_back(cluster.brokers[node])
    wait_until(lambda: whole(cluster, outage), 60, "the cluster is whole again")
    checked(outage)


@pytest.mark.long
@pytest.mark.timeout(1_500)
@pytest.mark.parametrize("away_s", [60.0], ids=["minute"])
def test_an_absence_of_a_minute_costs_each_partition_one_election(
    cluster: Cluster, outage: Outage, away_s: float, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for way, (go, come_back) in WAYS.items():
        for node, broker in cluster.brokers.items():
            gaps = longest_gaps(outage, lambda: go(broker), lambda: come_back(broker), away_s)  # noqa: B023
            wait_until(lambda: whole(cluster, outage), 90, "the cluster is whole again")
            found.append((way, node, *gaps))
    with capsys.disabled():
        print("\nlongest gap of any partition, in seconds: gates, plain copier")
        for way, node, gates_s, copier_s in found:
            print(f"  broker {node} {way}: {gates_s:5.1f} {copier_s:5.1f}")
    checked(outage)
    for way, node, gates_s, copier_s in found:
        assert gates_s <= SESSION_S + 4, f"broker {node} {way}: {gates_s:.1f} s"
        assert gates_s <= copier_s + 3, f"broker {node} {way}: {gates_s:.1f} s, the copier {copier_s:.1f} s"


def longest_gaps(
    outage: Outage, go: Callable[[], None], come_back: Callable[[], None], away_s: float
) -> tuple[float, float]:
    """The longest time without a record of any partition, for the gates and for the copier, around one absence."""
    since_s = time.time()
    go()
    time.sleep(away_s)  # the absence itself
    come_back()
    topics = (outage.world.topics.decisions, outage.target)

    def all_flow() -> bool:
        back_s = time.time() - 5
        return all(max(outage.gaps_s(topic, back_s).values()) < 3 for topic in topics)

    wait_until(all_flow, 90, "all flows again")
    gates_s, copier_s = (max(outage.gaps_s(topic, since_s).values()) for topic in topics)
    return gates_s, copier_s
