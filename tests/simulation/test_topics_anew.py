"""Topics that are deleted, made again, cut, changed, or get partitions, while gates run: nothing is lost in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest

from placet.simulation.brokers.cluster import SimulatedCluster
from placet.streams.loop.identity import Identity
from placet.streams.topology import control_topic
from tests.simulation.histories import KINDS
from tests.simulation.rules import APP, CODEC, PARTITIONS, TOPICS
from tests.simulation.world import World

ANEW = ("was created anew", "was it cut, or made anew?", "but the ledger is empty")
CONTROL = control_topic(APP)
EACH = {"order-0", "order-1"}
NOTICED_S = 50.0
"""A question each 30 s, and where all brokers have to have heard of it 10 s of further questions."""


@pytest.fixture(params=range(3))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Two gates at work, amid the inputs; all that came is decided."""
    world = World(request.param, KINDS["standard"], trouble=False)
    world.scheduler.run(lambda: world.feeder.sent >= 30 and world.settled(), 60)
    yield world
    world.scheduler.close()


def make_anew(world: World, topic: str) -> None:
    before = world.cluster.topics[topic]
    partitions = len(before.partitions)
    world.cluster.create_topic(topic, partitions, before.configs)
    if topic in TOPICS:
        world.logs |= {(topic, number): world.cluster.log((topic, number)) for number in range(partitions)}


def go_on(world: World, seconds: float) -> None:
    """Let time pass."""
    until_ns = world.scheduler.now_ns + round(seconds * 1e9)
    world.scheduler.later(round(seconds * 1e9), lambda: None)
    world.scheduler.run(lambda: world.scheduler.now_ns >= until_ns, seconds + 1)


def committed(world: World) -> int:
    """How many records lie on the ledger that readers see."""
    return sum(len(log.history()) for at, log in world.logs.items() if at[0] == TOPICS.ledger)


def told(world: World) -> list[str]:
    """What was said of the tasks that stopped, each with its name."""
    return sorted(line.partition("task=")[2] for line in world.stopped)


def stopped(world: World) -> set[str]:
    """Tasks that were stopped by name."""
    return {line.partition(",")[0] for line in told(world)}


def passed_over(world: World, decided_before: dict[int, int]) -> set[str]:
    """Tasks whose position is behind inputs that nobody has decided, though they are on the topics of now."""
    positions, found = world.cluster.group(APP).positions, set()
    for number in range(PARTITIONS):
        log = world.cluster.log((TOPICS.decisions, number))
        later = [entry for entry in log.history() if entry.offset >= decided_before[number]]
        decided = {(at.topic, at.offset) for _, at in (CODEC.decode_decision(entry.value or b"") for entry in later)}
        for topic in TOPICS.inputs:
            waits = [entry.offset for entry in world.cluster.log((topic, number)).history()]
            if topic == TOPICS.signals and any(
                offset < positions.get((topic, number), 0) and (topic, offset) not in decided for offset in waits
            ):
                found.add(f"order-{number}")
    return found


def fill_anew(world: World) -> dict[int, int]:
    """Make the signals topic anew, with more inputs than were decided of the one before. Return the decisions' ends."""
    ends = {number: world.cluster.log((TOPICS.decisions, number)).end for number in range(PARTITIONS)}
    make_anew(world, TOPICS.signals)
    for _ in range(200):
        world.feeder.feed_each()
    return ends


def test_no_input_of_a_topic_that_is_made_anew_is_passed_over_in_silence(world: World) -> None:
    """Gates read on behind its first inputs, and commit positions behind them."""
    ends = fill_anew(world)
    go_on(world, NOTICED_S)
    assert stopped(world) == EACH
    assert all(f"{TOPICS.signals} was created anew" in line for line in told(world))
    assert passed_over(world, ends) <= EACH
    assert world.bugs == world.ends == []


def test_without_the_check_inputs_are_passed_over(world: World) -> None:
    """Or the test above would prove nothing."""
    ends = fill_anew(world)
    with patch.object(Identity, "check", lambda *_: None):
        go_on(world, NOTICED_S)
    assert stopped(world) == set()
    assert passed_over(world, ends) == EACH


@pytest.mark.parametrize("topic", [*TOPICS, CONTROL])
def test_each_running_task_stops_by_name_when_a_topic_is_made_anew(world: World, topic: str) -> None:
    make_anew(world, topic)
    go_on(world, NOTICED_S)
    assert stopped(world) == EACH
    assert all(any(words in line for words in ANEW) and topic in line for line in told(world)), told(world)
    assert world.bugs == world.ends == []
    before = committed(world)
    for gate in world.gates:
        gate.kill()
    go_on(world, NOTICED_S)
    assert committed(world) == before, "nor is any decided after another start"
    assert world.bugs == []


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
    assert stopped(world) == EACH
    assert all(any(words in line for words in ANEW) for line in told(world))
    assert world.bugs == world.ends == []
    if killed or topic == TOPICS.ledger:
        assert committed(world) == before, "none decided"


@pytest.mark.parametrize("empty", [False, True], ids=["with stores", "without"])
def test_a_control_topic_that_was_made_anew_between_two_starts_stops_each_task(world: World, *, empty: bool) -> None:
    """The gate publishes its definition there, and all seems well: what was in force before is forgotten."""
    make_anew(world, CONTROL)
    before = committed(world)
    for gate in world.gates:
        gate.replace() if empty else gate.kill()
    go_on(world, 30)
    assert stopped(world) == EACH
    assert all(f"{CONTROL} was created anew" in line and "the ledger knows" in line for line in told(world))
    assert committed(world) == before


