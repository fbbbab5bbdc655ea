"""An entity that is deleted and created again: what was read of its first life proposes nothing in its second."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from placet.devbroker.broker import Broker
from placet.schemas.decision import Decision, Reason
from tests.integration.gates import World

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

TICKET = """
entity: ticket
version: 1
statuses: [open]
fields: {estimate: {type: long, default: 0}}
signals:
  opened: {from: absent, to: open}
  removed: {from: any, to: absent}
proposals:
  assess: {payload: {estimate: long}, fence: [estimate], from: open, copy: estimate}
"""


@pytest.fixture
def world(broker: Broker, tmp_path: Path) -> Iterator[World]:
    file = tmp_path / "ticket.yaml"
    file.write_text(TICKET)
    with World(broker.bootstrap_servers, tmp_path, "lives", file, partitions=1) as made:
        yield made


def decided(world: World, proposal_id: str, base_version: int) -> Decision:
    """Propose without an incarnation, as one does who can't know it."""
    world.propose("t-1", "assess", {"estimate": 8}, proposal_id, base_version=base_version)
    world.flush()
    return {decision.input_id: decision for decision, _ in world.decided()}[proposal_id]


def test_a_fence_on_fields_is_stale_across_deletion_and_creation(world: World) -> None:
    gate = world.gate("a")
    for number, name in enumerate(("opened", "removed", "opened")):
        world.signal("t-1", name, {}, f"s-{number}")
    world.flush()
    world.decided()
    assert world.states()["t-1"].version == 3
    stale = decided(world, "p-1", 1)
    assert (stale.reason, [tuple(conflict) for conflict in stale.conflicts]) == (Reason.STALE, [(3, ("estimate",))])
    assert "deleted and created again" in stale.detail
    told = world.placet("explain", "p-1", "--definition", str(world.file)).stdout
    assert "life: based on an earlier one | deleted, and created again as version 3" in told
    assert gate.terminate() == 0
    shutil.rmtree(world.folder / "state")
    world.gate("a", attempt=2)  # it knows of the two lives from the log alone
    assert decided(world, "p-2", 2).reason is Reason.STALE
    assert decided(world, "p-3", 3).reason is Reason.NONE
    world.placet("verify")
