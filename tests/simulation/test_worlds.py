"""Whole gates under a simulated Kafka: every history holds, is the same in any process, and can be told and made small.

`ops/simulate` runs more of them. A seed that fails here: `ops/simulate --seed N --trace`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from placet.schemas.codec.control import decode_control
from placet.simulation.choices import CALM
from placet.streams.records import TopicPartition
from placet.streams.topology import control_topic
from tests.planted.bugs import BUGS, planted, run_on
from tests.simulation.crash_points import crash_points, run_crash_point
from tests.simulation.histories import KINDS, History, run_history
from tests.simulation.invariants import ClusterLog, broken_invariants
from tests.simulation.rules import APP, VERSIONS
from tests.simulation.world import Gate, World

ROOT = Path(__file__).parents[2]
STANDARD, SMALL, ROLLING, DELAYED = 1_000, 2_000, 400, 300
CHUNKS = 20
SCHEDULES = 5
SEEDS_TWICE = 50


def failing(histories: list[History]) -> list[str]:
    return [f"{one.kind} {one.seed}: {one.wrong[0][:300]}" for one in histories if one.wrong]


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_standard_histories_hold(chunk: int) -> None:
    size = STANDARD // CHUNKS
    histories = [run_history("standard", seed) for seed in range(1 + chunk * size, 1 + (chunk + 1) * size)]
    assert failing(histories) == []
    # They are what they are meant to be: something goes wrong in nearly all, and most are long enough. What waits while
    # most brokers are away, or for a day to pass, is decided in few transactions.
    assert sum(bool(one.faults) for one in histories) >= 0.9 * size
    assert sum(one.committed >= 20 for one in histories) >= 0.8 * size


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_small_histories_hold(chunk: int) -> None:
    size = SMALL // CHUNKS
    assert failing([run_history("small", seed) for seed in range(1 + chunk * size, 1 + (chunk + 1) * size)]) == []


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_histories_hold_in_which_rules_are_published_withdrawn_and_published_again(chunk: int) -> None:
    size = ROLLING // CHUNKS
    assert failing([run_history("rolling", seed) for seed in range(1 + chunk * size, 1 + (chunk + 1) * size)]) == []


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_histories_hold_in_which_machines_and_brokers_are_slow_at_any_moment(chunk: int) -> None:
    size = DELAYED // CHUNKS
    assert failing([run_history("delayed", seed) for seed in range(1 + chunk * size, 1 + (chunk + 1) * size)]) == []


def test_histories_of_large_states_hold() -> None:
    assert failing([run_history("large", seed) for seed in range(1, 11)]) == []


@pytest.mark.parametrize("schedule", range(SCHEDULES))
def test_a_gate_may_die_at_any_single_turn(schedule: int) -> None:
    turns = crash_points(schedule)
    assert turns > 150
    assert failing([run_crash_point(schedule, turn) for turn in range(turns)]) == []


EVENTS = """
import json, sys
from tests.simulation.histories import run_history
from placet.simulation.choices import Choices
digests = {}
for seed in range(1, int(sys.argv[1]) + 1):
    digests[seed] = run_history("standard" if seed % 5 == 0 else "small", seed).digest
print(json.dumps(digests))
"""
ONE = """
import json, sys
from tests.simulation import world
from placet.simulation.choices import Choices
from tests.simulation.histories import run_history
kept = []
def choices(seed, script):
    kept.append(Choices(seed, script))
    return kept[-1]
