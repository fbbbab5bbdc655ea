"""Gates of two versions side by side: what the newer one accepted is not lost where the older one goes on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from placet.cli.exit_codes import ExitCode
from placet.client import Client
from placet.definitions import load_definition
from placet.devbroker.broker import Broker
from placet.schemas.codec.contracts import contracts
from placet.schemas.decision import Outcome, Reason
from placet.schemas.errors import InvalidPayload
from tests.integration.gates import World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

V1 = """
entity: lamp
version: 1
statuses: [lit, blocked]
fields: {watts: {type: int, default: 5}}
signals:
  changed: {payload: {watts: int}, from: [absent, lit], to: lit, copy: watts}
"""
V2 = """
entity: lamp
version: 2
statuses: [lit, blocked]
fields:
  watts: {type: int, default: 5}
  owner: string | null
  fee: {type: decimal, precision: 9, scale: 2, default: '0'}
signals:
  changed: {payload: {watts: int}, from: [absent, lit], to: lit, copy: watts}
  owned:
    payload: {owner: string, fee: {type: decimal, precision: 9, scale: 2}}
    from: lit
    copy: [owner, fee]
proposals:
  block: {from: lit, to: blocked, fence: [owner], guard: state.owner != null, dedup: once}
"""
LAMPS = [f"l-{number}" for number in range(8)]


@pytest.fixture
def worlds(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[World, World]]:
    """One app, seen with the rules of version 1 and of version 2."""
    app = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_")).strip("-")[:60]
    files = tmp_path / "v1.yaml", tmp_path / "v2.yaml"
    for file, text in zip(files, (V1, V2), strict=True):
        file.write_text(text)
    with World(broker.bootstrap_servers, tmp_path, app, files[0], 2) as older:
        newer = World(broker.bootstrap_servers, tmp_path, app, files[1], 2)
        newer.gates = older.gates  # ended with the world
        for schema in contracts(load_definition(files[0])):
            newer.codec.learn(schema)
        yield older, newer


def facts(world: World, name: str, number: int, **payload: object) -> None:
    """Send a fact about every lamp, and wait until all of them are decided."""
    for lamp in LAMPS:
        world.signal(lamp, name, dict(payload), f"{name}-{number}-{lamp}")
    world.flush()
    world.decided(40)


def test_fields_of_a_newer_version_survive_the_gates_of_the_older_one(worlds: tuple[World, World]) -> None:
    older, newer = worlds
    old, spare = older.gate("old"), older.gate("spare")
    facts(older, "changed", 1, watts=1)
    wait_until(lambda: old.events("restored") and spare.events("restored"), 40, "each has a partition")
    for gate in (old, spare):
        gate.pause()  # until their session is over, as in a long pause of the machine: the new gate takes over
    new = newer.gate("new")
    facts(newer, "owned", 1, owner="nobody", fee=Decimal("1.00"))
    between = {lamp: state.version for lamp, state in newer.states().items()}
    facts(newer, "owned", 2, owner="me", fee=Decimal("2.50"))
    assert new.terminate() == 0
    for gate in (old, spare):
        gate.resume()
    facts(older, "changed", 2, watts=2)
    assert old.terminate() == 0
    with Client(newer.file, app=newer.app, bootstrap_servers=newer.bootstrap_servers) as client:
        facts(older, "changed", 3, watts=3)
        wait_until(lambda: client.read("l-1").fields["watts"] == 3, 10, "the client reads on")
        assert client.read("l-1").fields["owner"] == "me"
    assert spare.terminate() == 0
    newer.gate("new", attempt="again")
    for lamp, state in newer.states().items():
        newer.propose(lamp, "block", {}, f"stale-{lamp}", base_version=between[lamp])
        newer.propose(lamp, "block", {}, f"fresh-{lamp}", base_version=state.version)
    newer.flush()
    decisions = {decision.input_id: decision for decision, _ in newer.decided(40)}
    assert {decisions[f"stale-{lamp}"].reason for lamp in LAMPS} == {Reason.STALE}
    assert {decisions[f"fresh-{lamp}"].outcome for lamp in LAMPS} == {Outcome.ACCEPTED}
    fields = [state.fields for state in newer.states().values()]
    assert fields == [{"watts": 3, "owner": "me", "fee": Decimal("2.50")}] * len(LAMPS)
    newer.placet("verify", "--definition", str(newer.file))


def owned(newer: World, number: int) -> None:
    """Send facts that only version 2 knows, and see that it decided them."""
    facts(newer, "owned", number, owner="me", fee=Decimal(number))
    told = [(decision, at) for decision, at in newer.decided(40) if decision.input_id.startswith(f"owned-{number}-")]
    assert len(told) == len(LAMPS)
    assert {decision.outcome for decision, _ in told} == {Outcome.ACCEPTED}
    assert len({at.definition_digest for _, at in told}) == 1


def test_a_running_gate_goes_on_with_the_rules_that_another_one_published(worlds: tuple[World, World]) -> None:
    """Also after that one was killed; and a start with the older file changes nothing of it."""
    older, newer = worlds
    old = older.gate("old")
    facts(older, "changed", 1, watts=1)
    new = newer.gate("new")
    wait_until(lambda: old.events("rules changed"), 40, "the running gate has changed its rules")
    assert [event["version"] for event in old.events("rules changed")] == [2]
    new.kill()
    owned(newer, 1)
    assert old.terminate() == 0
    again = older.gate("old", attempt="again")
    owned(newer, 2)
    assert {at.definition_digest for _, at in newer.decided(40)} == {at.definition.digest for at in worlds}
    assert [event["version"] for event in again.events("rules changed")] == [2]
    newer.placet("verify", "--definition", str(newer.file))


def test_a_running_client_goes_on_by_the_rules_that_were_published(worlds: tuple[World, World]) -> None:
    older, newer = worlds
    gate = older.gate("old")
    facts(older, "changed", 1, watts=1)
    with Client("lamp", app=older.app, bootstrap_servers=older.bootstrap_servers) as client:
        assert client.read("l-1").fields == {"watts": 1}
        with pytest.raises(InvalidPayload, match="no proposal `block`"):
            client.propose(client.read("l-1"), "block")
        older.placet("definitions", "publish", str(newer.file))
        wait_until(lambda: gate.events("rules changed"), 20, "the gate goes by the new rules")
        wait_until(lambda: client.definition.version == 2, 10, "the client too")
        assert client.would_accept(client.read("l-1"), "block").reason is Reason.GUARD_FAILED
        fact = {"owner": "me", "fee": Decimal("1.00")}
        owned_by_me = client.signal_decided("l-1", "owned", fact, signal_id="owned-by-me")
        lamp = client.read("l-1", at_least_version=owned_by_me.version_after)
        assert lamp.fields == {"watts": 1, **fact}
        assert client.propose(lamp, "block").decision(30).outcome is Outcome.ACCEPTED
    facts(older, "changed", 2, watts=2)


def with_a_function(newer: World) -> str:
    """Let version 2 need a function; return the PYTHONPATH of an image that has it."""
    code = newer.folder / "code"
    code.mkdir()
    (code / "rules_of_lamps.py").write_text("def owned(scope):\n    return scope.state['owner'] is not None\n")
    newer.file.write_text(V2.replace("state.owner != null", "python:rules_of_lamps:owned"))
    return f"{code}:{os.environ.get('PYTHONPATH', '')}"


def test_what_a_live_gate_can_not_run_is_not_published_and_the_gate_stays(worlds: tuple[World, World]) -> None:
    older, newer = worlds
    path = with_a_function(newer)
    old = older.gate("old")
    facts(older, "changed", 1, watts=1)
    end = older.ends([f"{older.app}.control"])
    shown = newer.placet("definitions", "publish", str(newer.file), "--dry-run", check=False, PYTHONPATH=path)
    assert shown.returncode == 1
    assert "old can't: " in shown.stdout
    new = newer.gate("new", PYTHONPATH=path)
    assert new.process.wait(60) == ExitCode.WRONG, new.text()
    assert re.search(
        "version 2 is not published: not every live gate can run it:.*old: .*rules_of_lamps", new.text(), re.S
    )
    assert older.ends([f"{older.app}.control"]) == end
    facts(older, "changed", 2, watts=2)
    assert old.process.poll() is None
    assert old.events("rules in force can't be run here") == []
    able = older.gate("able", PYTHONPATH=path)
    wait_until(lambda: able.events("tasks"), 40, "the one with the code is in the group")
    assert old.terminate() == 0
    newer.placet("definitions", "publish", str(newer.file), PYTHONPATH=path)
    wait_until(lambda: able.events("rules changed"), 20, "it decides by what was published")


def test_a_gate_that_is_gone_is_waited_for_until_its_session_ends(worlds: tuple[World, World]) -> None:
    older, newer = worlds
    old, spare = older.gate("old"), older.gate("spare")
    facts(older, "changed", 1, watts=1)
    wait_until(lambda: old.events("restored") and spare.events("restored"), 40, "each has a partition")
    spare.kill()
    published = newer.placet("definitions", "publish", str(newer.file))
    assert "waiting for spare" in published.stderr
    assert "lamp: old can run it" in published.stdout
    wait_until(lambda: old.events("rules changed"), 20, "it decides by what was published")


def test_a_gate_that_can_not_run_what_is_in_force_leaves_its_tasks_to_others(worlds: tuple[World, World]) -> None:
    older, newer = worlds
    path = with_a_function(newer)
    old = older.gate("old")
    facts(older, "changed", 1, watts=1)
    newer.gate("new", PYTHONPATH=path, PLACET_FORCE="true")
    [told] = wait_until(lambda: old.events("rules in force can't be run here"), 40, "the gate lacks the function")
    assert "version 2 is in force, and can't be run here" in told["why"]
    assert "rules_of_lamps" in told["why"]
    owned(newer, 1)
    assert old.events("tasks")[-1]["running"] == []
    assert old.process.poll() is None
    older.placet("definitions", "withdraw", "lamp", "--force")
    wait_until(lambda: old.events("joining the group again"), 40, "it can run the rules that were withdrawn to")
    facts(older, "changed", 2, watts=2)
    wait_until(lambda: old.events("tasks")[-1]["running"], 40, "it decides again")
