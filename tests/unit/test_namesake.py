"""Whether another gate has our name, told from the group's members: a dead predecessor, ourselves, or a rival."""

from __future__ import annotations

from threading import Event
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from placet.schemas.errors import SettingsError
from placet.streams.errors import LogUnreachable
from placet.streams.kafka.admin import BrokerUnreachable
from placet.streams.loop.namesake import Namesake
from placet.streams.publishing import group_members

SESSION_S = 45.0
PATIENCE_S = 4 * SESSION_S + 2


class Group:
    """A group whose members come and go as told, one list for each look; the last one stays."""

    def __init__(self, *looks: list[str] | Exception) -> None:
        self.looks = list(looks)
        self.asked = 0
        self.coordinator = 1

    def listed(self) -> tuple[int, list[Any]]:
        self.asked += 1
        found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(found, Exception):
            raise found
        members = [member.split("/") for member in found]
        return self.coordinator, [
            SimpleNamespace(client_id=client, member_id=own, host="/10.0.0.5") for client, own in members
        ]


class Time:
    """The clock of the module, and an event whose waiting makes it pass."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, timeout_s: float) -> bool:
        self.now_s += timeout_s
        return False


@pytest.fixture
def time() -> Time:
    return Time()


def namesake(group: Group, time: Time, *, static: bool = False) -> tuple[Namesake, MagicMock]:
    observer = MagicMock()
    made = Namesake(group.listed, "app.twin", "twin", SESSION_S, observer, time.monotonic, static=static)
    return made, observer


def waited(group: Group, time: Time) -> tuple[float, MagicMock]:
    made, observer = namesake(group, time)
    began_s = time.now_s
    made.wait(cast("Any", time), lambda: None)
    return time.now_s - began_s, observer


def test_nobody_of_our_name_is_not_waited_for(time: Time) -> None:
    duration_s, observer = waited(Group(["app.other/m1", "app.twin.restore/m2"]), time)
    assert duration_s == 0
    observer.event.assert_not_called()


def test_a_dead_predecessor_is_waited_for_until_it_is_gone(time: Time) -> None:
    duration_s, observer = waited(Group(*[["app.twin/m1", "app.other/m2"]] * 100, ["app.other/m2"]), time)
    assert duration_s == pytest.approx(10.0)
    observer.event.assert_called_once_with(
        "waiting for a gate of this name to leave the group", host="10.0.0.5", at_most_s=PATIENCE_S
    )


def test_one_that_outlives_its_session_is_another_gate(time: Time) -> None:
    with pytest.raises(SettingsError, match=r'^another gate is called "twin" \(host 10\.0\.0\.5\)\..*--instance'):
        waited(Group(["app.twin/m1"]), time)
    assert time.now_s == pytest.approx(1_000 + PATIENCE_S, abs=0.5)


def test_a_group_that_can_not_be_asked_stops_nobody(time: Time) -> None:
    duration_s, observer = waited(Group(BrokerUnreachable("nobody there")), time)
    assert duration_s == 0
    observer.event.assert_called_once_with("could not look for gates of this name", why="nobody there")


def test_a_predecessor_that_can_not_be_asked_about_for_a_moment_is_still_waited_for(time: Time) -> None:
    away = BrokerUnreachable("nobody there")
    duration_s, _ = waited(Group(["app.twin/m1"], away, away, ["app.twin/m1"], []), time)
    assert duration_s == pytest.approx(0.4)


def test_a_coordinator_that_was_away_gives_a_dead_predecessor_a_new_session(time: Time) -> None:
    away = [BrokerUnreachable("nobody there")] * 300
    alive = [["app.twin/m1"]] * 1_750
    duration_s, _ = waited(Group(["app.twin/m1"], *away, *alive, []), time)
    assert duration_s > PATIENCE_S


def test_each_coordinator_gives_a_dead_predecessor_a_new_session(time: Time) -> None:
    group, began_s, looks = Group(["app.twin/m1"]), time.now_s, 0
    made, _ = namesake(group, time)

    def awake() -> None:
        nonlocal looks
        looks += 1
        if looks % 1_000 == 0:
            group.coordinator += 1
        if looks == 6_000:
            group.looks = [[]]

    made.wait(cast("Any", time), awake)
    assert time.now_s - began_s == pytest.approx(600.0)


def test_a_static_gate_gives_a_dead_one_a_new_session_by_each_coordinator(time: Time) -> None:
    group = Group(["app.twin/theirs"])
    made, _ = namesake(group, time, static=True)
    for attempt in range(51):
        group.coordinator = attempt // 17
        made.look(f"ours-{attempt}", fenced=False)
        time.now_s += 11
    with pytest.raises(SettingsError, match="another gate is called"):
        made.look("ours", fenced=False)


def test_waiting_ends_when_the_gate_is_told_to_stop_and_keeps_it_alive_until_then(time: Time) -> None:
    group, looks = Group(["app.twin/m1"]), 0
    stopping = Event()

    def awake() -> None:
        nonlocal looks
        looks += 1
        stopping.set()

    made, _ = namesake(group, time)
    made.wait(stopping, awake)
    assert looks == 1


def test_a_static_gate_does_not_wait_as_one_that_left_in_good_order_is_still_listed(time: Time) -> None:
    group = Group(["app.twin/m1"])
    made, _ = namesake(group, time, static=True)
    made.wait(cast("Any", time), lambda: None)
    assert group.asked == 0


def test_a_fenced_gate_ends_when_another_one_of_its_name_is_in_the_group(time: Time) -> None:
    made, _ = namesake(Group(["app.twin/theirs"]), time)
    with pytest.raises(SettingsError, match="another gate is called"):
        made.look("ours", fenced=True)


def test_a_gate_fenced_for_its_own_slow_transaction_goes_on_though_its_own_members_are_still_listed(time: Time) -> None:
    made, _ = namesake(Group(["app.twin/first", "app.other/x"], ["app.twin/first", "app.twin/second"]), time)
    made.look("first", fenced=True)
    made.look("second", fenced=True)


def test_a_fenced_gate_goes_on_when_the_group_can_not_be_asked(time: Time) -> None:
    made, observer = namesake(Group(BrokerUnreachable("nobody there")), time)
    made.look("ours", fenced=True)
    observer.event.assert_called_once_with("could not look for gates of this name", why="nobody there")


def test_a_static_gate_that_is_not_admitted_gives_way_after_a_dead_ones_session(time: Time) -> None:
    made, _ = namesake(Group(["app.twin/theirs"]), time, static=True)
    for attempt in range(17):
        made.look(f"ours-{attempt}", fenced=False)
        time.now_s += 11
    with pytest.raises(SettingsError, match="another gate is called"):
        made.look("ours-5", fenced=False)


def test_who_was_listed_before_the_coordinator_was_away_has_a_new_session(time: Time) -> None:
    made, _ = namesake(Group(["app.twin/theirs"]), time, static=True)
    for attempt in range(16):
        made.look(f"ours-{attempt}", fenced=False)
        time.now_s += 11
    time.now_s += SESSION_S
    made.look("ours-16", fenced=False)


def test_one_that_is_followed_by_another_is_not_the_same_that_stays(time: Time) -> None:
    made, _ = namesake(Group(["app.twin/one"], ["app.twin/two"], []), time, static=True)
    made.look("ours-1", fenced=False)
    time.now_s += 60
    made.look("ours-2", fenced=False)
    time.now_s += 60
    made.look("ours-3", fenced=False)


def test_a_coordinator_that_does_not_answer_is_not_asked_for_members() -> None:
    """librdkafka aborts the process where it goes away amid that question."""
    reader, admin = MagicMock(), MagicMock()
    reader.committed.return_value = None
    with pytest.raises(LogUnreachable, match="coordinator does not answer"):
        group_members(reader, admin, "app")
    admin.coordinator_and_members.assert_not_called()
    reader.committed.return_value = {}
    assert group_members(reader, admin, "app") is admin.coordinator_and_members.return_value
