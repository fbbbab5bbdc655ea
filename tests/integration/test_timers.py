"""Timers on a real Kafka: each fires once, whoever owns its partition meanwhile, and never beats an answer in time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from placet.devbroker.broker import Broker
from placet.schemas.decision import Coordinates, Decision, Outcome
from placet.schemas.messages import Kind
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from tests.integration.gates import World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

COLLAR = """
entity: collar
version: 1
horizon: 1h
statuses: [ok, watching, alerted]
fields: {alerts: {type: int, default: 0}}
signals:
  odd: {from: [absent, ok], to: watching}
proposals:
  answer: {from: watching, to: ok, fence: none}
timers:
  nobody_answered: {from: watching, after: 12s, to: alerted, set: {alerts: state.alerts + 1}}
"""
AFTER_MS = 12_000
QUICK = {"PLACET_TRANSACTION_TIMEOUT_MS": "2000"}


@pytest.fixture
def world(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    definition = tmp_path / "collar.yaml"
    definition.write_text(COLLAR)
    app = request.node.name.removeprefix("test_").replace("_", "-")[:60]
    with World(broker.bootstrap_servers, tmp_path, app, definition, partitions=4) as made:
        with Admin(LocalHost(), {"bootstrap.servers": broker.bootstrap_servers}) as admin:
            admin.alter_group_configs(app, {"consumer.session.timeout.ms": "4000"})
        yield made


def fired(world: World) -> list[tuple[Decision, Coordinates]]:
    return [(decision, at) for decision, at in world.decisions() if decision.kind is Kind.TIMER]


def statuses(world: World) -> Counter[str]:
    return Counter(state.status for state in world.states().values())


def verified(world: World) -> None:
    found = world.placet("verify", "--definition", str(world.file), check=False)
    assert found.returncode == 0, found.stdout


def test_each_fires_once_though_a_gate_is_killed_before_and_another_one_while_they_fire(world: World) -> None:
    gates = [world.gate(name, **QUICK) for name in ("a", "b")]
    collars = [f"rex-{number}" for number in range(300)]
    for collar in collars:
        world.signal(collar, "odd", {}, f"odd-{collar}")
    world.flush()
    wait_until(lambda: statuses(world).total() == len(collars), 60, "all are or were watched")
    gates[0].kill()
    for collar in collars[::3]:
        world.propose(collar, "answer", {}, f"answer-{collar}")
    world.flush()
    wait_until(lambda: fired(world), 60, "the first ones fire")
    gates[1].kill()
    world.gate("c", **QUICK)
    wait_until(lambda: not statuses(world)["watching"], 90, "none is watched any more")
    done = fired(world)
    assert max(Counter(decision.entity_id for decision, _ in done).values()) == 1
    assert {decision.outcome for decision, _ in done} == {Outcome.ACCEPTED}
    in_time = {
        decision.entity_id for decision, _ in world.decisions() if decision.name == "answer" and decision.changed
    }
    assert {decision.entity_id for decision, _ in done} == set(collars) - in_time
    assert statuses(world) == Counter(alerted=len(done), ok=len(in_time))
    verified(world)


def test_an_answer_in_time_is_never_beaten_however_late_the_next_gate_is(world: World) -> None:
    gate = world.gate("a", **QUICK)
    world.signal("rex", "odd", {}, "odd-1")
    world.signal("leo", "odd", {}, "odd-2")
    world.flush()
    wait_until(lambda: statuses(world)["watching"] == 2, 60, "both are watched")
    armed_at_ms = max(at.log_time for _, at in world.decisions())
    gate.kill()
    world.propose("rex", "answer", {}, "answer-1")
    world.flush()
    wait_until(lambda: time.time_ns() // 1_000_000 > armed_at_ms + AFTER_MS + 1_000, 30, "both timers are due")
    world.gate("b", **QUICK)
    wait_until(lambda: statuses(world)["alerted"] == 1, 60, "nobody answered for leo")
    assert [decision.entity_id for decision, _ in fired(world)] == ["leo"]
    assert world.states()["rex"].status == "ok"
    verified(world)