world.Choices = choices
run_history("standard" if int(sys.argv[1]) % 5 == 0 else "small", int(sys.argv[1]))
print(json.dumps(kept[0].events))
"""


def run_elsewhere(code: str, argument: int, hash_seed: str, zone: str) -> str:
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(argument)], check=True, env=env, capture_output=True, text=True, cwd=ROOT
    )
    return done.stdout


def test_a_seed_is_the_same_history_in_any_process() -> None:
    """The digest covers each turn, request and choice, and every record on the logs."""
    here, there = (
        json.loads(run_elsewhere(EVENTS, SEEDS_TWICE, *process)) for process in (("1", "UTC"), ("77", "Asia/Kolkata"))
    )
    other = [int(seed) for seed in here if here[seed] != there[seed]]
    if other:
        one, two = (
            json.loads(run_elsewhere(ONE, other[0], *process)) for process in (("1", "UTC"), ("77", "Asia/Kolkata"))
        )
        differing = [(a, b) for a, b in zip(one, two, strict=False) if a != b]
        pytest.fail(f"seed {other[0]} is not the same history twice; first difference: {differing[:1]}")
    assert len(set(here.values())) == SEEDS_TWICE


def test_a_script_is_the_history_that_it_was_taken_from() -> None:
    drawn = run_history("small", 11)
    assert run_history("small", 11, drawn.script).digest == drawn.digest


def test_a_failing_history_is_found_made_small_and_told(tmp_path: Path) -> None:
    """With a bug in the gate: after an abort it goes on as if nothing had been committed."""
    with planted(BUGS["no-restore-after-abort"]) as folder:
        many = run_on(folder, "tests.simulation.simulate", "--seeds", "400", "--keep", str(tmp_path))
        [script] = tmp_path.glob("standard-*.json")
        shown, chart = (
            run_on(folder, "tests.simulation.simulate", "--script", str(script), "--trace", *form)
            for form in ((), ("--mermaid",))
        )
    assert many.returncode == shown.returncode == chart.returncode == 1
    kept = json.loads(script.read_text())
    assert f"standard {kept['seed']}" in many.stdout
    assert kept["script"].count(CALM) > len(kept["script"]) / 8
    assert kept["wrong"][0] in shown.stdout
    assert "→ broker" in shown.stdout
    assert "commit of app.a" in shown.stdout
    assert chart.stdout.startswith("```mermaid\nsequenceDiagram\n")


def test_a_world_in_which_all_is_calm_has_no_faults() -> None:
    world = World(None)
    world.run()
    assert world.faults == []
    assert world.counts.get("aborted", 0) == 0


def rolled_by_hand(*, forces: bool, needs_code: bool = True) -> tuple[World, Gate, Gate]:
    """Return a calm world with two gates, which the test replaces."""
    world = World(None, KINDS["rolling"]._replace(rolls=False))
    world.needs_code, world.forces = needs_code, forces
    world.scale = KINDS["rolling"]  # as for what is looked at
    a, b = world.gates
    return world, a, b


def at(world: World, second: float, do: Callable[[], object]) -> None:
    world.scheduler.later(round(second * 10**9), do)


def roll(world: World, second: float, gate: Gate, version: int) -> None:
    """Let a gate go on with the image of a version."""
    world.newest = max(world.newest, VERSIONS[version - 1][0], key=lambda each: each.version)
    at(world, second, partial(setattr, gate, "definition", VERSIONS[version - 1][0]))
    at(world, second, gate.stop)


def published_versions(world: World) -> list[int]:
    """Return them in their order, each once: gates that start at the same time publish the same one."""
    found = ClusterLog(world.cluster).records(TopicPartition(control_topic(APP), 0))
    return [*dict.fromkeys(decode_control(record.value or b"").version for record in found)]


def test_a_gate_that_lacks_the_code_waits_outside_the_group_until_a_withdrawal() -> None:
    world, a, b = rolled_by_hand(forces=True)
    members: dict[int, set[str]] = {}

    def look(second: int) -> None:
        members[second] = {member.client_id for member in world.cluster.group(APP).members.values()}

    roll(world, 5, b, 2)
    roll(world, 45, b, 3)  # later than all that a gate does now and then
    for second in (4, 15, 55):
        at(world, second, partial(look, second))
    world.run()
    assert [*broken_invariants(world)] == []
    assert members == {4: {"app.a", "app.b"}, 15: {"app.b"}, 55: {"app.a", "app.b"}}
    told = "\n".join(world.trace)
    assert "b.2: incompatible definition forced: entity=order, version=2, what=live gates can't run it" in told
    assert "a.1: rules in force can't be run here: entity=order, why=version 2 is in force" in told
    assert "this image lacks the code of version 2" in told
    assert "a.1: joining the group again: why=of what is in force this gate can run the rules of order" in told
    assert a.starts == 1, "it never ended"


def test_what_a_live_gate_can_not_run_is_published_once_all_can() -> None:
    world, a, b = rolled_by_hand(forces=False)
    found: dict[int, list[int]] = {}
    roll(world, 5, b, 2)
    at(world, 14, lambda: found.update({14: published_versions(world)}))
    roll(world, 15, a, 2)
    world.run()
    assert found == {14: [1]}
    assert published_versions(world) == [1, 2]
    refused = [told for told in world.ends if told.startswith("b.2: SettingsError")]
    assert len(refused) == 1
    assert (
        "order version 2 is not published: not every live gate can run it:\n  a: this image lacks the code"
        in refused[0]
    )
    assert [told for told in broken_invariants(world) if not told.startswith("a gate ended without need: b.")] == []
    assert a.starts == 2, "it went on until it was replaced"


def test_a_gate_that_is_killed_amid_the_question_is_waited_for_until_its_session_ends() -> None:
    world, a, b = rolled_by_hand(forces=False, needs_code=False)
    a.restarts = False
    at(world, 4.9, lambda: world.scheduler.freeze(a.process))
    roll(world, 5, b, 2)
    at(world, 7, a.kill)
    world.run()
    assert [*broken_invariants(world)] == []
    assert published_versions(world) == [1, 2]
    told = "\n".join(world.trace)
    assert "b.2: gates do not say yet whether they can run a new definition: gates=['a']" in told
    assert b.starts == 2, "it was not refused"


def test_two_that_publish_at_once_ask_the_same_gates() -> None:
    world, a, b = rolled_by_hand(forces=False, needs_code=False)
    world.add_gate("c")
    roll(world, 5, a, 2)
    roll(world, 5, b, 3)
    world.run()
    assert [*broken_invariants(world)] == []
    assert set(published_versions(world)) >= {1, 3}
    assert [gate.starts for gate in (a, b)] == [2, 2], "neither was refused"
