"""Timers through the driver: what happens because time passed, as a user of a definition sees it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from placet.definitions import parse_definition
from placet.processors.machine import compile_machine
from placet.schemas.codec.inputs import made_message
from placet.schemas.decision import Outcome, Reason
from placet.schemas.errors import DefinitionError
from placet.schemas.messages import Kind, Message
from placet.streams.loop import task_calls
from placet.streams.records import TopicPartition
from placet.streams.recovery.restore import restore
from placet.streams.state import layout
from placet.streams.state.store import MemoryStore
from placet.streams.topology import TaskId
from placet.testing import START_MS, TestDriver
from tests.lamp import InPieces, job_of
from tests.memory_log import log_of, restore_at_once

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
    time_passes(driver, seconds=40)
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


def time_passes(driver: TestDriver, **by: float) -> None:
    """Let time pass while no gate runs."""
    driver._gate._scheduler.start_ns += int(timedelta(**by).total_seconds() * 1e9)


def fired(driver: TestDriver) -> list[tuple[str, Outcome, Reason]]:
    return [(one.name, one.outcome, one.reason) for one in driver.decisions if one.kind is Kind.TIMER]


@pytest.mark.parametrize("topic", [Kind.SIGNAL, Kind.PROPOSAL])
def test_an_answer_that_lay_there_in_time_beats_the_timer_however_late_the_gate_is(topic: Kind) -> None:
    driver = watching()
    driver.advance(seconds=29)
    message = driver_message(driver)
    if topic is Kind.PROPOSAL:
        message = replace(message, kind=topic, name="answer", dedup_key="a-1")
    driver.append(topic, b"rex", driver.codec.encode_message(message))
    time_passes(driver, hours=25)
    driver.run()
    driver.advance(minutes=1)
    assert driver.read("rex").status == "ok"
    assert fired(driver) == []


def test_an_outage_of_25_hours_delays_timers_and_loses_none() -> None:
    driver = watching()
    time_passes(driver, hours=25)
    driver.restart()
    driver.advance(seconds=1)
    assert driver.read("rex").status == "alerted"
    assert fired(driver) == [("nobody_answered", Outcome.ACCEPTED, Reason.NONE)]


def test_a_new_life_with_a_timer_due_at_the_same_time_is_another_one() -> None:
    driver = TestDriver.from_text(PET)
    until = driver.now_ms + 100_000
    for life in ("1", "2"):
        driver.signal("rex", "seen", signal_id=f"s-{life}")
        driver.signal("rex", "until", {"valid_to": until}, signal_id=f"u-{life}")
        driver.signal("rex", "odd", signal_id=f"o-{life}")
        driver.advance(seconds=31)  # nobody answered: alerted, and it decays at that time
        assert driver.read("rex").status == "alerted"
        if life == "1":
            driver.signal("rex", "gone", signal_id="g-1")
            driver.advance(seconds=1)
    driver.advance(seconds=60)
    assert driver.read("rex").status == "ok"
    assert [name for name, _, _ in fired(driver)] == ["nobody_answered", "nobody_answered", "decays"]


GUARDED = PET.replace("after: 30s, to: alerted,", "after: 30s, to: alerted, guard: state.alerts < 1,")


def test_a_timer_whose_guard_does_not_hold_is_refused_once_and_stays_so_after_restarts() -> None:
    driver = TestDriver.from_text(GUARDED)
    driver.signal("rex", "seen", signal_id="s-1")
    for turn in range(2):
        driver.signal("rex", "odd", signal_id=f"odd-{turn}")
        driver.advance(seconds=31)
        if turn == 0:
            driver.signal("rex", "until", {"valid_to": driver.now_ms + 2_000}, signal_id="u-1")
            driver.advance(seconds=3)
    assert fired(driver)[-1] == ("nobody_answered", Outcome.REFUSED, Reason.GUARD_FAILED)
    version = driver.read("rex").version
    for _ in range(3):
        driver.restart()
        driver.advance(hours=30)
    assert len(fired(driver)) == 3
    assert driver.read("rex").version == version


def test_a_restore_that_was_given_up_anywhere_forgets_no_timer_that_fired() -> None:
    """Its successor reads the ledger from the beginning: an entry, its deletion, and the entry again."""
    driver = TestDriver.from_text(GUARDED.replace("alerts < 1", "alerts < 0"))
    driver.signal("rex", "seen", signal_id="s-1")
    for turn in range(2):
        driver.signal("rex", "odd", signal_id=f"odd-{turn}")
        driver.advance(seconds=31)
        assert fired(driver)[-1] == ("nobody_answered", Outcome.REFUSED, Reason.GUARD_FAILED)
        if turn == 0:
            driver.signal("rex", "calm", signal_id="c-1")
            driver.advance(hours=49)
    key = layout.ledger_index_key(layout.disarmed_ledger_key("rex", "nobody_answered"))
    entries = [
        record for record in driver.log.records(TopicPartition(driver.topics.ledger, 0)) if record.key == key[1:]
    ]
    assert [record.value is None for record in entries] == [False, True, False]
    for steps in range(20):
        job = job_of(driver, 0, 1, MemoryStore())
        log = InPieces(driver, 1)
        given_up = restore(job, log)
        for _ in zip(range(steps), given_up, strict=False):
            log.poll()
        given_up.close()
        restore_at_once(job, log_of(driver))
        assert not job.form.load(job.store.get(layout.state_key(b"rex")) or b"").armed
        assert layout.is_needed(job.store.get(key) or b"", driver.read("rex"))


def test_many_that_are_due_at_once_hold_up_nobody_and_fire_once_each() -> None:
    driver = TestDriver.from_text(PET)
    for number in range(2_500):
        driver.append(Kind.SIGNAL, b"p-%d" % number, encoded(driver, "seen", f"p-{number}"))
        driver.append(Kind.SIGNAL, b"p-%d" % number, encoded(driver, "odd", f"p-{number}"))
    driver.run()
    time_passes(driver, minutes=1)
    assert driver.signal("rex", "seen", signal_id="s-1").outcome is Outcome.ACCEPTED
    driver.advance(seconds=1)
    names = Counter(one.entity_id for one in driver.decisions if one.kind is Kind.TIMER)
    assert len(names) == 2_500
    assert set(names.values()) == {1}


def encoded(driver: TestDriver, name: str, entity: str) -> bytes:
    return driver.codec.encode_message(
        made_message(
            Kind.SIGNAL, name, input_id=f"{name}-1", entity_id=entity, payload={}, event_time=driver.now_ms,
            issued_at=driver.now_ms,
        )
    )  # fmt: skip


def test_new_rules_leave_an_armed_timer_its_time_and_decide_what_it_does() -> None:
    driver = watching()
    newer = PET.replace("version: 1", "version: 2").replace(
        "after: 30s, to: alerted, set", "after: 90s, to: alerted, set"
    )
    driver.restart(parse_definition(newer))
    driver.advance(seconds=31)
    assert driver.read("rex").status == "alerted"
    driver = watching()
    begin = PET.index("  nobody_answered")
    line = PET[begin : PET.index("\n", begin) + 1]
    driver.restart(parse_definition(PET.replace("version: 1", "version: 2").replace(line, "")))
    driver.advance(seconds=31)
    assert driver.read("rex").status == "watching"
    assert fired(driver) == [("nobody_answered", Outcome.REFUSED, Reason.ILLEGAL_TRANSITION)]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("late: {from: ok, to: alerted}", "a timer has one time"),
        ("late: {from: ok, after: 5s, at: state.valid_to, to: alerted}", "a timer has one time"),
        ("late: {from: ok, after: 500ms, to: alerted}", "shorter than a second"),
        ("late: {from: ok, at: state.valid, to: alerted}", "the state has no field 'valid'"),
        ("late: {from: ok, at: state.alerts, to: alerted}", "alerts is"),
        ("late: {from: ok, at: valid_to, to: alerted}", "is no field of the state"),
        ("late: {from: absent, after: 5s, to: ok}", "an absent entity has no timers"),
        ("late: {from: ok, after: 5s, copy: valid_to}", "a timer carries no payload"),
        ("late: {from: ok, after: 5s, to: alerted, guard: payload.valid_to != null}", "payload"),
        ("seen: {from: ok, after: 5s, to: alerted}", "is the name of a signal as well"),
    ],
)
def test_what_no_timer_can_be_is_refused_with_its_place(written: str, said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        compile_machine(parse_definition(f"{PET}  {written}\n"))
    assert said in str(caught.value)
    assert f"timers.{written.partition(':')[0]}" in str(caught.value)


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
