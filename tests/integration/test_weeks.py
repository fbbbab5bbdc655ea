"""Weeks pass: inputs, positions, transactional ids and tombstones are gone, on a Kafka that keeps them for seconds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, TopicPartition

from placet.devbroker.broker import Broker
from placet.processors.address import partition_of
from placet.streams.state import layout
from placet.streams.state.rocksdb import RocksDBStore
from tests.integration.gates import Gate, World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(600)]

ROOM = """
entity: room
version: 1
horizon: 1s
statuses: [open]
fields: {guests: {type: long, default: 0}}
signals:
  entered: {payload: {guests: long}, from: [absent, open], to: open, copy: guests}
  closed:  {payload: {}, from: open, to: absent}
"""
PARTITIONS = 3
SOON = {
    "log.initial.task.delay.ms": "500",
    "log.retention.check.interval.ms": "500",
    "log.segment.delete.delay.ms": "200",
    "log.cleaner.backoff.ms": "200",
    "offsets.retention.minutes": "1",  # no less can be set
    "offsets.retention.check.interval.ms": "1000",
    "transactional.id.expiration.ms": "6000",
    "transaction.remove.expired.transaction.cleanup.interval.ms": "500",
}
FORGETS_S = 150.0
"""A horizon with the clocks' minute, or the minute of the group's positions, and what finds it afterwards."""
GONE = "room-gone"
LONG_MS = 13 * 3_600_000


@pytest.fixture(scope="module")
def forgetful() -> Iterator[Broker]:
    with Broker(settings=SOON) as running:
        yield running


@pytest.fixture
def world(forgetful: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    definition = tmp_path / "room.yaml"
    definition.write_text(ROOM)
    app = request.node.name.removeprefix("test_").replace("_", "-")[:60]
    with World(forgetful.bootstrap_servers, tmp_path, app, definition, PARTITIONS) as made:
        yield made


def enter(world: World, rooms: range, guests: int) -> None:
    for number in rooms:
        world.signal(f"room-{number}", "entered", {"guests": guests}, f"entered-{number}-{guests}")
    world.flush()


def guests(world: World) -> dict[str, int]:
    """Who is in each room, as a reader of the compacted changelog knows."""
    return {room: state.fields["guests"] for room, state in world.states().items() if state.status == "open"}


def keys(world: World, topic: str) -> set[bytes]:
    return {message.key() for message in world.read(topic)}


def begins_at_its_end(world: World, topic: str) -> bool:
    consumer = Consumer({"bootstrap.servers": world.bootstrap_servers, "group.id": "eyes"})
    offsets = [consumer.get_watermark_offsets(at, 10) for at in at_each_partition(world, topic)]
    consumer.close()
    return all(begin == end for begin, end in offsets)


def at_each_partition(world: World, topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(world.partitions)]


def compact_at_once(world: World) -> None:
    """Have the cleaner remove overwritten rows and tombstones as soon as there is a later segment."""
    for topic in (world.topics.changelog, world.topics.ledger):
        for name, value in (
            ("min.compaction.lag.ms", "0"), ("delete.retention.ms", "0"), ("min.cleanable.dirty.ratio", "0.001"),
            ("segment.ms", "500"),
        ):  # fmt: skip
            world.alter(topic, name, value)


def grow_old(state_dir: Path, app: str, by_ms: int) -> None:
    """Set back the time at which stores that nobody has open were last written."""
    folders = [path.parent.parent for path in (state_dir / app / "room").glob("*/db/CURRENT")]
    assert len(folders) == PARTITIONS
    for folder in folders:
        store = RocksDBStore(folder)
        commit = layout.commit_from_bytes(store.get(layout.COMMIT) or b"")
        store.write(
            {
                layout.COMMIT: layout.commit_to_bytes(
                    msgspec.structs.replace(
                        commit, decided_at=commit.decided_at - by_ms, log_time=commit.log_time - by_ms
                    )
                )
            }
        )
        store.close()


def all_run(gate: Gate, tasks: int) -> None:
    def restored() -> bool:
        assert gate.process.poll() is None, f"it ended: {gate.text()[-2_000:]}"
        return len(gate.events("restored")) + len(gate.events("restored, but")) >= tasks

    wait_until(restored, 60, f"{tasks} tasks are restored")


def test_a_store_that_slept_for_weeks_brings_nothing_back_that_was_deleted(world: World) -> None:
    sleeper = world.gate("sleeper")
    enter(world, range(30), guests=1)
    world.signal(GONE, "entered", {"guests": 7}, "entered-gone")
    world.flush()
    world.decided()
    assert sleeper.terminate() == 0
    other = world.gate("other")
    world.signal(GONE, "closed", {}, "closed-gone")
    world.flush()
    world.decided()
    compact_at_once(world)
    partition, numbers = partition_of(GONE.encode(), PARTITIONS), count(100)
    beside = next(n for n in range(1_000, 2_000) if partition_of(f"room-{n}".encode(), PARTITIONS) == partition)

    def is_forgotten() -> bool:
        enter(world, range(beside, beside + 1), guests=next(numbers))  # the cleaner leaves the newest segment alone
        return GONE.encode() not in keys(world, world.topics.changelog)

    wait_until(is_forgotten, FORGETS_S, "row and tombstone are gone")
    enter(world, range(30), guests=2)
    world.decided()
    assert other.terminate() == 0

    for topic in (*world.topics.inputs, world.topics.decisions):
        world.alter(topic, "retention.ms", "1")
    wait_until(lambda: begins_at_its_end(world, world.topics.decisions), 60, "retention removed the decisions")
    wait_until(lambda: all(begins_at_its_end(world, topic) for topic in world.topics.inputs), 60, "and the inputs")
    wait_until(lambda: not world.committed(), FORGETS_S, "the group's positions are gone")
    grow_old(world.folder / "state" / "sleeper", world.app, LONG_MS)
    world.placet("topics", "apply", "--definition", str(world.file), "--partitions", str(PARTITIONS))

    woken = world.gate("sleeper", attempt="-woken")
    all_run(woken, PARTITIONS)
    assert {event["task"] for event in woken.events("store set aside")} == {f"room-{n}" for n in range(PARTITIONS)}
    assert all("tombstones may be gone" in event["why"] for event in woken.events("store set aside"))
    assert all("the group has no position" in event["warning"] for event in woken.events("restored, but"))
    assert world.placet("state", "get", GONE, "--definition", str(world.file), check=False).returncode == 1
    assert {room: number for room, number in guests(world).items() if int(room[5:]) < 30} == {
        f"room-{number}": 2 for number in range(30)
    }
    world.signal(GONE, "entered", {"guests": 1}, "entered-gone-again")
    enter(world, range(30), guests=3)
    wait_until(lambda: world.ends(world.topics.inputs) == world.committed(), 60, "all inputs are decided")
    assert world.states()[GONE].version == 1
    assert not woken.events("task stopped")
    assert woken.terminate() == 0
    compact_at_once(world)  # else it says that the cleaner took commits before it may
    world.placet("verify", "--definition", str(world.file))


def expired(world: World, instance: str) -> set[bytes]:
    """The transactional ids of a gate of which the coordinator wrote that it knows them no more."""
    consumer = Consumer({
        "bootstrap.servers": world.bootstrap_servers, "group.id": "eyes", "enable.auto.commit": False,
        "enable.partition.eof": True, "auto.offset.reset": "earliest",
    })  # fmt: skip
    numbers = consumer.list_topics("__transaction_state", 10).topics["__transaction_state"].partitions
    consumer.assign([TopicPartition("__transaction_state", number, 0) for number in numbers])
    ends, last = 0, dict[bytes, bool]()
    while ends < len(numbers):
        for message in consumer.consume(1_000, 1.0):
            if message.error() is not None:
                ends += 1
            else:
                last[message.key()] = message.value() is None
    consumer.close()
    return {key for key, is_gone in last.items() if is_gone and world.app.encode() in key and instance.encode() in key}


def test_a_gate_whose_transactional_id_expired_while_nothing_came_goes_on(world: World) -> None:
    gate = world.gate("idle")
    enter(world, range(30), guests=1)
    world.decided()
    wait_until(lambda: expired(world, "idle"), FORGETS_S, "the transactional id has expired")
    enter(world, range(30), guests=2)
    world.decided()
    assert guests(world) == {f"room-{number}": 2 for number in range(30)}
    assert gate.process.poll() is None
    assert gate.events("transaction aborted")
    assert not gate.events("task stopped")
    world.placet("verify", "--definition", str(world.file))
    assert gate.terminate() == 0
