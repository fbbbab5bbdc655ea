"""One broker of three is away for a minute: how long does an input wait, beside a plain transactional copier's?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.integration.gates import wait_until
from tests.integration.outage import WAYS, Outage

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(1_500)]

SESSION_S = 9.0
"""Kafka's own default of `broker.session.timeout.ms`: after it the controller elects new leaders."""
AWAY_S = 60.0
LEEWAY_S = 4.0
MORE_THAN_COPIER_S = 3.0


@pytest.fixture
def outage(tmp_path: Path) -> Iterator[Outage]:
    with Cluster(session_timeout_ms=int(SESSION_S * 1000)) as cluster, Outage(cluster, tmp_path, "absence") as made:
        yield made


def test_an_absence_of_a_minute_costs_each_partition_one_election(
    outage: Outage, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for way, (go, come_back) in WAYS.items():
        for node, broker in outage.cluster.brokers.items():
            since_s = time.time()
            go(broker)
            wait_until(lambda: not outage.leads(node), AWAY_S, f"new leaders after broker {node} was {way}")
            elected_s = time.time() - since_s
            time.sleep(AWAY_S - elected_s)  # the absence itself
            come_back(broker)
            wait_until(outage.whole, 90, "the cluster is whole again")
            wait_until(lambda: flow(outage)[0], 90, f"the gates flow again after broker {node} was {way}")
            found.append((way, node, elected_s, *waits(outage, since_s)))
            if not flow(outage)[1]:
                outage.restart_copier()
                wait_until(lambda: flow(outage)[1], 90, f"the copier flows again after broker {node} was {way}")
    with capsys.disabled():
        print("\nseconds until new leaders are elected, and the longest wait of a fact at gates and plain copier")
        for way, node, elected_s, gates_s, copier_s in found:
            print(f"  broker {node} {way}: {elected_s:5.1f} {gates_s:5.1f} {copier_s:5.1f}")
    outage.check()
    for way, node, elected_s, gates_s, copier_s in found:
        told = f"broker {node} {way}: elected {elected_s:.1f} s, gates {gates_s:.1f} s, copier {copier_s:.1f} s"
        # An election that takes longer than the brokers are set to is theirs, and the copier waits for it too.
        assert gates_s <= max(SESSION_S, elected_s) + LEEWAY_S, told
        assert gates_s <= copier_s + MORE_THAN_COPIER_S, told


def flow(outage: Outage) -> tuple[bool, bool]:
    """Whether what came in lately came out soon: at the gates, and at the copier."""
    gates_s, copier_s = waits(outage, time.time() - 6)
    return gates_s < 3, copier_s < 3


def waits(outage: Outage, since_s: float) -> tuple[float, float]:
    """The longest wait at the gates, and at the copier."""
    decisions = outage.world.topics.decisions
    return outage.longest_wait_s(decisions, since_s), outage.longest_wait_s(outage.copies, since_s)
