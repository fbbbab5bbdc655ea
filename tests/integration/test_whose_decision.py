"""Whose decision is it? Ids are the senders', may be used twice or not be readable: the place of the input tells."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from placet.client import AsyncClient, Client, Proposal
from placet.client.compose import Composer
from placet.client.core import Call
from placet.devbroker.broker import Broker
from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Outcome, Reason, Retry
from placet.schemas.definition.model import parse_definition
from tests.integration.gates import World

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

ORDER = """
entity: order
version: 1
statuses: [open]
fields: {note: {type: string, default: ''}}
signals:
  opened: {from: absent, to: open}
proposals:
  hold: {payload: {note: string}, fence: none, from: open, copy: note}
  nope: {payload: {note: string}, fence: none, from: open, guard: "false", copy: note}
"""
NEWER = ORDER.replace("version: 1", "version: 2").replace("fence: none", "fence: none, valid_for: 5m").replace(
    "payload: {note: string}", "payload: {note: string, why: {type: string, default: ''}}"
)  # fmt: skip


@pytest.fixture(scope="module")
def world(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("whose")
    file = folder / "order.yaml"
    file.write_text(ORDER)
    with World(broker.bootstrap_servers, folder, "whose", file, partitions=1) as made:
        made.gate("a")
        made.signal("o-1", "opened", {}, "s-1")
        made.flush()
        made.decided()
        yield made


def where(world: World) -> dict[str, Any]:
    return {"app": world.app, "bootstrap_servers": world.bootstrap_servers}


def test_two_proposals_of_one_id_get_each_its_own_decision(world: World) -> None:
    with Client(world.file, **where(world)) as client:
        order = client.read("o-1")
        told = []
        for round_ in range(20):  # one after the other without waiting: decisions and reports come as they like
            held = client.propose(order, "hold", {"note": f"x{round_}"}, dedup_key=f"h{round_}", proposal_id="p-1")
            refused = client.propose(order, "nope", {"note": "y"}, dedup_key=f"n{round_}", proposal_id="p-1")
            told += [(held, "hold", Reason.NONE), (refused, "nope", Reason.GUARD_FAILED)]
        for proposal, name, reason in told:
            decision = proposal.decision(30)
            assert (decision.name, decision.reason) == (name, reason)
            assert proposal.decision(0) == decision


def test_awaited_by_many_too(world: World) -> None:
    async def both() -> list[tuple[str, Outcome]]:
        async with AsyncClient(world.file, **where(world)) as client:
            order = await client.read("o-1")
            proposals = [
                client.propose(order, name, {"note": "z"}, dedup_key=f"async-{name}", proposal_id="p-2")
                for name in ("hold", "nope")
            ]
            decisions = await asyncio.gather(*(proposal.decision(30) for proposal in proposals))
            return [(decision.name, decision.outcome) for decision in decisions]

    assert asyncio.run(both()) == [("hold", Outcome.ACCEPTED), ("nope", Outcome.REFUSED)]


def test_explain_tells_of_all_inputs_of_an_id(world: World) -> None:
    file = str(world.file)
    for name in ("hold", "nope"):
        said = ("--dedup-key", f"shell-{name}", "--id", "p-3", "--definition", file)
        world.placet("propose", "o-1", name, '{"note": "q"}', *said, "--wait", check=False)
    text = world.placet("explain", "p-3", "--definition", file).stdout
    assert text.startswith("proposal nope of o-1")
    assert "2 inputs have this id; this is the latest" in text
    assert re.search(r"ACCEPTED +hold of o-1 \(p-3\), whose\.order\.proposals-0@\d+\n", text)
    form = json.loads(world.placet("explain", "p-3", "--definition", file, "--output", "json").stdout)
    assert form["decided"]["times"] == 2
    [other] = form["others_of_this_id"]
    assert (other["name"], other["outcome"]) == ("hold", "ACCEPTED")
    assert other["decided"]["input"] != form["decided"]["input"]


def test_a_decision_without_an_id_is_waited_for_too(world: World) -> None:
    """A producer that is ahead of the gate: the gate can't read its records, so its decision names no id."""
    rules = parse_definition(NEWER)
    codec, now_ms = Codec(rules), time.time_ns() // 1_000_000
    with Client(world.file, **where(world)) as client:
        order = client.read("o-1")
        message = Composer(rules, codec).proposal(
            order, "hold", {"note": "q", "why": "w"}, now_ms, proposal_id="p-4", dedup_key="newer"
        )
        sent = client._core.exchange.send(message, codec.encode_message(message), [], answered=True)
        decision = Proposal(Call(message, sent)).decision(30)
    assert (decision.reason, decision.input_id, decision.retry) == (Reason.UNKNOWN_SCHEMA, "", Retry.LATER)


def test_the_shell_makes_nothing_that_no_gate_can_read(world: World) -> None:
    newer = world.folder / "newer.yaml"
    newer.write_text(NEWER)
    said = ("--dedup-key", "newer", "--id", "p-5", "--definition", str(newer), "--wait", "--timeout", "10")
    done = world.placet("propose", "o-1", "hold", '{"note": "q", "why": "w"}', *said, check=False)
    assert done.returncode == 2, done.stderr
    assert "`why` is no field of `hold`; it has note. Version 1 of `order` is in force" in done.stderr
    assert "try again later" in done.stderr
