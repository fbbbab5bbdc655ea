"""One broker of three is away for a minute: how long does an input wait, beside a plain transactional copier's?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster import Cluster
from tests.integration.gates import wait_until
from tests.integration.outage import WAYS, Outage

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone, pytest.mark.timeout(1_500)]

SESSION_S = 9.0
"""Kafka's own default of `broker.session.timeout.ms`: after it the controller elects new leaders."""
AWAY_S = 60.0
LEEWAY_S = 4.0
MORE_THAN_COPIER_S = 3.0


@pytest.fixture
def outage(tmp_path: Path) -> Iterator[Outage]:
    with Cluster(session_timeout_ms=int(SESSION_S * 1000)) as cluster, Outage(cluster, tmp_path, "absence") as made:
        yield made


class Seen(NamedTuple):
    """What one absence cost, in seconds: until new leaders were elected, and the longest wait of a fact."""

    what: str
    elected_s: float
    gates_s: float
    copier_s: float

    def __str__(self) -> str:
        return (
            f"{self.what}: elected {self.elected_s:4.1f} s, gates {self.gates_s:4.1f} s, copier {self.copier_s:4.1f} s"
        )


def test_an_absence_of_a_minute_costs_each_partition_one_election(
    outage: Outage, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [absence(outage, way, node) for way in WAYS for node in outage.cluster.brokers]
    with capsys.disabled():
        print("", *found, sep="\n")
    outage.check()
    for seen in found:
        # An election that takes longer than the brokers are set to is theirs, and the copier waits for it too.
        assert seen.gates_s <= max(SESSION_S, seen.elected_s) + LEEWAY_S, seen
        assert seen.gates_s <= seen.copier_s + MORE_THAN_COPIER_S, seen


def absence(outage: Outage, way: str, node: int) -> Seen:
    """Let a broker be away for a minute, and wait until all flows again."""
    go, come_back = WAYS[way]
    what, since_s = f"broker {node} {way}", time.time()
    go(outage.cluster.brokers[node])
    wait_until(lambda: not outage.leads(node), AWAY_S, f"new leaders, {what}")
    elected_s = time.time() - since_s
    time.sleep(AWAY_S - elected_s)  # the absence itself
    come_back(outage.cluster.brokers[node])
    wait_until(outage.whole, 90, f"the cluster is whole again, {what}")
    wait_until(lambda: flow(outage)[0], 90, f"the gates flow again, {what}")
    seen = Seen(what, elected_s, *waits(outage, since_s))
    if not flow(outage)[1]:
        outage.restart_copier()
        wait_until(lambda: flow(outage)[1], 90, f"the copier flows again, {what}")
    return seen


def flow(outage: Outage) -> tuple[bool, bool]:
    """Whether what came in lately came out soon: at the gates, and at the copier."""
    gates_s, copier_s = waits(outage, time.time() - 6)
    return gates_s < 3, copier_s < 3


def waits(outage: Outage, since_s: float) -> tuple[float, float]:
    """The longest wait at the gates, and at the copier."""
    decisions = outage.world.topics.decisions
    return outage.longest_wait_s(decisions, since_s), outage.longest_wait_s(outage.copies, since_s)
