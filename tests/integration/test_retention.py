"""An app that is older than its topics' retention: decided inputs are gone, and that must mean nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from placet.devbroker.broker import Broker
from tests.integration.gates import Gate, World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

PARTITIONS = 6
STARTS = 4


@pytest.fixture
def world(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    app = request.node.name.removeprefix("test_").replace("_", "-")[:60]
    with World(broker.bootstrap_servers, tmp_path, app, partitions=PARTITIONS) as made:
        yield made


def retain_nothing(world: World, only: list[int] | None = None) -> None:
    """Remove all inputs so far, as retention does."""
    partitions = [
        TopicPartition(topic, number, end)
        for (topic, number), end in world.ends(world.topics.inputs).items()
        if only is None or number in only
    ]
    admin = world.admin()  # its answers come only while it lives
    for removed in admin.delete_records(partitions).values():
        removed.result(20)


def all_run(gates: list[Gate], tasks: int) -> None:
    def restored() -> bool:
        for gate in gates:
            assert gate.process.poll() is None, f"it ended: {gate.text()[-800:]}"
        return sum(len(gate.events("restored")) for gate in gates) >= tasks

    wait_until(restored, 60, f"{tasks} tasks are restored")


def test_a_gate_starts_and_takes_over_after_retention_removed_what_was_decided(world: World) -> None:
    first = world.gate("a")
    world.load(300)
    world.flush()
    world.decided()
    assert first.terminate() == 0
    retain_nothing(world)
    for start in range(STARTS):
        gate = world.gate("a", attempt=start)
        all_run([gate], PARTITIONS)
        if start < STARTS - 1:
            assert gate.terminate() == 0
    survivor = world.gate("b")
    all_run([survivor], PARTITIONS // 2)
    gate.kill()
    all_run([survivor], PARTITIONS)
    world.load(100, first=300, seed=2)
    world.flush()
    wait_until(lambda: world.ends(world.topics.inputs) == world.committed(), 60, "all inputs are decided")
    assert not survivor.events("task stopped")
    assert survivor.terminate() == 0


def test_inputs_removed_under_a_gate_before_they_were_decided_stop_their_task_alone(world: World) -> None:
    gate = world.gate("a")
    world.load(100)
    world.flush()
    world.decided()
    orders = [f"order-{number}" for number in range(200)]
    lost = next(order for order in orders if world.send_home(order.encode()) == 0)
    kept = next(order for order in orders if world.send_home(order.encode()) == 1)
    gate.pause()
    for number in range(50):
        world.signal(lost, "opened", {"total": 5}, f"lost-{number}")
        world.flush()  # one after the other: a fetch that was under way takes the first of them
    retain_nothing(world, only=[0])
    gate.resume()
    stopped = wait_until(lambda: gate.events("task stopped"), 30, "the task stops")
    assert len(stopped) == 1
    assert stopped[0]["task"] == "order-0"
    assert "were removed before they were decided" in stopped[0]["why"]
    world.signal(kept, "opened", {"total": 5}, "kept-1")
    world.flush()
    wait_until(lambda: kept in world.states(), 30, "the others go on")
    assert gate.terminate() == 0
