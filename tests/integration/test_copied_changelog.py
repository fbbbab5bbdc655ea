"""A new start from a copy: of an app that is lost there is its changelog, and what the control topic held."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from placet.devbroker.broker import Broker
from placet.schemas.decision import Outcome
from placet.streams.topology import control_topic
from tests.integration.gates import Gate, World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

INPUTS = 3_000


def copy(old: World, new: World) -> None:
    """Copy changelog and control topic, record by record, as any mirror does: headers too, offsets not."""
    topics = {old.topics.changelog: new.topics.changelog, control_topic(old.app): control_topic(new.app)}
    for topic, to in topics.items():
        for message in old.read(topic):
            new.producer.produce(to, message.value(), message.key(), message.partition(), headers=message.headers())
            new.producer.poll(0)
    new.flush()


def begun(world: World, gate: Gate) -> None:
    """Wait until each partition has a ledger: only then inputs may come."""
    wait_until(lambda: len(world.commits()) == world.partitions, 60, "each task has begun its ledger")
    told = [event["warning"] for event in gate.events("restored, but")]
    assert len(told) == world.partitions
    assert all("its changelog is a copy" in warning for warning in told)


def test_a_new_app_goes_on_behind_a_copy_of_the_changelog(broker: Broker, tmp_path: Path) -> None:
    old = World(broker.bootstrap_servers, tmp_path, "copied-from", partitions=2)
    with old:
        gate = old.gate("old")
        old.load(INPUTS)
        old.flush()
        old.decided()
        assert gate.terminate() == 0
        states = old.states()
    with World(broker.bootstrap_servers, tmp_path, "copied-to", partitions=2) as new:
        copy(old, new)
        gate = new.gate("new")
        begun(new, gate)
        new.load(INPUTS)  # the same inputs: what changed something is known as a repeat
        new.load(500, first=INPUTS, seed=2)
        new.flush()
        decisions = [decision for decision, _ in new.decided()]
        again = Counter(decision.outcome for decision in decisions if decision.first is not None)
        assert again[Outcome.DUPLICATE] > 500
        new.placet("verify")
        assert gate.terminate() == 0
        shutil.rmtree(new.folder / "state" / "new")
        new.gate("new", attempt="again")
        new.load(500, first=INPUTS + 500, seed=3)
        new.flush()
        new.decided()
        new.placet("verify")
        versions: dict[str, list[int]] = {}
        for change in new.changes():
            versions.setdefault(change.entity_id, []).append(change.state.version)
        assert all(seen == [*range(1, len(seen) + 1)] for seen in versions.values())
        assert all(versions[entity][-1] >= state.version for entity, state in states.items())
