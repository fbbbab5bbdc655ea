"""How a user tests a definition: `placet.testing.TestDriver`, read as its documentation.

A rover is driven by an AI. What it senses are signals; where to go are proposals.
"""

from __future__ import annotations

import gc
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any
from weakref import ref

import pytest

from placet.schemas.definition.model import parse_definition
from placet.schemas.errors import DefinitionError, InvalidPayload, SettingsError
from placet.streams.errors import TaskStopped
from placet.streams.records import TopicPartition
from placet.streams.state.rocksdb import RocksDBStore
from placet.streams.state.store import Writes
from placet.testing import START_MS, Kind, Outcome, Reason, TestDriver

ROVER = """
entity: rover
version: 1
horizon: 1h
statuses: [parked, driving]
fields:
  metres: {type: int, default: 0}
  battery: {type: int, default: 100}
signals:
  landed: {dedup: once, from: absent, to: parked}
  battery_measured: {payload: {battery: int}, late: refuse, from: any, copy: battery}
  stopped: {from: driving, to: parked}
  lost: {from: any, to: absent}
proposals:
  drive:
    payload: {metres: int}
    valid_for: 1m
    from: parked
    to: driving
    guard: state.battery > 20
    set: {metres: state.metres + payload.metres}
"""


@pytest.fixture
def driver() -> TestDriver:
    driver = TestDriver.from_text(ROVER)
    driver.signal("rover-1", "landed", signal_id="landing")
    return driver


def test_a_proposal_changes_the_state(driver: TestDriver) -> None:
    decision = driver.propose("rover-1", "drive", {"metres": 5}, dedup_key="plan-1")
    assert decision.outcome is Outcome.ACCEPTED
    state = driver.read("rover-1")
    assert (state.status, state.version, state.fields["metres"]) == ("driving", 2, 5)


def test_a_retry_gets_the_first_decision(driver: TestDriver) -> None:
    seen = driver.read("rover-1")
    driver.propose("rover-1", "drive", {"metres": 5}, dedup_key="plan-1", base=seen)
    again = driver.propose("rover-1", "drive", {"metres": 5}, dedup_key="plan-1", base=seen)
    assert (again.outcome, again.changed) == (Outcome.DUPLICATE, False)
    assert again.first is not None
    assert again.first.input_id == "proposal-1"


def test_the_world_moved_on_while_the_agent_thought(driver: TestDriver) -> None:
    seen = driver.read("rover-1")
    driver.signal("rover-1", "battery_measured", {"battery": 80}, signal_id="b-1")
    decision = driver.propose("rover-1", "drive", {"metres": 5}, caused_by="b-0", base=seen)
    assert decision.reason is Reason.STALE
    assert decision.conflicts[0].fields == ("battery",)


def test_time_passes_when_it_is_told_to(driver: TestDriver) -> None:
    assert driver.now_ms == START_MS
    issued_at = driver.now_ms
    driver.advance(minutes=1, milliseconds=1)
    assert driver.now_ms == START_MS + 60_001
    late = driver.propose("rover-1", "drive", {"metres": 5}, dedup_key="plan-1", issued_at=issued_at)
    assert late.reason is Reason.EXPIRED
    with pytest.raises(ValueError, match="forward"):
        driver.advance(seconds=-1)


