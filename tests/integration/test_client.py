"""The client against a real gate: agents that read, think and propose; facts; followers of the changelog."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from placet.client import AsyncClient, Client, DecisionTimeout, NotConnected, Outcome, Reason, Retry, Snapshot
from placet.devbroker.broker import Broker
from placet.schemas.errors import SettingsError
from placet.streams.telemetry.log import client_logger
from tests.integration.gates import World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

PAGE = Path(__file__).parents[2] / "docs" / "client.md"


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
    assert (seen.version, seen.fields["note"]) == (11, "10")
    assert tries["NONE"] == 10
    assert tries["STALE"] > 0


def test_a_lost_reply_is_met_by_proposing_again_with_the_same_key(client: Client) -> None:
    client.signal("o-lost", "opened", {"total": 1}, signal_id="s-lost")
    seen = client.read("o-lost", at_least_version=1)
    lost = client.propose(seen, "hold", {"note": "once"}, caused_by="ticket-1")
    del lost  # the reply never arrives, and the agent reads the state anew
    again = client.read("o-lost", at_least_version=2)
    decision = client.propose(again, "hold", {"note": "once"}, caused_by="ticket-1").decision()
    assert (decision.outcome, decision.reason, decision.applied) == (Outcome.DUPLICATE, Reason.REPEATED, True)
    assert decision.first is not None
    assert decision.first.version == 2
    assert client.read("o-lost").version == 2


def test_would_accept_says_what_the_gate_then_says(client: Client) -> None:
    nobody = client.read("o-would")
    assert (nobody.status, nobody.version, nobody.exists, nobody.fields["total"]) == ("absent", 0, False, 0)
    assert client.would_accept(nobody, "hold", {"note": "x"}).reason is Reason.ILLEGAL_TRANSITION
    assert client.propose(nobody, "hold", {"note": "x"}, dedup_key="w-0").decision().reason is Reason.ILLEGAL_TRANSITION
    opened = client.signal_decided("o-would", "opened", {"total": 1}, signal_id="s-would")
    assert opened.applied
    seen = client.read("o-would")  # no version is asked for: it never goes behind what a decision said
    assert seen.version == opened.version_after == 1
    assert seen.change is not None
    assert (seen.change.input_id, seen.change.proposer) == ("s-would", "tester")
    foreseen = client.would_accept(seen, "hold", {"note": "x"})
    decision = client.propose(seen, "hold", {"note": "x"}, dedup_key="w-1").decision()
    assert foreseen.applied
    assert (foreseen.status_after, foreseen.version_after) == (decision.status_after, decision.version_after)


def test_five_hundred_proposals_at_once(world: World) -> None:
    async def one(client: AsyncClient, n: int) -> Outcome:
        seen = await client.read(f"o-many-{n % 50}")
        decision = await client.propose(seen, "annotate", {"note": f"n{n}"}, dedup_key=f"many-{n}").decision(60)
        return decision.outcome

    async def main() -> Counter[Outcome]:
        async with AsyncClient(world.file, app=world.app, bootstrap_servers=world.bootstrap_servers) as client:
            opening = (client.signal(f"o-many-{n}", "opened", {"total": n}, signal_id=f"s-many-{n}") for n in range(50))
            await asyncio.gather(*opening)
            await asyncio.gather(*(client.read(f"o-many-{n}", at_least_version=1) for n in range(50)))
            return Counter(await asyncio.gather(*(one(client, n) for n in range(500))))

    assert asyncio.run(main()) == {Outcome.ACCEPTED: 500}


def test_rules_from_the_log_and_changes_for_those_who_keep_them(world: World, client: Client) -> None:
    with Client("order", app=world.app, bootstrap_servers=world.bootstrap_servers) as by_name:
        assert by_name.definition == client.definition
        by_name.signal("o-kept", "opened", {"total": 3}, signal_id="s-kept-1")
        by_name.signal("o-kept", "closed", signal_id="s-kept-2")
        by_name.signal("o-kept", "opened", {"total": 4}, signal_id="s-kept-3")
        by_name.read("o-kept", at_least_version=3)
    kept: dict[str, Snapshot] = {}
    for batch in client.changes("sink", batch_max=50):
        for snapshot in batch:
            if snapshot.version > kept.get(snapshot.entity_id, Snapshot("")).version:
                kept[snapshot.entity_id] = snapshot
        assert batch.commit()
        if kept.get("o-kept", Snapshot("")).version == 3:
            break
    assert kept["o-kept"].fields == {"total": 4, "note": None}
    home = world.send_home(b"o-kept")  # of its partition all was read
    beside = [name for name in kept if world.send_home(name.encode()) == home]
    assert {name: kept[name] for name in beside} == {name: client.read(name) for name in beside}
    client.signal("o-kept-2", "opened", {"total": 9}, signal_id="s-kept-4")
    batch = next(iter(client.changes("sink")))  # the group goes on where it was
    assert "o-kept" not in [snapshot.entity_id for snapshot in batch]


def test_changes_may_be_left_at_any_moment(world: World) -> None:
    async def main() -> None:
        async with AsyncClient("order", app=world.app, bootstrap_servers=world.bootstrap_servers) as client:
            await client.signal("o-left", "opened", {"total": 1}, signal_id="s-left")
            changes = client.changes("left")
            kept = await anext(changes)
            assert await kept.commit()

            async def follow() -> None:
                async for _ in changes:
                    pass

            with pytest.raises(TimeoutError):  # cancelled in the midst of a poll
                await asyncio.wait_for(follow(), 0.5)
            with pytest.raises(NotConnected, match="has ended before the batch was committed"):
                await kept.commit()

    asyncio.run(main())


def test_the_client_starts_before_the_gate(broker: Broker, tmp_path: Path) -> None:
    with World(broker.bootstrap_servers, tmp_path, "client-first", partitions=1) as world:
        where = {"app": world.app, "bootstrap_servers": world.bootstrap_servers}
        with pytest.raises(SettingsError, match="No gate has published a definition of `order`"):
            Client("order", **where, connect_timeout_s=0.1).open()
        with Client(world.file, **where) as client:
            waiting = client.propose(client.read("o-1"), "annotate", {"note": "x"}, dedup_key="k")
            waiting.durable()
            with pytest.raises(DecisionTimeout, match="same dedup key is safe"):
                waiting.decision(timeout_s=0.05)
            began = time.monotonic()
            world.gate("a")
            assert waiting.decision().reason is Reason.ILLEGAL_TRANSITION
            assert time.monotonic() - began < 30


def test_topics_that_are_missing_are_named(broker: Broker) -> None:
    with pytest.raises(SettingsError, match=r"no topic nobody\.control.*placet topics apply"):
        Client("order", app="nobody", bootstrap_servers=broker.bootstrap_servers, connect_timeout_s=0.1).open()


def test_trace_context_travels_in_the_header(world: World, client: Client) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    client.signal("o-trace", "opened", {"total": 1}, signal_id="s-trace", traceparent=traceparent)
    with pytest.raises(ValueError, match="is no traceparent"):
        client.signal("o-trace", "opened", {"total": 1}, signal_id="s-trace", traceparent="x")
    sent = [m for m in world.read(world.topics.signals) if m.key() == b"o-trace"]
    assert [dict(m.headers())["traceparent"] for m in sent] == [traceparent.encode()]
    assert sent[0].partition() == world.send_home(b"o-trace")
    wait_until(lambda: "o-trace" in world.states(), 10, "it is decided")


# -- what docs/client.md says -----------------------------------------------------------------------------------------


@pytest.fixture
def page(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the page's programs define, each program run as it stands there."""
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    found: dict[str, Any] = {}
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)):
        exec(compile(code, f"docs/client.md, block {number}", "exec"), found)
    return found


