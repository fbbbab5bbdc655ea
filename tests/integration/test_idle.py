"""Log time of partitions without inputs, on a real Kafka: it moves on, and never past an input that waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from placet.devbroker.broker import Broker
from placet.schemas.ledger import Commit
from tests.integration.gates import World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(400)]

LAMP = """
entity: lamp
version: 1
horizon: 1s
statuses: [lit]
final: [lit]
fields: {watts: {type: long, default: 0}}
signals:
  changed: {payload: {watts: long}, from: [absent, lit], to: lit, copy: watts}
"""
REMEMBERED_S = 61.0
"""The horizon, and how far a producer's clock may be ahead: what is older expires, and asks for a transaction."""
TAKEOVERS = 8


@pytest.fixture
def world(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    definition = tmp_path / "lamp.yaml"
    definition.write_text(LAMP)
    app = request.node.name.removeprefix("test_").replace("_", "-")[:60]
    with World(broker.bootstrap_servers, tmp_path, app, definition, partitions=4) as made:
        yield made


def idle_commits(world: World) -> list[Commit]:
    return [commit for commits in world.commits().values() for commit in commits if not commit.decisions]


def test_what_expires_without_inputs_is_cleaned_up(world: World) -> None:
    world.gate("a")
    world.signal("l", "changed", {"watts": 1}, "s")
    world.flush()
    world.decided()
    (idle,) = wait_until(lambda: idle_commits(world), REMEMBERED_S + 60, "what expired is cleaned up")
    assert idle.log_time <= time.time_ns() // 1_000_000
    world.placet("verify", "--definition", str(world.file))


def test_takeovers_under_load_never_let_log_time_pass_an_input(world: World) -> None:
    """Something expires all the time, so that whoever takes a partition over would like to clean up at once."""
    gates = [world.gate(name) for name in ("a", "b", "c")]
    numbers, began_s = count(), time.monotonic()

    def send_for(seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            number = next(numbers)
            world.signal(f"l-{number % 400}", "changed", {"watts": number}, f"s-{number}")
            time.sleep(0.002)

    send_for(REMEMBERED_S + 5)
    for takeover in range(TAKEOVERS):
        place = takeover % len(gates)
        gates[place].kill()
        send_for(8)
        gates[place] = world.gate("abc"[place], attempt=takeover)
    send_for(8)
    world.flush()
    assert time.monotonic() - began_s > REMEMBERED_S
    world.decided(90)
    verified = world.placet("verify", "--definition", str(world.file), check=False)
    assert verified.returncode == 0, verified.stdout
