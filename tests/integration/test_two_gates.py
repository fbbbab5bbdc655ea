"""Two gates of one name: one goes on deciding, the other one says who is in its place; a restart is no second gate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from placet.cli.exit_codes import ExitCode
from placet.devbroker.broker import Broker
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from tests.integration.gates import Gate, World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

HERE = Path(__file__).parent
QUICK = {"PLACET_TRANSACTION_TIMEOUT_MS": "2000"}
WAITS = "waiting for a gate of this name to leave the group"


@pytest.fixture
def world(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    app = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_")).strip("-")[:80]
    with World(broker.bootstrap_servers, tmp_path, app, partitions=2) as made:
        with Admin(LocalHost(), {"bootstrap.servers": broker.bootstrap_servers}) as admin:
            admin.alter_group_configs(app, {"consumer.session.timeout.ms": "4000"})
        yield made


def decides(world: World, first: int) -> None:
    world.load(300, first=first)
    world.flush()
    world.decided(60)


def says_who(gate: Gate) -> None:
    """It ended as one whose name is taken, in words and without a traceback."""
    assert gate.process.returncode == ExitCode.WRONG, gate.text()[-2_000:]
    assert 'another gate is called "twin" (host ' in gate.text()
    assert "Traceback" not in gate.text()
    assert "SystemError" not in gate.text()


@pytest.mark.parametrize("static", ["false", pytest.param("true", marks=pytest.mark.long)])
def test_the_second_gate_of_a_name_is_refused_before_it_touches_the_first(world: World, static: str) -> None:
    first = world.gate("twin", PLACET_STATIC=static, **QUICK)
    decides(world, 0)
    second = world.gate("twin", attempt="-second", PLACET_STATIC=static, **QUICK)
    world.load(300, first=300)
    world.flush()
    wait_until(lambda: second.process.poll() is not None, 60, "the second one gives way")
    says_who(second)
    decides(world, 600)
    assert first.process.poll() is None
    assert not first.events("joining the group again"), "nobody fenced it"
    world.placet("verify")
    assert first.terminate() == 0


def test_of_two_gates_of_a_name_that_start_at_one_moment_one_goes_on(world: World) -> None:
    program = (str(HERE / "gate_that_sees_no_other.py"),)
    twins = [world.gate("twin", attempt=f"-{n}", program=program, **QUICK) for n in range(2)]
    sent = 0

    def one_has_ended() -> bool:
        nonlocal sent
        world.load(100, first=sent)
        sent += 100
        return any(twin.process.poll() is not None for twin in twins)

    wait_until(one_has_ended, 60, "one of them gives way")
    world.flush()
    [loser] = [twin for twin in twins if twin.process.poll() is not None]
    says_who(loser)
    world.decided(60)
    decides(world, sent)
    [winner] = [twin for twin in twins if twin is not loser]
    assert winner.process.poll() is None
    world.placet("verify")
    assert winner.terminate() == 0
    assert "Traceback" not in winner.text()


def test_a_restart_waits_for_a_predecessor_that_was_killed_and_for_no_other(world: World) -> None:
    gate = world.gate("twin", **QUICK)
    decides(world, 0)
    assert gate.terminate() == 0
    gate = world.gate("twin", attempt=2, **QUICK)
    decides(world, 300)
    assert WAITS not in gate.text()
    gate.kill()
    gate = world.gate("twin", attempt=3, **QUICK)
    decides(world, 600)
    assert len(gate.events(WAITS)) == 1
    world.placet("verify")
    assert gate.terminate() == 0


@pytest.mark.long
def test_a_gate_fenced_for_its_own_slow_transaction_goes_on(world: World, tmp_path: Path) -> None:
    program = (str(HERE / "gate_that_waits_before_commit.py"),)
    gate = world.gate("twin", program=program, HOLD=str(tmp_path), PLACET_TRANSACTION_TIMEOUT_MS="1000")
    world.load(300)
    world.flush()
    wait_until((tmp_path / "holding").exists, 60, "it holds a full transaction")
    ends = world.ends([world.topics.decisions])
    wait_until(lambda: world.ends([world.topics.decisions]) != ends, 30, "the broker writes the markers of its abort")
    (tmp_path / "go").touch()
    decides(world, 300)
    assert gate.process.poll() is None
    world.placet("verify")
    assert gate.terminate() == 0
    assert "Traceback" not in gate.text()
