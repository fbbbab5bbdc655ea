"""The client against a real gate: agents that read, think and propose; facts; followers of the changelog."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from placet.client import AsyncClient, Client, DecisionTimeout, Outcome, Reason, Retry, Snapshot
from placet.schemas.errors import SettingsError
from placet.streams.broker import Broker
from tests.integration.gates import World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def world(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One app with one gate for all tests here: each test has entities of its own."""
    with World(broker.bootstrap_servers, tmp_path_factory.mktemp("client"), "client", partitions=2) as made:
        made.gate("a")
        yield made


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    with Client(world.file, app=world.app, bootstrap_servers=world.bootstrap_servers, sender="tester") as opened:
        yield opened


def test_an_agent_reads_thinks_proposes_and_recomputes_when_stale(world: World) -> None:
    """Ten agents want to count one note up, all at once: each has to think again until nobody was faster."""
    tries: Counter[str] = Counter()

    async def agent(client: AsyncClient, name: str) -> None:
        while True:
            order = await client.read("o-agents")
            await asyncio.sleep(0.01)  # thinking
            note = str(int(str(order.fields["note"] or 0)) + 1)
            proposal = client.propose(order, "hold", {"note": note}, dedup_key=name, proposer=name, model="m-1")
            decision = await proposal.decision()
            tries[decision.reason.name] += 1
            if decision.applied:
                return
            assert decision.retry is Retry.RECOMPUTE, decision

    async def main() -> Snapshot:
        async with AsyncClient(world.file, app=world.app, bootstrap_servers=world.bootstrap_servers) as client:
            await client.signal("o-agents", "opened", {"total": 1}, signal_id="s-agents")
            await client.read("o-agents", at_least_version=1)
            async with asyncio.TaskGroup() as group:
                for n in range(10):
                    group.create_task(agent(client, f"agent-{n}"))
            return await client.read("o-agents")

    seen = asyncio.run(main())
    assert seen.fields["note"] == "10"
    assert seen.version == 11
    assert tries["NONE"] == 10
    assert tries["STALE"] > 0
