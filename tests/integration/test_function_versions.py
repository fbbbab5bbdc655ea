"""Other code for a `python:` function in a running fleet: code first, then the definition, and no restart for it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from placet.cli.exit_codes import ExitCode
from placet.client import Client
from placet.devbroker.broker import Broker
from placet.schemas.decision import Outcome, Reason
from tests.integration.gates import Gate, World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

MODULE = "rules_of_lamps_by_version"
PLAIN = "def bright(scope):\n    return scope.payload['watts'] < 100\n"
SECOND = "\n\ndef bright_v2(scope):\n    return scope.payload['watts'] < 10\n"
STUCK = "\n\ndef bright_v3(scope):\n    while scope.payload['watts'] == 77:\n        pass\n    return True\n"
TEXT = """
entity: lamp
version: {version}
statuses: [lit]
fields: {{watts: {{type: int, default: 5}}}}
signals:
  changed: {{payload: {{watts: int}}, from: [absent, lit], to: lit, copy: watts, guard: "python:{module}:{name}"}}
"""
LAMPS = [f"l-{number}" for number in range(8)]


def text(version: int, name: str) -> str:
    return TEXT.format(version=version, module=MODULE, name=name)


def image(folder: Path, *code: str) -> Path:
    """Write the code of an image; return its folder."""
    folder.mkdir()
    (folder / f"{MODULE}.py").write_text("".join(code))
    return folder


@pytest.fixture
def world(
    broker: Broker, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """Lamps of version 1, as they were before any version of a function. This process, and commands, have all code."""
    app = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_")).strip("-")[:60]
    code = image(tmp_path / "all", PLAIN, SECOND, STUCK)
    monkeypatch.setenv("PYTHONPATH", f"{code}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(code)
    file = tmp_path / "v1.yaml"
    file.write_text(text(1, "bright"))
    with World(broker.bootstrap_servers, tmp_path, app, file, 2) as made:
        yield made


def start(world: World, instance: str, code: Path, attempt: str = "") -> Gate:
    """Start a gate of this image."""
    return world.gate(instance, attempt=attempt, PYTHONPATH=f"{code}:{os.environ['PYTHONPATH'].partition(':')[2]}")


def facts(world: World, number: int, watts: int) -> set[Reason]:
    """Send a fact about every lamp, and wait until all are decided; return the reasons."""
    for lamp in LAMPS:
        world.signal(lamp, "changed", {"watts": watts}, f"changed-{number}-{lamp}")
    world.flush()
    decisions = [decision for decision, _ in world.decided(60)]
    return {decision.reason for decision in decisions if decision.input_id.startswith(f"changed-{number}-")}


def publish(world: World, version: int, name: str, *more: str) -> str:
    file = world.folder / f"v{version}.yaml"
    file.write_text(text(version, name))
    return world.placet("definitions", "publish", str(file), "-o", "json", *more).stdout


def test_other_code_comes_into_force_under_running_gates(world: World) -> None:
    before = image(world.folder / "before", PLAIN)
    both = image(world.folder / "both", PLAIN, SECOND)
    gates = [start(world, name, before) for name in ("a", "b")]
    assert facts(world, 1, 50) == {Reason.NONE}
    for number, gate in enumerate(gates):  # the code first, gate by gate: the rules in force are those of before
        assert gate.terminate() == 0
        gates[number] = start(world, "ab"[number], both, "both")
        assert facts(world, 2 + number, 50) == {Reason.NONE}
    with Client("lamp", app=world.app, bootstrap_servers=world.bootstrap_servers) as client:
        assert f"python:{MODULE}:bright -> python:{MODULE}:bright@2" in publish(world, 2, "bright@2")
        for gate in gates:
            wait_until(lambda gate=gate: gate.events("rules changed"), 30, "a running gate has changed over")
        assert facts(world, 4, 50) == {Reason.GUARD_FAILED}
        assert facts(world, 5, 5) == {Reason.NONE}
        wait_until(lambda: client.definition.version == 2, 20, "a running client has changed over")
    world.placet("definitions", "withdraw", "lamp")
    for gate in gates:
        wait_until(lambda gate=gate: len(gate.events("rules changed")) == 2, 30, "back to the code of before")
    assert facts(world, 6, 50) == {Reason.NONE}
    assert all(gate.process.poll() is None for gate in gates)
    assert len({at.definition_digest for _, at in world.decided(60)}) == 3
    world.placet("verify")


def test_a_gate_without_the_version_in_force_names_those_that_it_has(world: World) -> None:
    gate = start(world, "a", image(world.folder / "before", PLAIN))
    assert facts(world, 1, 50) == {Reason.NONE}
    publish(world, 2, "bright@2", "--force")
    [told] = wait_until(lambda: gate.events("rules in force can't be run here"), 30, "it hears of the version")
    assert "has no version 2 of bright: it has bright" in told["why"]
    assert gate.process.poll() is None


def test_verify_without_the_code_of_then_says_what_it_lacks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start(world, "a", image(world.folder / "both", PLAIN, SECOND))
    assert facts(world, 1, 50) == {Reason.NONE}
    publish(world, 2, "bright@2")
    after = image(world.folder / "after", SECOND)
    monkeypatch.setenv("PYTHONPATH", f"{after}:{os.environ['PYTHONPATH'].partition(':')[2]}")
    said = world.placet("verify", check=False)
    assert said.returncode == ExitCode.WRONG
    assert "has no function bright: it has bright@2" in " ".join((said.stdout + said.stderr).split())


def test_a_function_that_does_not_return_is_named_and_other_rules_help(world: World) -> None:
    code = image(world.folder / "stuck", PLAIN, SECOND, STUCK)
    gate = start(world, "a", code)
    assert facts(world, 1, 50) == {Reason.NONE}
    publish(world, 2, "bright@3")
    wait_until(lambda: gate.events("rules changed"), 30, "it decides by the function that will hang")
    world.signal("l-1", "changed", {"watts": 77}, "stuck")
    world.flush()
    (told,) = wait_until(lambda: gate.events("function does not return"), 40, "it is told")
    assert (told["function"], told["entity_id"]) == (f"python:{MODULE}:bright@3", "l-1")
    assert told["rule"] == "signals.changed.transitions.0.guard"
    publish(world, 3, "bright")
    gate.kill()
    start(world, "a", code, "again")
    decisions = {decision.input_id: decision for decision, _ in world.decided(60)}
    assert decisions["stuck"].outcome is Outcome.ACCEPTED, "it was decided by the rules in force"
    world.placet("verify")
