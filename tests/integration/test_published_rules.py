"""A new version of the rules: what does not go with what is in force changes nothing, for nobody."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from placet.cli.exit_codes import ExitCode
from placet.client import Client
from placet.devbroker.broker import Broker
from placet.schemas.codec.contracts import contracts
from placet.schemas.codec.control import Published, encode_control
from placet.schemas.decision import Outcome, Reason
from placet.schemas.definition.model import parse_definition
from tests.integration.gates import Gate, World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

V1 = """
entity: lamp
version: 1
statuses: [lit, dim, dark]
final: [dark]
fields: {watts: {type: int, default: 5}}
signals:
  changed: {payload: {watts: int}, from: [absent, lit], to: lit, copy: watts}
  dimmed: {from: lit, to: dim}
proposals:
  darken: {from: [lit, dim], to: dark, dedup: once}
"""
V2 = V1.replace("version: 1", "version: 2")
RETYPED = V2.replace("{type: int, default: 5}", "{type: string, default: a}").replace("watts: int", "watts: string")
MISSPELT = V2.replace("copy: watts}", "copy: watts, guard: state.wats < 3}")
WITHOUT_DIM = V2.replace("[lit, dim, dark]", "[lit, dark]").replace("from: [lit, dim]", "from: lit")
WITHOUT_DIM = WITHOUT_DIM.replace("dimmed: {from: lit, to: dim}", "dimmed: {from: lit}")
BRIGHTER = V2.replace("  dimmed:", "  brightened: {from: dim, to: lit}\n  dimmed:")
V3 = V1.replace("version: 1", "version: 3")

ADVISOR = """
import pathlib, sys
from placet.advisor import Advice, Advisor
advisor = Advisor(pathlib.Path(sys.argv[1]), name="watch")
@advisor.on("changed")
async def think(signal, lamp):
    print("thought of", signal.signal_id, flush=True)
    return Advice("darken", {}) if signal.signal_id == "dark" else None
