"""A topic that is deleted and made again, or gets partitions, while gates run: tasks stop by name, nothing else counts.

Whether a topic is another one is asked at each restore. Until then a running gate decides by its store, which is right.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.histories import KINDS
from tests.simulation.rules import PARTITIONS, TOPICS
from tests.simulation.world import World

ANEW = ("was created anew", "was it cut, or made anew?", "but the ledger is empty")


@pytest.fixture(params=range(3))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Two gates at work, amid the inputs; all that came is decided."""
    world = World(request.param, KINDS["standard"], trouble=False)
    world.scheduler.run(lambda: world.feeder.sent >= 30 and world.settled(), 60)
    yield world
    world.scheduler.close()


def make_anew(world: World, topic: str) -> None:
    world.cluster.create_topic(topic, PARTITIONS, world.cluster.topics[topic].configs)
    world.logs |= {(topic, number): world.cluster.log((topic, number)) for number in range(PARTITIONS)}


def go_on(world: World, seconds: float) -> None:
    """Let time pass."""
    until_ns = world.scheduler.now_ns + round(seconds * 1e9)
    world.scheduler.later(round(seconds * 1e9), lambda: None)
    world.scheduler.run(lambda: world.scheduler.now_ns >= until_ns, seconds + 1)


def committed(world: World) -> int:
    """How many records lie on the ledger that readers see."""
    return sum(len(log.history()) for at, log in world.logs.items() if at[0] == TOPICS.ledger)


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("topic", list(TOPICS))
def test_each_task_stops_by_name_when_a_topic_is_made_anew(world: World, topic: str, *, killed: bool) -> None:
    make_anew(world, topic)
    before = committed(world)
    if not killed:
        go_on(world, 30)  # some tasks have restored meanwhile, or read behind the end
    for gate in world.gates:
        gate.kill()
    go_on(world, 30)
    told = sorted(line.partition("task=")[2] for line in world.stopped)
    assert {line.partition(",")[0] for line in told} == {"order-0", "order-1"}, told
    assert all(any(words in line for words in ANEW) for line in told)
    assert world.bugs == world.ends == []
    if killed or topic == TOPICS.ledger:
        assert committed(world) == before, "none decided"


def test_states_are_not_forgotten_with_a_changelog_that_is_made_anew(world: World) -> None:
    """A restore took the store for one that is ahead of the log, and began with no state at all."""
    make_anew(world, TOPICS.changelog)
    go_on(world, 30)
    aside = [line for line in world.trace if "store set aside" in line]
    restored = [line for line in world.trace if "restored from" in line and float(line.split()[0]) > 5.5]
    assert (aside, restored) == ([], [])


@pytest.mark.parametrize("topics", [TOPICS.inputs, tuple(TOPICS)], ids=["inputs", "all"])
def test_partitions_that_were_added_stop_each_task_at_the_next_start(world: World, topics: tuple[str, ...]) -> None:
    """Running gates go on with what they had. A start refuses topics that differ, a task a ledger that knows fewer."""
    for topic in topics:
        world.cluster.add_partitions(topic, PARTITIONS + 1)
    before = committed(world)
    go_on(world, 5)
    assert (world.stopped, world.ends, world.bugs) == ([], [], [])
    assert committed(world) > before
    for gate in world.gates:
        gate.kill()
    go_on(world, 30)
    if topics == tuple(TOPICS):
        assert {line.partition("task=")[2][:7] for line in world.stopped} >= {"order-0", "order-1"}
        assert all("the topics have 3 partitions, the ledger knows 2" in line for line in world.stopped)
    else:
        assert world.ends
        assert all("SettingsError" in line for line in world.ends), world.ends
    assert world.bugs == []
