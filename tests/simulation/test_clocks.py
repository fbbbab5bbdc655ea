"""Brokers whose clocks are wrong while gates run: nothing is committed by them, and all goes on once they are right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.histories import KINDS
from tests.simulation.rules import APP, PARTITIONS, TOPICS
from tests.simulation.world import World

SECOND_NS = 1_000_000_000


@pytest.fixture(params=range(3))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Two gates at work, amid the inputs; all that came is decided."""
    world = World(request.param, KINDS["standard"], trouble=False)
    world.scheduler.run(lambda: world.feeder.sent >= 30 and world.settled(), 60)
    yield world
    world.scheduler.close()


def go_on(world: World, seconds: float) -> None:
    """Let time pass."""
    until_ns = world.scheduler.now_ns + round(seconds * SECOND_NS)
    world.scheduler.later(round(seconds * SECOND_NS), lambda: None)
    world.scheduler.run(lambda: world.scheduler.now_ns >= until_ns, seconds + 1)


def positions(world: World) -> dict[tuple[str, int], int]:
    """How far inputs are decided."""
    return dict(world.cluster.group(APP).positions)


@pytest.mark.parametrize(("off_s", "way"), [(20, "behind"), (-20, "ahead of")], ids=["fast", "slow"])
def test_a_broker_whose_clock_is_off_ends_each_gate_that_writes_to_it(world: World, off_s: int, way: str) -> None:
    node = world.cluster.network.nodes[world.cluster.leader_of((TOPICS.ledger, 0))]
    usual_ns, node.skew_ns = node.skew_ns, off_s * SECOND_NS
    before = positions(world)
    for _ in range(4):
        world.feeder.feed_each()
        go_on(world, 5)
    assert world.ends
    assert all("ClockSkew: this machine's clock is " in end and f" ms {way} the broker's" in end for end in world.ends)
    now = positions(world)
    assert {at: now[at] for at in before if at[1] == 0} == {at: before[at] for at in before if at[1] == 0}
    node.skew_ns = usual_ns
    world.scheduler.run(world.settled, 90)
    assert world.bugs == []


def test_what_a_fast_clock_has_stamped_stops_its_task_until_that_time_is_past(world: World) -> None:
    nodes = world.cluster.network.nodes.values()
    for node in nodes:
        node.skew_ns += 60 * SECOND_NS
    world.feeder.feed_each()
    for node in nodes:
        node.skew_ns -= 60 * SECOND_NS
    go_on(world, 20)
    assert len(world.stopped) >= PARTITIONS
    assert all("s ahead of this machine's clock" in line for line in world.stopped), world.stopped
    assert not world.settled()
    told = len(world.stopped)
    world.scheduler.run(world.settled, 90)
    assert (len(world.stopped), world.ends, world.bugs) == (told, [], []), "they went on by themselves, once"