raise SystemExit(advisor.run())
"""


@pytest.fixture
def world(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    app = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_")).strip("-")[:60]
    file = tmp_path / "v1.yaml"
    file.write_text(V1)
    with World(broker.bootstrap_servers, tmp_path, app, file, partitions=1) as made:
        yield made


def start(world: World, instance: str, text: str, attempt: str = "", **more: str) -> Gate:
    """Start a gate by other rules."""
    file, world.file = world.file, world.folder / f"{instance}{attempt}.yaml"
    world.file.write_text(text)
    try:
        return world.gate(instance, attempt=attempt, **more)
    finally:
        world.file = file


def refused(gate: Gate) -> str:
    """Wait until a gate has refused to start; return what it said."""
    assert gate.process.wait(40) == ExitCode.WRONG, gate.text()
    return gate.text()


def control_end(world: World) -> int:
    return world.ends([f"{world.app}.control"]).get((f"{world.app}.control", 0), 0)


def decide_one(world: World, number: int) -> None:
    world.signal("l-1", "changed", {"watts": number}, f"s-{number}")
    world.flush()
    world.decided(30)


def client_of(world: World, wanted: str = "") -> Client:
    return Client(wanted or world.file, app=world.app, bootstrap_servers=world.bootstrap_servers)


def test_a_bad_definition_changes_nothing_on_the_log(world: World) -> None:
    first = world.gate("g-1")
    decide_one(world, 1)
    end = control_end(world)
    with client_of(world) as running:
        assert running.read("l-1").fields["watts"] == 1
        misspelt, retyped = start(world, "g-2", MISSPELT), start(world, "g-3", RETYPED)
        forced = start(world, "g-4", RETYPED, PLACET_FORCE="true")
        assert "wats" in refused(misspelt)
        for gate in (retyped, forced):
            assert re.search("it can't read what version 1 wrote.*watts.*This can't be forced", refused(gate))
        assert control_end(world) == end
        decide_one(world, 2)
        wait_until(lambda: running.read("l-1").fields["watts"] == 2, 10, "the running client goes on")
    with client_of(world) as new, client_of(world, "lamp") as by_name:
        assert [opened.read("l-1").fields["watts"] for opened in (new, by_name)] == [2, 2]
    assert '"watts": 2' in world.placet("state", "get", "l-1", "-o", "json").stdout
    assert first.terminate() == 0
    again = world.gate("g-1", attempt="again")
    decide_one(world, 3)
    assert again.terminate() == 0
    start(world, "g-3", V3)
    decide_one(world, 4)
    assert control_end(world) > end
    world.placet("verify")


def test_a_status_with_entities_in_it_vanishes_only_when_it_is_forced(world: World) -> None:
    gate = world.gate("g-1")
    for number in range(5):
        world.signal(f"l-{number}", "changed", {"watts": number}, f"s-{number}")
    for number in range(4):
        world.signal(f"l-{number}", "dimmed", {}, f"d-{number}")
    world.flush()
    world.decided(30)
    world.propose("l-3", "darken", {}, "p", base_version=2)  # not before: topics have no order among each other
    world.flush()
    world.decided(30)
    end = control_end(world)
    assert gate.terminate() == 0
    said = refused(start(world, "g-1", WITHOUT_DIM, "v2"))
    assert "statuses.dim removed: 3 entities stand in it now" in said
    assert "--force" in said
    assert control_end(world) == end
    doctor = world.placet("doctor", "--definition", str(world.folder / "g-1v2.yaml"), check=False)
    assert "statuses.dim removed" in " ".join(doctor.stdout.split())

    forced = start(world, "g-1", WITHOUT_DIM, "forced", PLACET_FORCE="true")
    wait_until(lambda: control_end(world) > end, 30, "the forced version is published")
    (event,) = wait_until(lambda: forced.events("incompatible definition forced"), 30, "it is told")
    assert "3 entities stand in it now" in event["what"]
    world.signal("l-1", "changed", {"watts": 9}, "late")
    world.signal("l-4", "changed", {"watts": 9}, "fine")
    world.flush()
    decisions = {decision.input_id: decision for decision, _ in world.decided(30)}
    assert decisions["late"].reason is Reason.ILLEGAL_TRANSITION
    assert decisions["fine"].outcome is Outcome.ACCEPTED
    assert forced.terminate() == 0
    again = start(world, "g-1", WITHOUT_DIM, "again")
    world.signal("l-4", "changed", {"watts": 10}, "later")
    world.flush()
    world.decided(30)
    assert again.terminate() == 0
    world.placet("verify")


def test_definitions_are_published_listed_and_withdrawn_by_hand(world: World) -> None:
    gate, file = world.gate("g-1"), world.folder / "next.yaml"
    decide_one(world, 1)
    world.signal("l-1", "dimmed", {}, "d-1")
    world.flush()
    world.decided(30)
    end = control_end(world)
    file.write_text(BRIGHTER)
    foreseen = world.placet("definitions", "publish", str(file), "--dry-run").stdout
    assert "lamp: version 2 will follow version 1" in foreseen
    assert "signals.brightened" in foreseen
    assert "nothing was published" in foreseen
    assert control_end(world) == end
    world.placet("definitions", "publish", str(file))
    wait_until(lambda: gate.events("rules changed"), 20, "the running gate decides by it")

    file.write_text(WITHOUT_DIM.replace("version: 2", "version: 3"))
    refused_by_hand = world.placet("definitions", "publish", str(file), "--output", "json", check=False)
    assert refused_by_hand.returncode == ExitCode.DIFFERENCE
    form = json.loads(refused_by_hand.stdout)
    assert (form["published"], form["plans"][0]["standing"]) == (False, {"dim": 1})
    assert "1 entity stands in it now" in form["refused"]

    assert world.placet("definitions", "withdraw", "lamp", check=False).returncode == ExitCode.DIFFERENCE
    world.placet("definitions", "withdraw", "lamp", "--force")
    wait_until(lambda: len(gate.events("rules changed")) == 2, 20, "the running gate decides by the rules before it")
    listed = json.loads(world.placet("definitions", "list", "--output", "json").stdout)
    assert [(row["version"], row["state"]) for row in listed] == [
        (1, "was in force"), (2, "was in force"), (3, "in force"),
    ]  # fmt: skip
    assert gate.events("rules changed")[1]["version"] == 3
    world.signal("l-2", "changed", {"watts": 7}, "s-2")
    world.flush()
    world.decided(30)
    again = world.placet("definitions", "withdraw", "lamp", check=False)
    assert (again.returncode, "rules of version 1 again" in " ".join(again.stderr.split())) == (ExitCode.WRONG, True)
    lower = world.placet("definitions", "publish", str(world.file), "-o", "json", check=False)
    assert (lower.returncode, json.loads(lower.stdout)["published"]) == (ExitCode.DIFFERENCE, False)
    missing = world.placet("definitions", "withdraw", "lamp", "--to", "9", check=False)
    assert missing.returncode == ExitCode.WRONG
    assert "no version 9 of `lamp` before version 3; there are: 1, 2" in " ".join(missing.stderr.split())
    world.placet("verify")


def publish(world: World, text: str) -> None:
    """Publish as an earlier release did, which looked at what is in force afterwards."""
    bad, now = parse_definition(text), time.time_ns() // 1_000_000
    schemas = {role: json.dumps(schema) for role, schema in contracts(bad)._asdict().items()}
    value = encode_control(Published(bad.entity, bad.version, bad.digest, 1, bad.document, schemas, now))
    world.send(f"{world.app}.control", f"definition/lamp/{bad.digest.hex()}".encode(), value, 0)
    world.flush()


@pytest.mark.long
def test_what_an_earlier_release_published_is_passed_over(world: World) -> None:
    gate = world.gate("g-1")
    decide_one(world, 1)
    program, log = world.folder / "advisor.py", world.folder / "advisor.log"
    program.write_text(ADVISOR)
    with log.open("ab") as out, client_of(world) as running:
        advisor = subprocess.Popen(
            [sys.executable, str(program), str(world.file)], env=world.environment(), stdout=out, stderr=out
        )
        try:
            assert running.read("l-1").fields["watts"] == 1
            world.signal("l-1", "changed", {"watts": 2}, "before")
            world.flush()
            wait_until(lambda: "thought of before" in log.read_text(), 40, "the advisor is at work")
            publish(world, RETYPED)
            publish(world, MISSPELT.replace("version: 2", "version: 3"))
            world.signal("l-1", "changed", {"watts": 3}, "after")
            world.signal("l-1", "changed", {"watts": 4}, "dark")
            world.flush()
            wait_until(lambda: "thought of dark" in log.read_text(), 20, "the advisor goes on")
            wait_until(lambda: running.read("l-1").status == "dark", 20, "the running client goes on")
            assert advisor.poll() is None
            assert gate.process.poll() is None
        finally:
            advisor.terminate()
            assert advisor.wait(40) == 0, log.read_text()
    with client_of(world) as new, client_of(world, "lamp") as by_name:
        assert [opened.read("l-1").fields["watts"] for opened in (new, by_name)] == [4, 4]
    assert '"watts": 4' in world.placet("state", "get", "l-1", "-o", "json").stdout
    doctor = " ".join(world.placet("doctor", "--definition", str(world.file), check=False).stdout.split())
    assert "lamp version 2" in doctor
    assert "is passed over" in doctor
    assert gate.terminate() == 0
    v4 = start(world, "g-4", V1.replace("version: 1", "version: 4"))
    world.signal("l-2", "changed", {"watts": 5}, "v4")
    world.flush()
    world.decided(30)
    assert v4.events("published version passed over")[0]["version"] == 2
    world.placet("verify")
