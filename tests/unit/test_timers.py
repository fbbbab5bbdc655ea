"""Timers through the driver: what happens because time passed, as a user of a definition sees it."""

from __future__ import annotations

import pytest

from placet.schemas.codec.inputs import made_message
from placet.schemas.decision import Outcome, Reason
from placet.schemas.definition.model import parse_definition
from placet.schemas.messages import Kind, Message
from placet.streams.loop import task_calls
from placet.streams.topology import TaskId
from placet.testing import START_MS, TestDriver

PET = """
entity: pet
version: 1
horizon: 48h
statuses: [ok, watching, alerted]
fields:
  valid_to: timestamp | null
  alerts: {type: int, default: 0}
signals:
  seen: {from: absent, to: ok}
  odd: {from: ok, to: watching}
  still_odd: {from: watching}
  calm: {from: watching, to: ok}
  until: {payload: {valid_to: timestamp}, from: [ok, alerted], copy: valid_to}
  gone: {from: [ok, watching, alerted], to: absent}
proposals:
  answer: {from: watching, to: ok, fence: none}
timers:
  nobody_answered: {from: watching, after: 30s, to: alerted, set: {alerts: state.alerts + 1}}
  decays: {from: alerted, at: state.valid_to, to: ok, set: {valid_to: null}}
"""


def watching() -> TestDriver:
    driver = TestDriver.from_text(PET)
    driver.signal("rex", "seen", signal_id="s-1")
    driver.signal("rex", "odd", signal_id="s-2")
    return driver


def test_a_timer_fires_when_it_is_due_and_once() -> None:
    driver = watching()
    driver.advance(seconds=29)
    assert driver.read("rex").status == "watching"
    driver.advance(seconds=2)
    state = driver.read("rex")
    assert (state.status, state.fields["alerts"], state.version) == ("alerted", 1, 3)
    fired = driver.decided[-1]
    assert (fired.decision.kind, fired.decision.name, fired.decision.outcome) == (
        Kind.TIMER,
        "nobody_answered",
        Outcome.ACCEPTED,
    )
    assert (fired.at.topic, fired.at.offset) == ("", -1)
    driver.advance(hours=25)
    assert len(driver.decisions) == 3


def test_leaving_the_status_takes_it_away_and_staying_does_not() -> None:
    driver = watching()
    driver.advance(seconds=20)
    driver.signal("rex", "still_odd", signal_id="s-3")
    driver.advance(seconds=11)
    assert driver.read("rex").status == "alerted"
    driver = watching()
    driver.propose("rex", "answer", dedup_key="a-1")
    driver.advance(minutes=5)
    assert driver.read("rex").status == "ok"
    assert len(driver.decisions) == 3


def test_a_time_field_moves_its_timer_and_null_does_not_arm_it() -> None:
    driver = watching()
    driver.advance(seconds=31)
    driver.advance(hours=1)
    assert driver.read("rex").status == "alerted"
    driver.signal("rex", "until", {"valid_to": driver.now_ms + 60_000}, signal_id="s-3")
    driver.signal("rex", "until", {"valid_to": driver.now_ms + 120_000}, signal_id="s-4")
    driver.advance(seconds=90)
    assert driver.read("rex").status == "alerted"
    driver.advance(seconds=31)
    state = driver.read("rex")
    assert (state.status, state.fields["valid_to"]) == ("ok", None)


def test_a_timer_that_is_due_comes_before_a_later_input_of_its_entity() -> None:
    driver = watching()
    driver.append(Kind.SIGNAL, b"rex", driver.codec.encode_message(driver_message(driver)))
    driver.advance(seconds=40)  # the input waits at the time before it
    driver.run()
    assert [(d.name, d.reason) for d in driver.decisions[2:]] == [("calm", Reason.NONE)]
    driver = watching()
    driver._gate._scheduler.start_ns += 40_000_000_000
    assert driver.signal("rex", "calm", signal_id="s-9").reason is Reason.ILLEGAL_TRANSITION
    assert [d.name for d in driver.decisions[2:]] == ["nobody_answered", "calm"]


def driver_message(driver: TestDriver) -> Message:
    return made_message(
        Kind.SIGNAL, "calm", input_id="s-9", entity_id="rex", payload={}, event_time=driver.now_ms,
        issued_at=driver.now_ms,
    )  # fmt: skip


def test_timers_are_armed_after_a_restart() -> None:
    driver = watching()
    driver.advance(seconds=10)
    driver.restart()
    driver.advance(seconds=21)
    assert driver.read("rex").status == "alerted"
    driver.restart()
    driver.advance(hours=30)
    assert [d.kind for d in driver.decisions].count(Kind.TIMER) == 1


def test_a_deleted_entity_has_no_timers() -> None:
    driver = watching()
    driver.signal("rex", "gone", signal_id="s-3")
    driver.advance(minutes=1)
    assert [d.kind for d in driver.decisions].count(Kind.TIMER) == 0


def test_how_long_a_timer_was_due_is_told_with_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[dict[tuple[Kind, Outcome, Reason], int], list[int]]] = []
    driver = watching()
    monkeypatch.setattr(driver._gate._told, "decided", lambda *batch: told.append((dict(batch[2]), list(batch[4]))))
    next_due = driver.now_ms + 30_000
    assert task_calls.next_due([driver.task()]) == {TaskId("pet", 0): next_due}
    driver.advance(seconds=31)
    fired = (Kind.TIMER, Outcome.ACCEPTED, Reason.NONE)
    assert told == [({fired: 1}, [1])]
    assert task_calls.next_due([driver.task()]) == {}
    driver = watching()
    monkeypatch.setattr(driver._gate._told, "decided", lambda *batch: told.append((dict(batch[2]), list(batch[4]))))
    driver._gate._scheduler.start_ns += 40_000_000_000
    driver.signal("rex", "calm", signal_id="s-9")
    assert told[1:] == [({fired: 1, (Kind.SIGNAL, Outcome.REFUSED, Reason.ILLEGAL_TRANSITION): 1}, [10_000])]


def test_advance_takes_a_duration_as_a_definition_does_and_tells_what_fired() -> None:
    driver = watching()
    assert driver.advance("29s") == []
    assert driver.advance("500ms", milliseconds=500) == []
    [fired] = driver.advance("1s")
    assert (fired.name, fired.outcome, fired.entity_id) == ("nobody_answered", Outcome.ACCEPTED, "rex")
    assert driver.now_ms == START_MS + 31_000
    assert [found.decision for found in driver.take_decided()] == [fired], "it is no less new to others"
    assert driver.advance("7d") == []
    for text in ("soon", "1 s", "-1s", ""):
        with pytest.raises(ValueError, match="is no duration: write 500ms"):
            driver.advance(text)


def test_advance_tells_of_all_partitions() -> None:
    driver = TestDriver(parse_definition(PET), partitions=3)
    for name in ("rex", "ben", "tom", "kim"):
        driver.signal(name, "seen", signal_id=f"s-{name}")
        driver.signal(name, "odd", signal_id=f"o-{name}")
    assert sorted(fired.entity_id for fired in driver.advance("31s")) == ["ben", "kim", "rex", "tom"]
