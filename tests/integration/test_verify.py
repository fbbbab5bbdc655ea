"""`placet verify` on a real Kafka: nothing to find in what gates wrote, and a rogue's records are named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gates import World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


@pytest.fixture
def world(broker: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    app = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_")).strip("-")[:80]
    with World(broker.bootstrap_servers, tmp_path, app, partitions=2) as made:
        yield made


def verify(world: World, code: int, *arguments: str) -> dict[str, Any]:
    done = world.placet("verify", "--output", "json", *arguments, check=False)
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_what_gates_wrote_has_no_difference_while_they_run_and_after_a_kill(world: World) -> None:
    first, _ = world.gate("a"), world.gate("b")
    world.load(3_000)
    world.flush()
    wait_until(lambda: sum(world.committed().values()) > 1_000, 60, "a third is decided")
    meanwhile = verify(world, 0)
    first.kill()
    world.load(1_000, first=3_000, seed=2)
    world.send(world.topics.signals, b"order-1", b"garbage")
    world.flush()
    decisions = world.decided()

    report = verify(world, 0)

    assert report["first"] is None
    assert [task["since"]["sequence"] for task in report["tasks"]] == [1, 1]
    assert sum(task["decisions"] for task in report["tasks"]) == len(decisions)
    assert sum(task["inputs"] for task in report["tasks"]) == len(decisions) > 4_000
    assert sum(task["changes"] for task in report["tasks"]) == len(world.changes())
    assert 0 < sum(task["decisions"] for task in meanwhile["tasks"]) <= len(decisions)


def test_a_rogue_decision_and_a_rogue_change_are_named(world: World) -> None:
    world.gate("a")
    world.load(400)
    world.flush()
    world.decided()
    copied = world.read(world.topics.decisions)[-1]
    forged_at = copied.partition(), world.ends([world.topics.decisions])[world.topics.decisions, copied.partition()]
    world.send(world.topics.decisions, copied.key(), copied.value(), copied.partition())
    world.flush()

    report = verify(world, 1)

    assert report["first"] == {
        "check": "doubled decision",
        "topic": world.topics.decisions,
        "partition": forged_at[0],
        "offset": forged_at[1],
        "text": report["first"]["text"],
    }
    assert report["differences"] == 1

    entity = forge_a_change(world)
    done = world.placet("verify", "--findings", "5", check=False)
    assert done.returncode == 1
    place = f"{world.topics.changelog} partition {entity[0]} offset {entity[1]}"
    assert f"change without accepted decision at {place}" in done.stdout
    assert "differences. The first: " in done.stdout


def forge_a_change(world: World) -> tuple[int, int]:
    """Write another total for an order, as if its last input had led to it; return partition and offset."""
    record = next(message for message in reversed(world.read(world.topics.changelog)) if message.value() is not None)
    change = world.codec.decode_change(record.value(), record.headers())
    state = replace(change.state, fields={**change.state.fields, "total": 1_000_000})
    value, headers = world.codec.encode_change(replace(change, state=state))
    place = record.partition(), world.ends([world.topics.changelog])[world.topics.changelog, record.partition()]
    world.producer.produce(world.topics.changelog, value, record.key(), record.partition(), headers=headers)
    world.flush()
    return place


def test_what_can_not_be_verified_is_said(world: World) -> None:
    done = world.placet("verify", "--app", "nobody", check=False)
    assert done.returncode == 3
    assert "There is no topic nobody.control" in done.stderr

    world.gate("a")
    world.signal("o-1", "opened", {"total": 5}, "s-1")
    world.flush()
    world.decided()
    done = world.placet("verify", "--entity", "flight", check=False)
    assert done.returncode == 3
    assert "knows no entity type `flight`; it knows order" in done.stderr
    assert verify(world, 0, "--definition", str(world.file))["tasks"][0]["entity"] == "order"
