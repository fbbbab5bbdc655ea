"""Real gate processes on a real Kafka: what its users rely on, and what happens to it."""

from __future__ import annotations

import re
import shutil
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic
from prometheus_client.parser import text_string_to_metric_families

from placet.cli.exit_codes import ExitCode
from placet.devbroker.broker import Broker
from placet.devbroker.settings import free_port
from placet.schemas.decision import Outcome, Reason
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from tests.integration.gates import Gate, World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

HERE = Path(__file__).parent
SESSION_S = 6.0  # of the embedded broker


@pytest.fixture
def world(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    app = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_")).strip("-")[:80]
    with World(broker.bootstrap_servers, tmp_path, app) as made:
        yield made


def read_page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def verified(world: World) -> None:
    """Every input has one decision, and re-running the ladder gives the same bytes."""
    world.decided()
    world.placet("verify")
    versions: dict[str, list[int]] = {}
    for change in world.changes():
        versions.setdefault(change.entity_id, []).append(change.state.version)
    for entity, seen in versions.items():
        assert seen == list(range(1, len(seen) + 1)), f"{entity}: {seen}"


def test_inputs_are_accepted_or_refused_with_a_reason(world: World) -> None:
    world.gate("a")
    world.signal("o-1", "opened", {"total": 5}, "s-1")
    world.flush()
    wait_until(lambda: "o-1" in world.states(), 30, "o-1 is open")
    state = world.states()["o-1"]
    base = {"base_version": state.version, "base_incarnation": state.incarnation}
    now = time.time_ns() // 1_000_000
    world.propose("o-1", "hold", {"note": "mine"}, "p-accepted", **base)
    world.propose("o-1", "hold", {"note": "mine"}, "p-again", dedup_key="p-accepted", **base)
    world.propose("o-1", "hold", {"note": "other"}, "p-reused", dedup_key="p-accepted", **base)
    world.propose("o-1", "hold", {"note": "late"}, "p-stale", **base)
    world.propose("o-1", "hold", {"note": "x"}, "p-ahead", base_version=99, base_incarnation=state.incarnation)
    world.propose("o-1", "hold", {"note": "x"}, "p-expired", issued_at=now - 700_000, **base)
    world.propose("o-1", "hold", {"note": "x"}, "p-old", issued_at=now - 90_000_000, **base)
    world.propose("o-1", "hold", {"note": "x"}, "p-clock", issued_at=now + 600_000, **base)
    world.propose("o-2", "hold", {"note": "x"}, "p-nowhere", base_version=0, base_incarnation=0)
    world.signal("o-1", "temperature", {"value": 5}, "t-1", event_time=now)
    world.flush()
    decisions = {decision.input_id: decision for decision, _ in world.decided()}
    found = {input_id: (decision.outcome.name, decision.reason.name) for input_id, decision in decisions.items()}
    assert found == {
        "s-1": ("ACCEPTED", "NONE"),
        "p-accepted": ("ACCEPTED", "NONE"),
        "p-again": ("DUPLICATE", "REPEATED"),
        "p-reused": ("REFUSED", "DEDUP_KEY_REUSED"),
        "p-stale": ("REFUSED", "STALE"),
        "p-ahead": ("REFUSED", "VERSION_AHEAD"),
        "p-expired": ("REFUSED", "EXPIRED"),
        "p-old": ("REFUSED", "TOO_LATE"),
        "p-clock": ("REFUSED", "CLOCK_AHEAD"),
        "p-nowhere": ("REFUSED", "ILLEGAL_TRANSITION"),
        "t-1": ("REFUSED", "GUARD_FAILED"),
    }
    assert decisions["p-again"].first is not None
    assert decisions["p-again"].first.input_id == "p-accepted"
    assert [(c.version, c.fields) for c in decisions["p-stale"].conflicts] == [(2, ("note", "status"))]
    assert world.states()["o-1"].fields == {"total": 5, "note": "mine"}
    verified(world)


def test_poison_and_stray_records_block_nothing(world: World) -> None:
    world.gate("a")
    key = b"o-1"
    home = world.send_home(key)
    world.send(world.topics.signals, key, b"\xff" * 50)
    world.send(world.topics.signals, key, None)
    world.send(world.topics.signals, None, b"", 0)
    world.send(world.topics.signals, b"k" * 800_000, b"behind a key of almost a megabyte")
    world.send(world.topics.proposals, key, b"\xc3\x01" + b"unknown!" + b"body")
    good = world.signal_bytes("o-1", "opened", {"total": 1}, "s-1")
    world.send(world.topics.signals, key, good, (home + 1) % world.partitions)
    world.send(world.topics.signals, b"o-2", good)
    world.send(world.topics.signals, key, good + b"trailing")
    world.send(world.topics.signals, key, good)
    world.flush()
    reasons = Counter(decision.reason for decision, _ in world.decided())
    assert reasons == {
        Reason.UNDECODABLE: 5,
        Reason.UNKNOWN_SCHEMA: 1,
        Reason.WRONG_PARTITION: 1,
        Reason.KEY_MISMATCH: 1,
        Reason.NONE: 1,
    }
    assert {letter.value for letter in world.dead_letters()} == {
        b"\xff" * 50,
        b"behind a key of almost a megabyte",
        None,
        b"",
        b"\xc3\x01" + b"unknown!" + b"body",
        good + b"trailing",
    }
    assert world.states()["o-1"].status == "open"
    verified(world)


def test_kill_9_under_load_loses_and_doubles_nothing(world: World) -> None:
    gates = {name: world.gate(name) for name in ("a", "b")}
    for round_ in range(4):
        world.load(6_000, first=6_000 * round_, seed=round_)
        victim = "ab"[round_ % 2]
        some = world.decisions_written()
        wait_until(lambda some=some: world.decisions_written() > some + 300, 60, "the gates decide")
        gates[victim].kill()
        gates[victim] = world.gate(victim)
    world.flush()
    outcomes = Counter(decision.outcome for decision, _ in world.decided(90))
    assert outcomes[Outcome.ACCEPTED] > 1_000
    verified(world)


@pytest.mark.parametrize("has", ["a-full-transaction", "records-in-its-queue", "nothing"])
def test_a_gate_stopped_past_its_session_is_refused_when_it_wakes(world: World, has: str, tmp_path: Path) -> None:
    if has == "a-full-transaction":
        zombie = world.gate("zombie", program=(str(HERE / "gate_that_waits_before_commit.py"),), HOLD=str(tmp_path))
        world.load(1_000)
        world.flush()
        wait_until((tmp_path / "holding").exists, 60, "the zombie holds a full transaction")
    else:
        zombie = world.gate("zombie")
        world.load(1_000)
        world.flush()
        world.decided()
    zombie.pause()
    heir = world.gate("heir")
    if has == "nothing":  # its fetches have come back empty long before its session ends
        wait_until(lambda: _runs_all(world, heir), 60, "the heir runs every task")
    world.load(500, first=1_000)
    world.flush()
    before = Counter(decision.outcome for decision, _ in world.decided(60))
    (tmp_path / "go").touch()
    said = len(zombie.text())
    zombie.resume()
    # Whether it hears of it from its commit or from its heartbeat: it lets go of every task that it ran.
    wait_until(lambda: '"running": []' in zombie.text()[said:], 60, "the zombie lets go")
    if has == "a-full-transaction":
        assert re.search("group again|transaction aborted", zombie.text()[said:])
    world.load(500, first=1_500)
    world.flush()
    world.decided(60)
    assert heir.process.poll() is None
    assert sum(before.values()) == 1_500
    verified(world)


def _runs_all(world: World, gate: Gate) -> bool:
    running = [event["running"] for event in gate.events("tasks")]
    return bool(running) and len(running[-1]) == world.partitions


def test_an_empty_disk_restores_the_same_state(world: World) -> None:
    gate = world.gate("a")
    world.load(4_000)
    world.flush()
    world.decided()
    assert gate.terminate() == 0
    shutil.rmtree(world.folder / "state" / "a")
    world.gate("a")
    # The same inputs again: had it forgotten, repeats would be applied, and facts refused otherwise.
    world.load(4_000)
    world.flush()
    decisions = world.decided()
    accepted = Counter(
        (d.kind, d.dedup_key, d.entity_id) for d, _ in decisions if d.dedup_key and d.outcome is Outcome.ACCEPTED
    )
    assert max(accepted.values()) == 1, "an occasion was applied twice"
    verified(world)


def test_a_damaged_store_is_set_aside_and_rebuilt(world: World) -> None:
    gate = world.gate("a")
    world.load(2_000)
    world.flush()
    world.decided()
    gate.kill()
    for manifest in (world.folder / "state" / "a").rglob("MANIFEST-*"):
        manifest.write_bytes(b"not a manifest")
    world.gate("a")
    world.load(500, first=2_000)
    world.flush()
    world.decided()
    assert list((world.folder / "state" / "a").rglob("*.aside"))
    verified(world)


def test_a_gate_on_a_full_disk_ends_and_another_takes_over(world: World) -> None:
    full = world.gate("full", program=(str(HERE / "gate_on_a_small_disk.py"),))
    world.load(4_000)
    world.flush()
    assert full.process.wait(60) == ExitCode.STOPPED
    assert "can't be written" in full.text()
    assert "Nothing is lost" in full.text()
    world.gate("heir")
    world.load(500, first=4_000)
    world.flush()
    assert sum(Counter(decision.outcome for decision, _ in world.decided(60)).values()) == 4_500
    verified(world)


def test_a_rolling_restart_under_load(world: World) -> None:
    gates = {name: world.gate(name) for name in ("a", "b")}
    for n, name in enumerate(("a", "b", "a")):
        world.load(3_000, first=3_000 * n, seed=n)
        wait_until(lambda name=name: '"event": "tasks"' in gates[name].text(), 60, "the gate has tasks")
        assert gates[name].terminate() == 0
        gates[name] = world.gate(name, attempt=n)
    world.flush()
    world.decided(90)
    verified(world)


def test_scaling_from_two_to_three_to_one_under_load(world: World) -> None:
    first, second = world.gate("a"), world.gate("b")
    world.load(3_000)
    third = world.gate("c")
    world.load(3_000, first=3_000, seed=2)
    wait_until(lambda: third.events("restored"), 60, "the third has a task")
    world.load(3_000, first=6_000, seed=3)
    assert (first.terminate(), third.terminate()) == (0, 0)
    world.load(3_000, first=9_000, seed=4)
    world.flush()
    world.decided(90)
    assert second.terminate() == 0
    verified(world)


def test_a_static_member_that_restarts_in_time_moves_no_partition(world: World, broker: Broker) -> None:
    with Admin(LocalHost(), {"bootstrap.servers": broker.bootstrap_servers}) as admin:
        admin.alter_group_configs(world.app, {"consumer.session.timeout.ms": "30000"})
    first, second = (world.gate(name, PLACET_STATIC="true") for name in ("a", "b"))
    wait_until(lambda: running(first) == running(second) == 2, 60, "each has two of four tasks")
    told = second.events("tasks")
    assert first.terminate() == 0
    world.gate("a", attempt=1, PLACET_STATIC="true")
    world.load(500)
    world.flush()
    world.decided(60)
    assert second.events("tasks") == told, "nothing came to the other gate, and nothing left it"
    verified(world)


def running(gate: Gate) -> int:
    """How many tasks run in a gate, as it said last."""
    told = gate.events("tasks")
    return len(told[-1]["running"]) if told else 0


def test_a_static_member_comes_back_after_kill_9(world: World) -> None:
    gate = world.gate("a", PLACET_STATIC="true")
    world.load(1_000)
    world.flush()
    world.decided()
    gate.kill()
    world.gate("a", PLACET_STATIC="true")
    world.load(500, first=1_000)
    world.flush()
    world.decided(60)
    verified(world)


@pytest.mark.parametrize(("call", "away"), [("positions", "stopped"), ("commit", "stopped"), ("commit", "silent")])
def test_a_gate_outlives_a_broker_that_goes_away_in_its_commit(
    world: World, broker: Broker, call: str, away: str, tmp_path: Path
) -> None:
    """For longer than a call is waited for: nobody knows whether it committed, so the log is asked when it is back."""
    program = (str(HERE / "gate_that_waits_before_commit.py"),)
    gate = world.gate("a", program=program, HOLD=str(tmp_path), HOLD_BEFORE=call)
    world.load(300)
    world.flush()
    wait_until((tmp_path / "holding").exists, 60, f"only {call} and what follows is missing")
    gone, back = (broker.stop, broker.start) if away == "stopped" else (broker.pause, broker.resume)
    gone()
    try:
        (tmp_path / "go").touch()
        wait_until(lambda: gate.events("transaction aborted") or gate.process.poll() is not None, 60, "it gives up")
    finally:
        back()
    world.load(300, first=300)
    world.flush()
    world.decided(60)
    assert gate.process.poll() is None, gate.text()[-3_000:]
    verified(world)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_gates_outlive_many_restarts_of_their_broker(tmp_path: Path) -> None:
    """Amid transactions, in good order and by kill: each time every gate goes on, by itself and with no thread more."""
    names = ("a", "b", "c", "d")
    with Broker() as broker, ExitStack() as stack:
        worlds = [
            stack.enter_context(World(broker.bootstrap_servers, tmp_path / name, f"restarts-{name}", partitions=2))
            for name in names
        ]
        for world in worlds:
            world.folder.mkdir()
        gates = [world.gate("a") for world in worlds]
        threads: list[list[int]] = []
        for round_ in range(12):
            for world in worlds:
                world.load(50, first=100 * round_)
            (broker.kill if round_ % 4 == 3 else broker.stop)()
            broker.start()
            for world in worlds:
                world.load(50, first=100 * round_ + 50)
            for world in worlds:
                world.flush()
                world.decided(30)
            assert [gate.process.poll() for gate in gates] == [None] * len(gates)
            threads.append([len(list(Path(f"/proc/{gate.process.pid}/task").glob("*"))) for gate in gates])
        assert max(threads[-1]) <= max(threads[0]) + 8, f"one client has seven threads or so: {threads}"
        for world in worlds:
            verified(world)


def test_inputs_of_a_transactional_producer_leave_no_lag_behind(world: World) -> None:
    """The marker that ends a transaction takes an offset, and nobody ever reads it."""
    port = free_port()
    gate = world.gate("a", PLACET_METRICS_PORT=str(port))
    settings = {"bootstrap.servers": world.bootstrap_servers, "transactional.id": world.app}
    upstream = Producer(settings)
    upstream.init_transactions(30)
    upstream.begin_transaction()
    value = world.signal_bytes("o-1", "opened", {"total": 5}, "s-1")
    home = world.send_home(b"o-1")
    upstream.produce(world.topics.signals, value, b"o-1", home)
    upstream.commit_transaction(30)
    wait_until(lambda: "o-1" in world.states(), 30, "o-1 is open")
    assert world.ends([world.topics.signals])[world.topics.signals, home] == 2, "the record and the marker"

    def lag() -> dict[str, float]:
        return {
            sample.labels["topic"]: sample.value
            for family in text_string_to_metric_families(read_page(f"http://127.0.0.1:{port}/metrics"))
            for sample in family.samples
            if sample.name == "placet_lag_records" and sample.labels["partition"] == str(home)
        }

    wait_until(lambda: lag() == dict.fromkeys(world.topics.inputs, 0.0), 30, f"no lag: {lag()}")
    assert gate.process.poll() is None


def test_a_broker_restart_is_survived(world: World, broker: Broker) -> None:
    gate = world.gate("a")
    world.load(2_000)
    world.flush()
    world.decided()
    broker.restart()
    world.load(2_000, first=2_000)
    world.flush()
    world.decided(90)
    assert gate.process.poll() is None
    verified(world)


def test_a_clock_an_hour_ahead_stops_the_gate_before_anything_is_committed(world: World) -> None:
    gate = world.gate("a", program=(str(HERE / "gate_with_a_fast_clock.py"),))
    world.load(100)
    world.flush()
    wait_until(lambda: gate.process.poll() is not None, 60, "the gate stops")
    assert gate.process.returncode == 5
    assert "clock" in gate.text()
    assert world.committed() == {}
    assert world.decisions() == []
    world.gate("b")
    world.decided(60)
    verified(world)


def test_a_task_that_raises_is_taken_out_and_the_others_go_on(world: World) -> None:
    gate = world.gate("a", program=(str(HERE / "gate_with_a_broken_task.py"),))
    world.load(2_000)
    world.flush()
    others = {key: end for key, end in world.ends(world.topics.inputs).items() if key[1] != 0}
    wait_until(lambda: others.items() <= world.committed().items(), 60, "the other partitions are decided")
    assert not [key for key in world.committed() if key[1] == 0], "nothing of the broken one is committed"
    assert gate.process.poll() is None
    assert "a bug in partition 0" in gate.text()
    assert gate.terminate() == 0
    world.gate("b")
    verified(world)


def break_the_partition_count(world: World) -> None:
    admin = world.admin()
    admin.delete_topics([world.topics.decisions])[world.topics.decisions].result()
    wait_until(lambda: world.topics.decisions not in admin.list_topics(timeout=5).topics, 20, "the topic is gone")
    admin.create_topics([NewTopic(world.topics.decisions, 3, 1)])[world.topics.decisions].result()


def break_the_timestamps(world: World) -> None:
    world.alter(world.topics.signals, "message.timestamp.type", "CreateTime")


def break_the_cleanup_policy(world: World) -> None:
    world.alter(world.topics.changelog, "cleanup.policy", "delete")


def break_the_lag(world: World) -> None:
    world.alter(world.topics.ledger, "min.compaction.lag.ms", "1000")


@pytest.mark.parametrize(
    "break_it", [break_the_partition_count, break_the_timestamps, break_the_cleanup_policy, break_the_lag]
)
def test_wrong_topics_are_refused_at_start(world: World, break_it: Callable[[World], None]) -> None:
    break_it(world)
    world.load(10)
    world.flush()
    gate = world.gate("a")
    wait_until(lambda: gate.process.poll() is not None, 60, "the gate refuses")
    assert gate.process.returncode == 3
    assert f"{world.app}.order." in gate.text()
    assert world.committed() == {}


def test_another_definition_of_the_same_version_is_refused(world: World) -> None:
    world.gate("a")
    world.load(100)
    world.flush()
    world.decided()
    changed = world.folder / "order.yaml"
    changed.write_text(world.file.read_text().replace("valid_for: 10m", "valid_for: 5m"))
    world.file = changed
    other = world.gate("b")
    wait_until(lambda: other.process.poll() is not None, 60, "the second gate refuses")
    assert other.process.returncode == 3
    assert "Count the version up" in other.text()


def test_ledger_links_hold_over_owners(world: World) -> None:
    for name in ("a", "b", "a"):
        gate = world.gate(name)
        world.load(300, seed=len(world.gates))
        world.flush()
        world.decided()
        assert gate.terminate() == 0
    for commits in world.commits().values():
        for before, after in pairwise(commits):
            assert after.sequence == before.sequence + 1
            assert after.previous == before.digest
            assert after.task_epoch >= before.task_epoch
        assert commits[-1].task_epoch == 3