def test_a_control_topic_that_lost_its_end_stops_each_task(world: World) -> None:
    """A restore waited for ever for rules that are not there any more."""
    log = world.cluster.log((CONTROL, 0))
    log.entries.clear()
    log.end = log.high_watermark = 0
    go_on(world, NOTICED_S)
    assert stopped(world) == EACH
    assert all(f"{CONTROL} ends at 0, and rules were read up to " in line for line in told(world))


def test_states_are_not_forgotten_with_a_changelog_that_is_made_anew(world: World) -> None:
    """A restore took the store for one that is ahead of the log, and began with no state at all."""
    make_anew(world, TOPICS.changelog)
    go_on(world, 30)
    aside = [line for line in world.trace if "store set aside" in line]
    restored = [line for line in world.trace if "restored from" in line and float(line.split()[0]) > 5.5]
    assert (aside, restored) == ([], [])


@pytest.mark.parametrize("topics", [TOPICS.inputs, (TOPICS.decisions,), tuple(TOPICS)], ids=["inputs", "one", "all"])
def test_partitions_that_were_added_stop_each_task(world: World, topics: tuple[str, ...]) -> None:
    """Keys have moved. A start refuses topics that differ, a task a ledger that knows fewer; so does a running one."""
    for topic in topics:
        world.cluster.add_partitions(topic, PARTITIONS + 1)
    go_on(world, NOTICED_S)
    assert stopped(world) >= EACH
    assert all(f"has {PARTITIONS + 1} partitions, this gate knows {PARTITIONS}" in line for line in told(world)[:2])
    assert world.ends == []
    world.stopped.clear()
    before = committed(world)
    for gate in world.gates:
        gate.kill()
    go_on(world, 30)
    if topics == tuple(TOPICS):
        assert stopped(world) >= EACH
        assert all("the topics have 3 partitions, the ledger knows 2" in line for line in told(world))
    else:
        assert world.ends
        assert all("SettingsError" in line for line in world.ends), world.ends
    assert committed(world) == before
    assert world.bugs == []


@pytest.mark.parametrize("topic", [TOPICS.changelog, TOPICS.ledger])
def test_a_log_that_lost_its_beginning_stops_its_task(world: World, topic: str) -> None:
    """A restore elsewhere would begin without what lay there, and miss nothing."""
    world.cluster.log((topic, 0)).cut_start(2)
    go_on(world, NOTICED_S)
    assert stopped(world) == {"order-0"}
    assert all(f"{topic} partition 0 begins at offset 2" in line for line in told(world))
    world.stopped.clear()
    for gate in world.gates:
        gate.kill()
    go_on(world, 30)
    assert stopped(world) == {"order-0"}
    assert all(f"{topic} partition 0 begins at offset 2" in line for line in told(world))
    assert world.bugs == world.ends == []


@pytest.mark.parametrize("topic", [*TOPICS, CONTROL])
def test_a_topic_that_is_deleted_stops_each_task_by_name(world: World, topic: str) -> None:
    world.cluster.delete_topic(topic)
    go_on(world, NOTICED_S)
    assert stopped(world) == EACH
    assert all(f"{topic} is gone" in line for line in told(world)), told(world)
    assert world.bugs == []


def unknown_for_a_moment(cluster: SimulatedCluster, seconds: float) -> None:
    """As where the broker that is asked has just begun, and knows nothing yet."""
    hidden = cluster.topics.pop(TOPICS.decisions)
    cluster.scheduler.later(round(seconds * 1e9), lambda: cluster.topics.update({hidden.name: hidden}))


def silent_for_long(cluster: SimulatedCluster, seconds: float) -> None:
    for number in (1, 2, 3):
        cluster.freeze(number)
        cluster.scheduler.later(round(seconds * 1e9), lambda n=number: cluster.go_on(n))


@pytest.mark.parametrize(
    ("happen", "seconds"), [(unknown_for_a_moment, 6.0), (silent_for_long, 40.0)], ids=["unknown", "silent"]
)
def test_what_nobody_tells_stops_no_task(
    world: World, happen: Callable[[SimulatedCluster, float], None], seconds: float
) -> None:
    go_on(world, 29.0 - world.scheduler.now_ns / 1e9 % 30.0)  # a question comes soon
    happen(world.cluster, seconds)
    go_on(world, seconds + 30)
    assert told(world) == world.bugs == []
    assert world.settled()


@pytest.mark.parametrize(
    ("topic", "setting", "value"),
    [
        (TOPICS.signals, "cleanup.policy", "compact"),
        (TOPICS.changelog, "cleanup.policy", "compact,delete"),
        (TOPICS.ledger, "cleanup.policy", "delete"),
        (TOPICS.decisions, "cleanup.policy", "compact"),
        (CONTROL, "cleanup.policy", "delete"),
        (CONTROL, "min.compaction.lag.ms", "0"),
        (TOPICS.signals, "retention.ms", "1000"),
        (TOPICS.proposals, "message.timestamp.type", "CreateTime"),
    ],
)
def test_a_setting_that_a_start_would_refuse_is_told_once_and_no_task_stops(
    world: World, topic: str, setting: str, value: str
) -> None:
    """Nothing is lost yet, and a task that stands still protects nothing: it would only be late."""
    configs = world.cluster.topics[topic].configs
    before, configs[setting] = configs[setting], value
    go_on(world, 2 * NOTICED_S)
    lines = [line for line in world.trace if "topic is not as it must be" in line]
    assert len(lines) == len(world.gates)
    assert all(f"topic={topic}, why={setting} is {value}, must be" in line for line in lines), lines
    assert all(gate.notes.faults == {topic: 1} for gate in world.gates)
    configs[setting] = before
    go_on(world, NOTICED_S)
    assert all(gate.notes.faults == {} for gate in world.gates)
    assert told(world) == world.ends == world.bugs == []
    assert world.settled()
