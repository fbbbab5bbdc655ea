"""`placet top` over real gates: what it shows is what happened, and a gate that was killed is shown as gone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from placet.cli.exit_codes import ExitCode
from placet.devbroker.broker import Broker
from placet.devbroker.settings import free_port
from tests.integration.gates import World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


@pytest.fixture
def world(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    app = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_")).strip("-")[:80]
    with World(broker.bootstrap_servers, tmp_path, app) as made:
        yield made


def frame(world: World, ports: list[int]) -> dict[str, Any]:
    """One `placet top --once --output json`."""
    endpoints = [f"--endpoint={port}" for port in ports]
    done = world.placet("top", *endpoints, "--once", "--output", "json", "--interval-s", "0.5", check=False)
    assert done.returncode in {ExitCode.OK, ExitCode.UNREACHABLE}, done.stderr
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    return found


def gates_of(shown: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["gate"] or row["endpoint"]: row for row in shown.get("gates", [])}


def test_both_gates_their_decisions_and_the_one_that_is_killed(world: World) -> None:
    ports = [free_port(), free_port()]
    gates = {
        name: world.gate(name, PLACET_METRICS_PORT=str(port), PLACET_METRICS_HOST="127.0.0.1")
        for name, port in zip(("a", "b"), ports, strict=True)
    }
    wait_until(
        lambda: [row["running"] for row in gates_of(frame(world, ports)).values()] == [2, 2], 60, "two tasks each"
    )
    world.load(2_000)
    world.flush()
    decided = Counter((d.outcome.name, d.reason.name, d.kind.name) for d, _ in world.decided())

    shown = frame(world, ports)
    assert (shown["apps"], shown["answering"]) == ([world.app], 2)
    assert shown["total"]["decisions"] == 2_000
    assert min(row["flow"]["decisions"] for row in shown["gates"]) > 0, "both have decided"
    counted = {
        (row["outcome"], row["reason"], kind): row[column]
        for row in shown["outcomes"]
        for kind, column in (("SIGNAL", "facts"), ("PROPOSAL", "proposals"))
        if row[column]
    }
    assert counted == decided
    facts = {reason: n for (outcome, reason, kind), n in decided.items() if (outcome, kind) == ("REFUSED", "SIGNAL")}
    refused = sum(n for reason, n in facts.items() if reason not in ("SUPERSEDED", "IGNORED"))
    assert shown["refused_facts"] == refused > 0
    assert sorted((row["partition"], row["phase"]) for row in shown["partitions"]) == [(n, "running") for n in range(4)]

    endpoints = [f"--endpoint={port}" for port in ports]
    watching = subprocess.Popen(
        [sys.executable, "-m", "placet.cli", "top", *endpoints, "--output", "json", "--interval-s", "0.5"],
        env=world.environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stdout is not None
    frames = map(json.loads, watching.stdout)
    try:
        assert next(frames)["answering"] == 2
        world.load(500, first=2_000)
        world.flush()
        assert any(found["total"]["decisions_per_s"] > 0 for found in frames), "rates are seen while it flows"
        gates["b"].kill()
        gone = next(found for found in frames if found["answering"] == 1)
        assert gates_of(gone)["b"]["error"] == "connection refused"
        later = next(found for found in frames if (gates_of(found)["b"]["silent_s"] or 0) > 2)
        assert gates_of(later)["a"]["silent_s"] is None, "the other goes on"
        whole = next(found for found in frames if gates_of(found)["a"]["running"] == 4)
        assert {tuple(row["gates"]) for row in whole["partitions"]} == {("a",)}, "it has taken over"
        assert any(note["level"] == "bad" and note["text"].startswith("b has not answered") for note in whole["notes"])
    finally:
        watching.kill()
        watching.wait()

    alone = frame(world, ports)
    assert [(row["gate"], row["error"]) for row in alone["gates"]] == [("a", ""), ("", "connection refused")]
    gates["a"].kill()
    done = world.placet("top", *endpoints, "--once", check=False)
    assert done.returncode == ExitCode.UNREACHABLE
    assert done.stderr.count("connection refused") == 2