@asynccontextmanager
async def browser(page: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    """Asks the page's web application, which lives as a server would let it live."""
    transport = httpx.ASGITransport(page["app"])
    async with page["lifespan"](page["app"]), httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        yield client


def test_an_agents_loop_is_fifteen_lines() -> None:
    [loop] = re.findall(r"^async def agent\(.*?(?=^```)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(loop.strip().splitlines()) <= 15


def test_the_pages_agent_thinks_again_when_the_world_moved(world: World, page: dict[str, Any]) -> None:
    thoughts: list[int] = []

    async def main() -> None:
        async with AsyncClient("order") as orders:

            async def think(order: Snapshot) -> str:
                thoughts.append(order.version)
                if len(thoughts) == 1:  # the world moves while it thinks
                    await orders.signal("o-page", "added", {"amount": 2}, signal_id="add-1")
                    await orders.read("o-page", at_least_version=2)
                return f"thought of {order.version}"

            page["think"] = think
            await orders.signal("o-page", "opened", {"total": 5}, signal_id="pay-page")
            await orders.read("o-page", at_least_version=1)
            assert await page["is_worth_thinking"](orders, "o-page")
            decision = await page["agent"](orders, "o-page", "ticket-page")
            assert decision.applied
            assert thoughts == [1, 2]
            again = await page["agent"](orders, "o-page", "ticket-page")
            assert again.reason is Reason.DEDUP_KEY_REUSED, "another thought for the same ticket is not applied"

    asyncio.run(main())


def test_the_pages_web_handler_puts_facts_on_the_log(world: World, page: dict[str, Any]) -> None:
    async def main() -> None:
        async with browser(page) as shop:
            for _ in range(2):  # the payment provider calls again: it is the same fact
                answer = await shop.post("/orders/o-web/opened", params={"payment_id": "pay-web", "total": 5})
                assert (answer.status_code, answer.json()) == (202, {"status": "on the log"})
            wrong = await shop.post("/orders/o-web/opened", params={"payment_id": "pay-2", "total": 2**70})
            assert wrong.status_code == 422
            assert "`total` is 1180591620717411303424" in wrong.json()["detail"]
            order = await page["orders"].read("o-web", at_least_version=1)
            assert (order.status, order.fields["total"]) == ("open", 5)

    asyncio.run(main())
    world.decided()
    assert [(d.input_id, d.outcome.name) for d, _ in world.decisions() if d.entity_id == "o-web"] == [
        ("pay-web", "ACCEPTED"),
        ("pay-web", "DUPLICATE"),
    ]


def test_the_pages_web_handler_says_so_when_the_broker_is_away(
    world: World, page: dict[str, Any], broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    where, what = "/orders/o-away/opened", {"payment_id": "pay-away", "total": 5}
    caplog.set_level(logging.WARNING, "placet")  # a test of the shell may have silenced it
    for known in client_logger().filters:
        known._last_s.clear()  # type: ignore[union-attr]

    async def main() -> None:
        async with browser(page) as shop:
            before = "/orders/o-before-that/opened", {"payment_id": "pay-before-that", "total": 5}
            while (await shop.post(before[0], params=before[1])).status_code != 202:
                pass  # an earlier test's outage is over for this client
            caplog.clear()
            await asyncio.to_thread(broker.stop)
            try:
                away = await shop.post(where, params=what)
            finally:
                await asyncio.to_thread(broker.start)
            assert away.status_code == 503
            assert away.json()["detail"] == (
                "`opened` (pay-away) of o-away was not confirmed within 5 s. Sending it again with the same id and key "
                "is safe."
            )
            again = await shop.post(where, params=what)
            while again.status_code == 503:
                again = await shop.post(where, params=what)
            assert again.status_code == 202
            order = await page["orders"].read("o-away", at_least_version=1, timeout_s=60)
            assert (order.version, order.fields["total"]) == (1, 5)

    asyncio.run(main())
    world.decided()
    decisions = [d for d, _ in world.decisions() if d.entity_id == "o-away"]
    assert {d.input_id for d in decisions} == {"pay-away"}
    assert [d.outcome.name for d in decisions].count("ACCEPTED") == 1
    assert world.states()["o-away"].version == 1
    lost, *more, found = [(record.name, record.getMessage()) for record in caplog.records]
    assert lost[0] == "placet.librdkafka"
    assert broker.bootstrap_servers in lost[1], "who is away, and why"
    assert more == [], "one line for each change, however often it is tried"
    assert found == ("placet.client", "Kafka answers again")
    clients = re.findall(r"FAIL \[(\S+)\]", world.gates[0].text())
    assert len(clients) == len(set(clients)), "each client of the gate says it once at most"
