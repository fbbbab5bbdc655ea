"""A gate that was frozen longer than its watchdog and its session allow: it wakes, and goes on as if nothing were."""

from __future__ import annotations

import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from placet.devbroker.broker import Broker
from placet.devbroker.settings import free_port
from placet.schemas.decision import Outcome
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from tests.integration.gates import Gate, World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

HERE = Path(__file__).parent
SESSION_S, WATCHDOG_S = 3.0, 2.0
LONG_S, SHORT_S = SESSION_S + WATCHDOG_S + 2.0, 1.5


@pytest.fixture
def world(broker: Broker, tmp_path: Path) -> Iterator[World]:
    with World(broker.bootstrap_servers, tmp_path, "frozen") as made:
        with Admin(LocalHost(), {"bootstrap.servers": broker.bootstrap_servers}) as admin:
            admin.alter_group_configs(made.app, {"consumer.session.timeout.ms": str(int(SESSION_S * 1000))})
        yield made


def is_frozen(gate: Gate) -> bool:
    status = Path(f"/proc/{gate.process.pid}/stat").read_text()
    return status.rpartition(")")[2].split()[0] == "T"


def stay_frozen(gate: Gate, freeze_s: float) -> None:
    """The length of the freeze is what is tested: wait for that, then let it wake."""
    wait_until(lambda: is_frozen(gate), 60, "the gate stands still")
    thaw_s = time.monotonic() + freeze_s
    wait_until(lambda: time.monotonic() > thaw_s, freeze_s + 5, "the time to wake")
    gate.resume()


def goes_on(world: World, gate: Gate) -> None:
    ends = world.ends(world.topics.inputs)
    wait_until(lambda: world.committed() == ends or gate.process.poll() is not None, 60, "it decides what waits")
    assert gate.process.poll() is None, gate.text()[-3_000:]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="whether a process stands still is asked in /proc")
def test_a_gate_frozen_past_its_watchdog_and_its_session_goes_on(world: World, tmp_path: Path) -> None:
    port, once = free_port(), tmp_path / "once"
    gate = world.gate(
        "a", program=(str(HERE / "gate_that_freezes.py"),), FREEZE_IN="flush", FREEZE_ONCE=str(once),
        PLACET_WATCHDOG_MS=str(int(WATCHDOG_S * 1000)), PLACET_TRANSACTION_TIMEOUT_MS="1000",
        PLACET_METRICS_PORT=str(port),
    )  # fmt: skip
    world.load(2_000)
    world.flush()
    stay_frozen(gate, LONG_S)  # amid a call: all its records are queued, the transaction is open
    goes_on(world, gate)

    world.load(6_000, first=2_000)
    gate.pause()  # under load
    scrapers = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(5)]
    for scraper in scrapers:
        scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: gate\r\n\r\n")
        scraper.close()  # the probe's time is up
    world.flush()
    stay_frozen(gate, SHORT_S)
    goes_on(world, gate)
    outcomes = Counter(decision.outcome for decision, _ in world.decided(60))
    assert sum(outcomes.values()) == 8_000
    assert outcomes[Outcome.ACCEPTED] > 500
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
        assert answer.status == 200
    world.placet("verify")
    assert gate.terminate() == 0
    assert "Traceback" not in gate.text()