def test_times_are_as_for_a_client(driver: TestDriver) -> None:
    now = datetime.fromtimestamp(driver.now_ms / 1000, UTC)

    def measured(**times: Any) -> Reason:
        number = len(driver.decisions)
        return driver.signal("rover-1", "battery_measured", {"battery": 70}, signal_id=f"b-{number}", **times).reason

    assert measured(event_time=now, issued_at=now) is Reason.NONE
    assert measured(event_time=now - timedelta(milliseconds=5)) is Reason.SUPERSEDED
    moved = {"metres": 5}
    late = driver.propose("rover-1", "drive", moved, dedup_key="plan-1", issued_at=now - timedelta(minutes=5))
    over = driver.propose("rover-1", "drive", moved, dedup_key="plan-2", valid_until=now - timedelta(seconds=1))
    assert (late.reason, over.reason) == (Reason.EXPIRED, Reason.EXPIRED)
    for given, says in (
        (driver.now_ms // 1000, "Is it in seconds?"),
        (driver.now_ms * 1000, "Is it in micro- or nanoseconds?"),
        (now.replace(tzinfo=None), "without a time zone"),
        (float(driver.now_ms), "of type float"),
    ):
        for name in ("event_time", "issued_at"):
            with pytest.raises(InvalidPayload, match=re.escape(says)):
                measured(**{name: given})
        for name in ("issued_at", "valid_until"):
            with pytest.raises(InvalidPayload, match=re.escape(says)):
                driver.propose("rover-1", "drive", moved, dedup_key="plan-3", **{name: given})


def test_facts_may_come_late_or_twice(driver: TestDriver) -> None:
    now = driver.now_ms
    driver.signal("rover-1", "battery_measured", {"battery": 70}, signal_id="b-2", event_time=now)
    older = driver.signal("rover-1", "battery_measured", {"battery": 90}, signal_id="b-1", event_time=now - 5)
    twice = driver.signal("rover-1", "battery_measured", {"battery": 70}, signal_id="b-2", event_time=now)
    assert [older.reason, twice.reason] == [Reason.SUPERSEDED, Reason.REPEATED]


def test_a_guard_is_tested_by_a_state_that_breaks_it(driver: TestDriver) -> None:
    driver.signal("rover-1", "battery_measured", {"battery": 20}, signal_id="b-1")
    decision = driver.propose("rover-1", "drive", {"metres": 5}, dedup_key="plan-1")
    assert decision.reason is Reason.GUARD_FAILED
    assert "state.battery > 20" in decision.detail


def test_an_entity_never_seen_is_absent_at_version_0(driver: TestDriver) -> None:
    state = driver.read("rover-2")
    assert (state.status, state.version, state.incarnation) == ("absent", 0, 0)
    decision = driver.propose("rover-2", "drive", {"metres": 5}, dedup_key="plan-1", base=state)
    assert decision.reason is Reason.ILLEGAL_TRANSITION


def test_everything_that_the_gate_writes_can_be_read(driver: TestDriver) -> None:
    driver.propose("rover-1", "drive", {"metres": 5}, dedup_key="plan-1", proposer="planner")
    driver.propose("rover-1", "drive", {"metres": 5}, dedup_key="plan-2")
    assert [decision.outcome for decision in driver.decisions] == [Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.REFUSED]
    assert [at.offset for _, at in driver.decided] == [0, 0, 1]
    changes = [change for change in driver.changelog if change is not None]
    assert [(change.name, change.state.version) for change in changes] == [("landed", 1), ("drive", 2)]
    assert changes[1].proposer == "planner"
    assert [type(entry).__name__ for entry in driver.ledger] == ["Genesis", "Commit", "Commit", "Commit"]


def test_a_restart_loses_nothing(driver: TestDriver) -> None:
    driver.propose("rover-1", "drive", {"metres": 5}, dedup_key="plan-1")
    before = driver.read("rover-1")
    driver.restart()
    assert driver.read("rover-1") == before
    assert driver.propose("rover-1", "drive", {"metres": 5}, dedup_key="plan-1").outcome is Outcome.DUPLICATE


def test_new_rules_are_tried_on_the_old_log(driver: TestDriver) -> None:
    """The second version has another guard; what was accepted under the first one stays."""
    driver.propose("rover-1", "drive", {"metres": 5}, dedup_key="plan-1")
    driver.restart(parse_definition(ROVER.replace("version: 1", "version: 2").replace("> 20", "> 100")))
    driver.signal("rover-1", "stopped", signal_id="stop-1")
    assert driver.propose("rover-1", "drive", {"metres": 5}, dedup_key="plan-2").reason is Reason.GUARD_FAILED
    assert driver.read("rover-1").fields["metres"] == 5


def test_a_deleted_entity_is_forgotten_after_the_horizon(driver: TestDriver) -> None:
    driver.signal("rover-1", "lost", signal_id="lost-1")
    assert driver.read("rover-1").version == 2
    driver.advance(hours=1, minutes=1, seconds=1)
    assert driver.read("rover-1").version == 0
    assert driver.changelog[-1] is None


def test_bytes_of_other_peoples_producers_never_block(driver: TestDriver) -> None:
    poison = driver.send_raw(Kind.PROPOSAL, b"rover-1", b"{}")
    assert poison.reason is Reason.UNDECODABLE
    assert driver.dead_letters[0].value == b"{}"
    assert driver.propose("rover-1", "drive", {"metres": 5}, dedup_key="plan-1").outcome is Outcome.ACCEPTED


def test_a_record_in_the_wrong_partition_is_refused() -> None:
    driver = TestDriver(parse_definition(ROVER), partitions=2)
    driver.signal("rover-1", "landed", signal_id="landing")
    home = driver.decided[0].at.partition
    value = driver.log.records(TopicPartition(driver.topics.signals, home))[0].value
    assert driver.send_raw(Kind.SIGNAL, b"rover-1", value, partition=1 - home).reason is Reason.WRONG_PARTITION


def test_several_inputs_can_wait_for_one_transaction(driver: TestDriver) -> None:
    for value in (b"first", b"second"):
        driver.append(Kind.SIGNAL, b"rover-1", value)
        driver.advance(seconds=1)
    decided = driver.run()
    assert [(found.at.sequence, found.at.index) for found in decided] == [(2, 0), (2, 1)]
    assert driver.run() == []


def test_what_a_client_would_not_send_is_not_sent(driver: TestDriver) -> None:
    with pytest.raises(InvalidPayload, match="metres"):
        driver.propose("rover-1", "drive", {"metres": "far"}, dedup_key="plan-1")
    with pytest.raises(InvalidPayload, match="fly"):
        driver.propose("rover-1", "fly", dedup_key="plan-1")
    assert len(driver.decisions) == 1


def test_a_file_that_is_no_definition_says_where(tmp_path: Path) -> None:
    path = tmp_path / "rover.yaml"
    path.write_text(ROVER.replace("state.battery", "state.batery"))
    with pytest.raises(DefinitionError, match=r"rover.yaml:\d+.*batery"):
        TestDriver.from_file(path)


def test_any_store_can_stand_under_it(tmp_path: Path) -> None:
    folders = iter(range(10))
    driver = TestDriver(
        parse_definition(ROVER), partitions=2, make_store=lambda: RocksDBStore(tmp_path / str(next(folders)))
    )
    driver.signal("rover-1", "landed", signal_id="landing")
    driver.restart()
    assert driver.read("rover-1").status == "parked"
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["0", "1", "2", "3"]


def test_rules_that_a_gate_would_not_publish_are_refused_and_the_old_ones_can_go_on(driver: TestDriver) -> None:
    other = ROVER.replace("metres: {type: int, default: 0}", "metres: {type: string, default: far}")
    retyped = parse_definition(other.replace("{metres: state.metres + payload.metres}", "{metres: entity_id}"))
    with pytest.raises(SettingsError, match="version 1: the same version is published with other rules"):
        driver.restart(retyped)
    with pytest.raises(SettingsError, match="the same version"):
        driver.read("rover-1")
    driver.restart()
    assert driver.read("rover-1").status == "parked"


def test_a_task_that_was_stopped_says_so_from_then_on(driver: TestDriver) -> None:
    foreign = b"\xc3\x01" + b"\x11" * 8 + b"of another producer"
    driver.log.append(TopicPartition(driver.topics.changelog, 0), driver.now_ms, b"rover-2", foreign, [("h", b"")])
    driver.restart()
    assert driver.signal("rover-1", "battery_measured", {"battery": 9}, signal_id="b-1").changed
    for rover in ("rover-2", "rover-1"):
        with pytest.raises(TaskStopped, match="'rover-2' can't be read"):
            driver.signal(rover, "battery_measured", {"battery": 8}, signal_id=f"b-{rover}")
    with pytest.raises(TaskStopped, match="'rover-2' can't be read"):
        driver.read("rover-1")


def test_what_the_environment_says_to_gates_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACET_REGISTRY__URL", "http://nowhere:1")
    monkeypatch.setenv("PLACET_BATCH_RECORDS_MAX", "many")
    assert TestDriver.from_text(ROVER).read("rover-1").status == "absent"


def test_a_driver_belongs_to_its_thread(driver: TestDriver) -> None:
    found: list[str] = []

    def elsewhere() -> None:
        try:
            driver.signal("rover-1", "stopped", signal_id="stop-1")
        except RuntimeError as error:
            found.append(str(error))

    thread = Thread(target=elsewhere)
    thread.start()
    thread.join(10)
    assert "another thread" in found[0]


def test_drivers_that_nobody_needs_any_more_leave_nothing_behind() -> None:
    """One ends within another one's gate, as Python's collector may have it."""
    drivers = [TestDriver.from_text(ROVER) for _ in range(3)]
    kept, schedulers = drivers.pop(), [ref(each._gate._scheduler) for each in drivers]
    store = kept.task().store
    write = store.write

    def last_breath(writes: Writes) -> None:
        drivers.clear()
        write(writes)

    store.write = last_breath  # type: ignore[method-assign]
    assert kept.signal("rover-1", "landed", signal_id="landing").changed
    gc.collect()
    assert [each() for each in schedulers] == [None, None]
