"""Something on the logs that no gate of these rules wrote: one task stops by name and place, the others go on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from placet.cli.exit_codes import ExitCode
from placet.client import Client
from placet.devbroker.broker import Broker
from placet.schemas.errors import DecodeError
from tests.integration.gates import Gate, World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(150)]

LATER = b"\xc3\x01" + b"\x11" * 8 + b"later"
LAMP = """
entity: lamp
version: 1
statuses: [lit]
final: [lit]
fields: {watts: {type: int, default: 5}}
signals:
  changed: {payload: {watts: int}, from: [absent, lit], to: lit, copy: watts}
"""


@pytest.fixture
def world(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    app = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_")).strip("-")[:60]
    file = tmp_path / "lamp.yaml"
    file.write_text(LAMP)
    with World(broker.bootstrap_servers, tmp_path, app, file, partitions=3) as made:
        yield made


def at_home(world: World, partition: int) -> str:
    """An entity of a partition."""
    return next(name for name in (f"l-{n}" for n in range(100)) if world.send_home(name.encode()) == partition)


def stopped(gate: Gate) -> dict[str, str]:
    return {event["task"]: event["why"] for event in gate.events("task stopped")}


def send_all(world: World, watts: int) -> None:
    for partition in range(world.partitions):
        world.signal(at_home(world, partition), "changed", {"watts": watts}, f"s-{watts}")
    world.flush()


def undecided(world: World) -> set[int]:
    """Partitions with facts that wait."""
    ends, committed = world.ends([world.topics.signals]), world.committed()
    return {partition for (topic, partition), end in ends.items() if committed.get((topic, partition), 0) < end}


def test_a_foreign_record_stops_its_task_by_name_and_place(world: World) -> None:
    gate = world.gate("g")
    send_all(world, 1)
    world.decided(40)
    offset = world.ends([world.topics.changelog])[world.topics.changelog, 0]
    world.send(world.topics.changelog, at_home(world, 0).encode(), LATER, 0)
    world.flush()
    send_all(world, 2)  # a gate that runs does not read what it wrote
    wait_until(lambda: not undecided(world), 30, "the running gate goes on")
    # Behind the gate's own change it would be the latest state: so it is now.
    late = world.ends([world.topics.changelog])[world.topics.changelog, 0]
    world.send(world.topics.changelog, at_home(world, 0).encode(), LATER, 0)
    ledger = world.ends([world.topics.ledger])[world.topics.ledger, 1]
    world.send(world.topics.ledger, b"later/thing", LATER, 1)
    world.flush()
    assert gate.terminate() == 0
    shutil.rmtree(world.folder / "state")
    gate = world.gate("g", attempt="cold")
    send_all(world, 3)
    wait_until(lambda: undecided(world) == {0, 1} and len(stopped(gate)) == 2, 40, "the third partition goes on")
    why = stopped(gate)
    place = f"{world.topics.changelog} partition 0: '{at_home(world, 0)}' can't be read: at offset {late}: "
    assert place in why["lamp-0"]
    assert (
        f"{world.topics.ledger} partition 1: the record 'later/thing' at offset {ledger} can't be read" in why["lamp-1"]
    )
    assert gate.process.poll() is None
    with Client(world.file, app=world.app, bootstrap_servers=world.bootstrap_servers) as client:
        with pytest.raises(DecodeError, match=f"partition 0 at offset {late}: '{at_home(world, 0)}' can't be read"):
            client.read(at_home(world, 0), timeout_s=2)
        wait_until(lambda: client.read(at_home(world, 2)).fields["watts"] == 3, 10, "others are read")
    found = world.placet("verify", check=False)
    assert found.returncode == ExitCode.DIFFERENCE
    text = " ".join(found.stdout.split())
    for topic, partition, at in (
        (world.topics.changelog, 0, offset),
        (world.topics.changelog, 0, late),
        (world.topics.ledger, 1, ledger),
    ):
        assert f"{topic} partition {partition} offset {at}" in text
    assert gate.terminate() == 0
