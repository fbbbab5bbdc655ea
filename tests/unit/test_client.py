"""The client without Kafka: what is refused before it is sent, who gets which state, who gets which answer."""

from __future__ import annotations

import logging
import re
import sys
import time
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mypy import api

import placet
from placet.client import Client, NoOccasion, NotConnected, Reason, Snapshot
from placet.client.answers import Answers
from placet.client.compose import Composer
from placet.client.core import Core
from placet.client.errors import NotDelivered
from placet.client.explain import explain
from placet.client.explain_text import Case, Compared, compared
from placet.client.mirror import Mirror
from placet.client.past import GONE, as_of, at_version, cause_of, differences, iso, newest, steps
from placet.client.tracing import trace_headers
from placet.schemas.codec.codec import Codec, Remarks
from placet.schemas.codec.contracts import contracts
from placet.schemas.decision import REASONS, Coordinates, Decision, Outcome, Retry
from placet.schemas.definition.model import Definition, parse_definition
from placet.schemas.errors import DecodeError, InvalidPayload
from placet.schemas.messages import Kind, Message, Priority
from placet.schemas.state import EntityState
from placet.streams.records import ConsumerRecord, RecordId, TopicPartition
from placet.streams.telemetry.log import client_logger
from placet.testing import START_MS, TestDriver

DOOR = """
entity: door
version: 1
statuses: [closed, open]
fields: {opened: {type: int, default: 0}, by: string | null}
signals:
  built: {from: absent, to: closed}
  slammed: {from: open, to: closed}
  removed: {from: any, to: absent}
proposals:
  open: {payload: {by: string}, valid_for: 1m, from: closed, to: open, copy: [by], set: {opened: state.opened + 1}}
  paint: {payload: {by: string}, dedup: [by], fence: [by], priority: critical, from: any, copy: [by]}
  name: {payload: {by: {type: string, default: nobody}}, dedup: once, from: any, copy: [by]}
  note: {dedup: once, fence: none, from: any}
"""
RULES: Definition = parse_definition(DOOR)


@pytest.fixture
def driver() -> TestDriver:
    return TestDriver(RULES)


@pytest.fixture
def composer() -> Composer:
    return Composer(RULES, Codec(RULES), "me")


def seen(driver: TestDriver, entity_id: str) -> Snapshot:
    """The newest state as the changelog has it."""
    return history(driver, entity_id)[-1]


def history(driver: TestDriver, entity_id: str) -> list[Snapshot]:
    records = driver.log.records(TopicPartition(driver.topics.changelog, 0))
    return [
        Snapshot.from_record(driver.codec, r.key or b"", r.value, r.headers)
        for r in records
        if r.key == entity_id.encode()
    ]


# -- before anything is sent -----------------------------------------------------------------------------------------


def test_a_proposal_without_an_occasion_is_not_made(composer: Composer) -> None:
    with pytest.raises(NoOccasion, match=r"it would be applied twice\. Give dedup_key="):
        composer.proposal(Snapshot("d-1"), "open", {"by": "me"}, 5, proposal_id="p")
    for name in ("paint", "name"):  # the definition says what their occasion is
        assert composer.proposal(Snapshot("d-1"), name, {"by": "me"}, 5, proposal_id="p").dedup_key is None


@pytest.mark.parametrize(
    ("name", "payload", "entity_id", "says"),
    [
        ("open", {"by": 5}, "d-1", "`by` is 5: expected string"),
        ("open", {}, "d-1", "`by` is missing"),
        ("open", {"by": "me", "to": 1}, "d-1", "`to` is no field of `open`"),
        ("shut", {}, "d-1", "no proposal `shut`; it has open, paint, name, note"),
        ("open", {"by": "me"}, "", "entity_id has 0 bytes"),
        ("open", {"by": "me"}, "x" * 513, "entity_id has 513 bytes"),
    ],
)
def test_what_the_gate_would_not_read_is_not_made(
    composer: Composer, name: str, payload: dict[str, object], entity_id: str, says: str
) -> None:
    with pytest.raises(InvalidPayload, match=says):
        composer.proposal(Snapshot(entity_id), name, payload, 5, proposal_id="p", dedup_key="k")  # type: ignore[arg-type]


def test_ids_and_keys_have_a_length(composer: Composer) -> None:
    for said in ({"proposal_id": ""}, {"proposal_id": "p" * 129}, {"dedup_key": "k" * 400}, {"caused_by": "k" * 400}):
        with pytest.raises(InvalidPayload, match="characters" if "proposal_id" in said else "bytes"):
            composer.proposal(
                Snapshot("d-1"), "open", {"by": "me"}, 5, **{"proposal_id": "p", "dedup_key": "k", **said}
            )  # type: ignore[arg-type]


NOON = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=1)))


def test_an_id_is_as_long_as_the_gate_lets_it_be(driver: TestDriver, composer: Composer) -> None:
    """Characters are counted, not bytes."""
    assert driver.send(composer.signal("d-1", "built", {}, driver.now_ms, signal_id="é" * 128)).applied


def test_times_are_datetimes_or_milliseconds(composer: Composer) -> None:
    def happened(at: object) -> int:
        return composer.signal("d-1", "built", {}, 5, signal_id="s", event_time=at).event_time  # type: ignore[arg-type]

    assert happened(NOON) == happened(1_767_265_200_000) == 1_767_265_200_000
    assert happened(datetime(1999, 1, 1, tzinfo=UTC)) == 915_148_800_000
    assert happened(datetime(2100, 1, 1, tzinfo=UTC)) == happened(4_102_444_799_999) + 1
    for wrong, says in (
        (1_767_265_200, "`event_time` is 1767265200: in milliseconds that is before the year 2000. Is it in seconds?"),
        (1_767_265_200_000_000, "in milliseconds that is after the year 2099. Is it in micro- or nanoseconds?"),
        (4_102_444_800_000, "For a time after 2099 give a datetime with a time zone."),
        (datetime(2026, 1, 1, 12), "without a time zone: give milliseconds since the epoch, or a datetime"),  # noqa: DTZ001
        (1_767_265_200.5, "`event_time` is of type float: give milliseconds since the epoch, or a datetime"),
        (True, "of type bool"),
        ("noon", "of type str"),
    ):
        with pytest.raises(InvalidPayload, match=re.escape(says)):
            happened(wrong)
    for said, says in (({"issued_at": 1_767_265_200}, "Is it in seconds"), ({"valid_for": 60}, "give a datetime.time")):
        with pytest.raises(InvalidPayload, match=says):
            composer.proposal(Snapshot("d-1"), "paint", {"by": "x"}, 5, proposal_id="p", **said)  # type: ignore[arg-type]
    said = composer.proposal(Snapshot("d-1"), "paint", {"by": "x"}, 5, proposal_id="p", issued_at=NOON)
    assert said.issued_at == 1_767_265_200_000


def test_times_in_a_payload_may_be_datetimes_too() -> None:
    rules = parse_definition("""
entity: door
version: 1
statuses: [closed]
signals:
  seen:
    from: absent
    to: closed
    payload: {at: timestamp, all: {type: array, items: timestamp}, by: {type: map, values: timestamp}, who: string}
""")
    composer, at_ms = Composer(rules, Codec(rules)), 1_767_265_200_000
    payload: dict[str, Any] = {"at": NOON, "all": [NOON, 5], "by": {"a": NOON}, "who": "me"}
    made = composer.signal("d-1", "seen", payload, 5, signal_id="s")
    assert made.payload == {"at": at_ms, "all": [at_ms, 5], "by": {"a": at_ms}, "who": "me"}
    for wrong, says in (
        (NOON.replace(tzinfo=None), "`at` is a datetime without a time zone"),
        ("noon", "`at` is 'noon'"),
    ):
        with pytest.raises(InvalidPayload, match=says):
            composer.signal("d-1", "seen", {**payload, "at": wrong}, 5, signal_id="s")
    with pytest.raises(InvalidPayload, match="`who` is datetime"):
        composer.signal("d-1", "seen", {**payload, "who": NOON}, 5, signal_id="s")


def test_entity_version_and_times_travel_in_the_message(driver: TestDriver, composer: Composer) -> None:
    driver.signal("d-1", "built", signal_id="s")
    door = seen(driver, "d-1")
    message = composer.proposal(
        door, "open", {"by": "me"}, START_MS, proposal_id="p", caused_by="s", valid_for=timedelta(seconds=9)
    )
    assert (message.entity_id, message.base_version, message.base_incarnation) == ("d-1", 1, START_MS)
    assert (message.issued_at, message.valid_until, message.proposer) == (START_MS, START_MS + 9_000, "me")
    assert composer.proposal(door, "paint", {"by": "x"}, START_MS, proposal_id="p").priority.name == "CRITICAL"
    assert composer.proposal(door, "name", None, START_MS, proposal_id="p").payload == {"by": "nobody"}
    assert driver.send(message).applied


def test_a_priority_that_nobody_chose_is_the_definitions(driver: TestDriver) -> None:
    def decoded(**chosen: Priority) -> Priority | None:
        message = Message(Kind.PROPOSAL, "paint", "p", "d-1", {"by": "x"}, START_MS, START_MS, **chosen)  # type: ignore[arg-type]
        return driver.codec.decode(Kind.PROPOSAL, driver.codec.encode_message(message)).priority

    assert decoded() is Priority.CRITICAL
    assert [decoded(priority=chosen) for chosen in Priority] == list(Priority)


def test_would_accept_judges_as_the_gate_does(driver: TestDriver, composer: Composer) -> None:
    driver.signal("d-1", "built", signal_id="s-1")
    closed = seen(driver, "d-1")
    assert composer.would_accept(closed, "open", {"by": "me"}, driver.now_ms).applied
    driver.propose("d-1", "open", {"by": "me"}, dedup_key="k")
    driver.propose("d-1", "name", {"by": "me"})
    opened = seen(driver, "d-1")
    assert composer.would_accept(opened, "open", {"by": "me"}, driver.now_ms).reason is Reason.ILLEGAL_TRANSITION
    assert composer.would_accept(opened, "name", {"by": "me"}, driver.now_ms).reason is Reason.NONE
    with pytest.raises(InvalidPayload):
        composer.would_accept(opened, "open", {}, driver.now_ms)


def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(NotConnected, match="is not open"):
        Client(RULES).read("d-1")


def test_trace_context_is_given_or_found(monkeypatch: pytest.MonkeyPatch) -> None:
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert trace_headers() == []
    assert trace_headers(given) == [("traceparent", given.encode())]
    monkeypatch.setitem(sys.modules, "opentelemetry", SimpleNamespace())  # type: ignore[arg-type]
    found = SimpleNamespace(inject=lambda carrier: carrier.update(traceparent="t", tracestate="s"))
    monkeypatch.setitem(sys.modules, "opentelemetry.propagate", found)  # type: ignore[arg-type]
    assert trace_headers() == [("traceparent", b"t"), ("tracestate", b"s")]


# -- states ----------------------------------------------------------------------------------------------------------


class World:
    """A mirror, fed by hand from a driver's changelog."""

    def __init__(self, driver: TestDriver) -> None:
        self.driver = driver
        self.loads: list[int] = []
        self.mirror = Mirror(RULES, driver.codec, 1, self.loads.append)
        self._fed = 0

    def feed(self) -> None:
        records = self.driver.log.records(TopicPartition(self.driver.topics.changelog, 0))
        for record in records[self._fed :]:
            self.mirror.take(record)
        self._fed = len(records)


@pytest.fixture
def world(driver: TestDriver) -> World:
    return World(driver)


def test_a_read_waits_for_its_partition_and_loads_it_once(world: World) -> None:
    first, second = world.mirror.read("d-1", 0), world.mirror.read("d-2", 0)
    assert world.loads == [0]
    world.driver.signal("d-1", "built", signal_id="s")
    world.feed()
    assert not first.done()
    world.mirror.reached_end(0)
    assert (first.result(0).status, first.result(0).version) == ("closed", 1)
    assert (second.result(0).status, second.result(0).version) == ("absent", 0)
    assert second.result(0).fields == {"opened": 0, "by": None}
    assert world.mirror.read("d-1", 0).result(0) == first.result(0)
    assert world.loads == [0]


def test_a_read_waits_for_its_version(world: World) -> None:
    world.mirror.reached_end(0)
    later, never = world.mirror.read("d-1", 1), world.mirror.read("d-1", 2)
    never.cancel()
    world.driver.signal("d-1", "built", signal_id="s")
    world.feed()
    assert later.result(0).version == 1
    world.driver.propose("d-1", "open", {"by": "me"}, dedup_key="k")
    world.feed()
    assert never.cancelled()


def test_no_read_goes_behind_what_a_decision_said(world: World) -> None:
    world.mirror.reached_end(0)
    world.mirror.read("d-1", 0)
    decision = world.driver.signal("d-1", "built", signal_id="s")
    world.mirror.tell(decision)
    behind = world.mirror.read("d-1", 0)
    assert not behind.done()
    world.feed()
    assert behind.result(0).version == 1


def test_a_forgotten_entity_is_as_never_seen(world: World) -> None:
    world.mirror.reached_end(0)
    world.driver.signal("d-1", "built", signal_id="s")
    world.driver.signal("d-1", "removed", signal_id="r")
    world.driver.advance(days=2)
    world.feed()
    assert world.mirror.read("d-1", 0).result(0) == Snapshot(
        "d-1", replace(Snapshot("").state, fields={"opened": 0, "by": None})
    )
    last = seen(world.driver, "d-1")
    assert (last.forgotten, last.exists, last.version) == (True, False, 2)


def test_a_record_of_unknown_rules_is_waited_for_and_a_broken_one_is_told(world: World) -> None:
    world.mirror.reached_end(0)
    newer = TestDriver(
        parse_definition(
            DOOR.replace("version: 1", "version: 2").replace(
                "by: string | null}", "by: string | null, new: int | null}"
            )
        )
    )
    newer.signal("d-1", "built", signal_id="s")
    (record,) = newer.log.records(TopicPartition(newer.topics.changelog, 0))
    world.mirror.take(record)
    waiting = world.mirror.read("d-1", 0)
    assert not waiting.done()
    world.driver.codec.learn(newer_schema(newer))
    world.mirror.serve_all()
    assert waiting.result(0).version == 1
    world.mirror.take(record._replace(key=b"d-2", value=b"junk"))
    with pytest.raises(DecodeError):
        world.mirror.read("d-2", 0).result(0)


def newer_schema(driver: TestDriver) -> dict[str, object]:
    return dict(contracts(driver.definition).change)


def test_when_the_client_ends_nobody_waits_on(world: World) -> None:
    waiting = world.mirror.read("d-1", 0)
    world.mirror.fail(NotConnected("closed"))
    with pytest.raises(NotConnected):
        waiting.result(0)


# -- answers ---------------------------------------------------------------------------------------------------------


def decisions(driver: TestDriver) -> list[ConsumerRecord]:
    return driver.log.records(TopicPartition(driver.topics.decisions, 0))


def place_of(driver: TestDriver, number: int) -> RecordId:
    """Where the input lies on which a decision was taken."""
    at = driver.decided[number].at
    return RecordId(at.topic, at.partition, at.offset)


def test_an_answer_finds_the_one_whose_input_lies_where_it_says(driver: TestDriver) -> None:
    """Ids are the senders': one that is used for two proposals must not get both the same answer."""
    answers = Answers(driver.codec)
    driver.signal("d-1", "built", signal_id="s-1")
    mine, other, elsewhere = (answers.expect(entity) for entity in ("d-1", "d-1", "d-2"))
    driver.propose("d-1", "paint", {"by": "x"}, proposal_id="p-1")
    driver.propose("d-1", "open", {"by": "y"}, dedup_key="k", proposal_id="p-1", issued_at=driver.now_ms - 61_000)
    answers.place("d-1", mine, place_of(driver, 1))
    answers.place("d-1", other, place_of(driver, 2))
    for record in decisions(driver):
        answers.take(record)
    assert (mine.result(0).name, mine.result(0).reason) == ("paint", Reason.NONE)
    assert (other.result(0).name, other.result(0).reason) == ("open", Reason.EXPIRED)
    assert not elsewhere.done()
    answers.fail("d-2", elsewhere, NotDelivered("away"))
    with pytest.raises(NotDelivered):
        elsewhere.result(0)
    assert len(answers) == 0


def test_an_answer_that_comes_before_the_report_of_its_input_waits_for_that(driver: TestDriver) -> None:
    answers = Answers(driver.codec)
    one, other = answers.expect("d-1"), answers.expect("d-1")
    driver.signal("d-1", "built", signal_id="s-1")
    driver.signal("d-1", "slammed", signal_id="s-1")
    for record in decisions(driver):
        answers.take(record)
    assert not one.done()
    answers.place("d-1", one, place_of(driver, 1))
    assert one.result(0).name == "slammed"
    answers.drop("d-1", other)
    assert answers._early == {}, "nobody is left for whom it could be"


def test_what_waits_for_reports_is_bounded(driver: TestDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("placet.client.answers.EARLY_MAX", 2)
    answers = Answers(driver.codec)
    lost, found = answers.expect("d-1"), answers.expect("d-1")
    for number in range(3):
        driver.signal("d-1", "built", signal_id=f"s-{number}")
    for record in decisions(driver):
        answers.take(record)
    answers.place("d-1", lost, place_of(driver, 0))
    answers.place("d-1", found, place_of(driver, 2))
    assert found.done()
    assert not lost.done(), "its time limit tells"


def test_an_answer_without_an_id_is_found(driver: TestDriver) -> None:
    """Of what did not decode the gate knows no id."""
    answers = Answers(driver.codec)
    mine = answers.expect("d-1")
    driver.send_raw(Kind.PROPOSAL, b"d-1", b"\xc3\x01" + b"unknown!" + b"body")
    answers.place("d-1", mine, place_of(driver, 0))
    answers.take(decisions(driver)[0])
    assert (mine.result(0).reason, mine.result(0).input_id) == (Reason.UNKNOWN_SCHEMA, "")


def test_the_version_of_an_answer_is_known_before_the_answer(driver: TestDriver) -> None:
    """Who gets a decision may read at once, from another thread: that must not go behind it."""
    told: list[Decision] = []
    answers, found = Answers(driver.codec, told.append), list[list[Decision]]()
    mine = answers.expect("d-1")
    mine.add_done_callback(lambda _: found.append(list(told)))
    decision = driver.signal("d-1", "built", signal_id="s-1")
    answers.place("d-1", mine, place_of(driver, 0))
    answers.take(decisions(driver)[0])
    assert found == [[decision]]


def test_those_who_let_go_are_forgotten_and_the_end_is_told(driver: TestDriver) -> None:
    answers = Answers(driver.codec)
    gone, stays = answers.expect("d-1"), answers.expect("d-1")
    answers.place("d-1", gone, RecordId("t", 0, 5))
    answers.drop("d-1", gone)
    answers.place("d-1", gone, RecordId("t", 0, 6))  # its report comes late
    answers.drop("d-1", Future[Decision]())
    assert (len(answers), answers._placed) == (1, {})
    answers.fail_all(NotConnected("closed"))
    assert not gone.done()
    with pytest.raises(NotConnected):
        stays.result(0)


# -- timers ----------------------------------------------------------------------------------------------------------

TIMED = parse_definition(DOOR + "timers:\n  falls_shut: {from: open, after: 30s, to: closed}\n")


def test_a_timer_answers_nobody_and_takes_no_place_of_an_answer() -> None:
    driver = TestDriver(TIMED)
    answers = Answers(driver.codec)
    mine, unplaced = answers.expect("d-1"), answers.expect("d-1")
    driver.signal("d-1", "built", signal_id="s-1")
    driver.propose("d-1", "open", {"by": "me"}, dedup_key="k")
    driver.advance(seconds=31)
    driver.signal("d-1", "slammed", signal_id="s-2")
    assert [found.decision.kind for found in driver.decided] == [Kind.SIGNAL, Kind.PROPOSAL, Kind.TIMER, Kind.SIGNAL]
    for record in decisions(driver):
        answers.take(record)
    assert {place.offset for place in answers._early[b"d-1"]} == {0, 1}, "of the inputs"
    answers.place("d-1", mine, place_of(driver, 3))
    assert mine.result(0).reason is Reason.ILLEGAL_TRANSITION, "it had fallen shut"
    assert not unplaced.done()


def test_what_a_timer_changed_is_read_and_foretold_from() -> None:
    driver = TestDriver(TIMED)
    world = World(driver)
    world.mirror.use(TIMED, driver.codec)
    world.mirror.reached_end(0)
    driver.signal("d-1", "built", signal_id="s-1")
    driver.propose("d-1", "open", {"by": "me"}, dedup_key="k")
    world.feed()
    composer = Composer(TIMED, Codec(TIMED), "me")
    opened = world.mirror.read("d-1", 2).result(0)
    assert not composer.would_accept(opened, "open", {"by": "me"}, driver.now_ms).applied
    waiting = world.mirror.read("d-1", 3)
    driver.advance(seconds=31)
    world.feed()
    shut = waiting.result(0)
    assert (shut.status, shut.version) == ("closed", 3)
    assert shut.change is not None
    assert (shut.change.kind, shut.change.topic, shut.change.offset) == (Kind.TIMER, "", -1)
    assert composer.would_accept(shut, "open", {"by": "me"}, driver.now_ms).applied
    assert not composer.would_accept(opened, "open", {"by": "me"}, driver.now_ms).applied
    caused = "timer falls_shut, due 2026-01-01T00:00:30.000Z"
    assert cause_of(shut.change) == caused


def test_a_proposal_that_a_timer_made_stale_is_explained_by_the_timer() -> None:
    driver = TestDriver(TIMED)
    driver.signal("d-1", "built", signal_id="s-1")
    driver.propose("d-1", "open", {"by": "me"}, dedup_key="k")
    seen_open = driver.read("d-1")
    driver.advance(seconds=31)
    driver.propose("d-1", "open", {"by": "you"}, base=seen_open, dedup_key="l", proposal_id="p-9")
    found = explain(case_of(driver, "p-9"))
    assert [(one.version, one.cause) for one in found.conflicts] == [
        (3, "timer falls_shut, due 2026-01-01T00:00:30.000Z")
    ]


# -- explain ---------------------------------------------------------------------------------------------------------


def case_of(driver: TestDriver, input_id: str) -> Case:
    decision, at = next(found for found in reversed(driver.decided) if found.decision.input_id == input_id)
    (record,) = driver.log.records(TopicPartition(at.topic, at.partition), at.offset)[:1]
    value = record.value or b""
    said = driver.codec.remarks(value) if decision.kind is Kind.PROPOSAL else Remarks()
    message = driver.codec.decode(decision.kind, value)
    return Case(decision, at, message, RULES, said, history(driver, decision.entity_id))


def test_stale_names_the_commits_that_were_faster(driver: TestDriver) -> None:
    driver.signal("d-1", "built", signal_id="s-1", source="site")
    before = driver.read("d-1")
    driver.propose("d-1", "open", {"by": "you"}, dedup_key="k-1", proposer="you", proposal_id="p-1")
    driver.signal("d-1", "slammed", signal_id="s-2", source="wind")
    driver.propose("d-1", "open", {"by": "me"}, dedup_key="k-2", base=before, proposal_id="p-2")
    found = explain(case_of(driver, "p-2"))
    assert (found.rung, found.retry) == (8, Retry.RECOMPUTE)
    assert [(row.what, row.given, row.found) for row in found.compared] == [
        ("version", "based on 1", "the state was at 3"),
        ("fence", "exact", "any change counts"),
    ]
    assert [(faster.version, faster.cause, faster.who) for faster in found.conflicts] == [
        (2, "proposal open (p-1)", "you"),
        (3, "signal slammed (s-2)", "wind"),
    ]
    assert found.conflicts[1].fields == {"status": ("open", "closed")}


def test_every_commit_in_between_is_named_not_only_the_last_of_each_field(driver: TestDriver) -> None:
    driver.signal("d-1", "built", signal_id="s-1")
    before = driver.read("d-1")
    for n in range(3):
        driver.propose("d-1", "paint", {"by": f"painter {n}"}, proposal_id=f"paint-{n}")
    driver.propose("d-1", "open", {"by": "me"}, dedup_key="k", base=before, proposal_id="p")
    case = case_of(driver, "p")
    assert [conflict.version for conflict in case.decision.conflicts] == [4]
    found = explain(case)
    assert [faster.version for faster in found.conflicts] == [2, 3, 4]
    assert found.conflicts[1].fields == {"by": ("painter 0", "painter 1")}
    compacted = explain(case._replace(history=case.history[-1:]))
    assert compacted.conflicts[0].fields == {"by": (GONE, "painter 2")}
    (gone,) = explain(case._replace(history=())).conflicts
    assert (gone.version, gone.cause, list(gone.fields)) == (4, "not on the log any more", ["by"])


def test_what_the_fence_does_not_watch_is_no_conflict(driver: TestDriver) -> None:
    driver.signal("d-1", "built", signal_id="s-1")
    before = driver.read("d-1")
    driver.propose("d-1", "open", {"by": "you"}, dedup_key="k", proposal_id="p-1")
    driver.signal("d-1", "slammed", signal_id="s-2")
    driver.propose("d-1", "paint", {"by": "me"}, base=before, proposal_id="p-2")
    assert [faster.version for faster in explain(case_of(driver, "p-2")).conflicts] == [2], "version 3 left `by` alone"


def test_another_life_is_no_conflict_and_is_named(driver: TestDriver) -> None:
    driver.signal("d-1", "built", signal_id="s-1")
    before, began = driver.read("d-1"), driver.now_ms
    driver.signal("d-1", "removed", signal_id="s-2")
    driver.advance(days=2)
    driver.signal("d-1", "built", signal_id="s-3")
    driver.propose("d-1", "open", {"by": "me"}, dedup_key="k", base=before, proposal_id="p")
    found = explain(case_of(driver, "p"))
    assert found.compared[1] == (
        "life",
        f"based on the one that began {iso(began)}",
        f"the one that began {iso(driver.now_ms)}",
    )
    assert found.conflicts == []


def test_a_repeat_shows_the_commit_that_counted(driver: TestDriver) -> None:
    driver.signal("d-1", "built", signal_id="s-1")
    for proposal_id in ("first", "again"):
        driver.propose("d-1", "open", {"by": "me"}, dedup_key="k", proposal_id=proposal_id)
        assert [commit.cause for commit in explain(case_of(driver, proposal_id)).conflicts] == ["proposal open (first)"]


def test_a_guard_and_an_invariant_come_with_the_values_that_they_saw() -> None:
    driver = TestDriver(
        parse_definition("""
entity: till
version: 1
statuses: [open]
fields: {cash: long, limit: {type: long, default: 9}}
signals:
  opened: {from: absent, to: open, payload: {cash: long}, copy: [cash]}
proposals:
  pay:
    {from: open, payload: {amount: long}, guard: payload.amount <= state.cash, set: {cash: state.cash - payload.amount}}
  fill: {from: open, payload: {amount: long}, set: {cash: state.cash + payload.amount}}
invariants: {not_too_much: state.cash <= state.limit}
""")
    )
    driver.signal("t", "opened", {"cash": 5}, signal_id="s")
    driver.propose("t", "pay", {"amount": 7}, dedup_key="k-1", proposal_id="p-1")
    driver.propose("t", "fill", {"amount": 6}, dedup_key="k-2", proposal_id="p-2")

    def case(input_id: str) -> Case:
        found = case_of(driver, input_id)
        return found._replace(rules=driver.definition)

    assert explain(case("p-1")).compared == [
        ("expression", "", "`payload.amount <= state.cash` is false"),
        ("payload.amount", "7", ""),
        ("state.cash", "", "5 at version 1"),
    ]
    assert explain(case("p-2")).compared == [
        ("expression", "", "invariant `not_too_much`: state.cash <= state.limit"),
        ("state.cash", "", "5 at version 1"),
        ("state.limit", "", "9 at version 1"),
    ]


def test_what_the_proposer_said_is_there_for_people() -> None:
    codec = Codec(RULES)
    message = Composer(RULES, codec).proposal(Snapshot("d-1"), "paint", {"by": "x"}, 5, proposal_id="p")
    silent = codec.encode_message(message)
    assert codec.remarks(silent) == ("", "", {})
    told = codec.encode_message(message, rationale="it is dull", model="m-1", metadata={"run": "7"})
    assert codec.remarks(told) == ("it is dull", "m-1", {"run": "7"})
    assert codec.decode(Kind.PROPOSAL, told) == codec.decode(Kind.PROPOSAL, silent), "it decides nothing"


def test_each_rung_says_what_it_compared(driver: TestDriver) -> None:
    def compared(input_id: str) -> tuple[int, str]:
        found = explain(case_of(driver, input_id))
        return found.rung, " / ".join(" | ".join(row) for row in found.compared)

    now = driver.now_ms
    driver.propose("d-1", "open", {"by": "me"}, dedup_key="k-0", proposal_id="nowhere")
    driver.signal("d-1", "built", signal_id="s-1")
    base = driver.read("d-1")
    driver.propose("d-1", "open", {"by": "me"}, dedup_key="k-1", proposal_id="first")
    driver.propose("d-1", "open", {"by": "me"}, dedup_key="k-1", proposal_id="again")
    driver.propose("d-1", "open", {"by": "you"}, dedup_key="k-1", proposal_id="reused")
    driver.propose("d-1", "open", {"by": "me"}, dedup_key="k-2", proposal_id="late", issued_at=now - 61_000)
    driver.propose("d-1", "open", {"by": "me"}, dedup_key="k-3", proposal_id="old", issued_at=now - 90_000_000)
    driver.propose("d-1", "open", {"by": "me"}, dedup_key="k-4", proposal_id="ahead", issued_at=now + 90_000)
    driver.propose("d-1", "paint", {"by": "x"}, proposal_id="painted", base=base)
    driver.propose("d-1", "note", {}, proposal_id="noted", base=base)
    assert compared("nowhere") == (7, "status | `open` leaves closed | it was absent")
    assert explain(case_of(driver, "nowhere")).advice == "No entity `d-1` is known: is the id right?"
    assert compared("first")[0] == 0
    assert compared("again") == (
        2,
        "occasion | key:k-1 | first, applied at version 2 / content |  | the same name and payload",
    )
    assert compared("reused")[1].endswith("another name or payload")
    assert compared("late") == (4, f"valid until | {iso(now - 1_000)} | decided at {iso(now)}")
    assert compared("old") == (3, f"issued_at | {iso(now - 90_000_000)} | at the earliest {iso(now - 86_400_000)}")
    assert compared("ahead") == (3, f"time | {iso(now + 90_000)} | at the latest {iso(now + 60_000)}")
    assert compared("noted") == (0, "version | based on 1 | the state was at 2 / fence | none | no change counts")
    assert compared("painted") == (8, "version | based on 1 | the state was at 2 / fence | by | a change of by counts")


def test_a_proposal_of_an_earlier_life_is_explained(driver: TestDriver) -> None:
    driver.signal("d-1", "built", signal_id="s-1")
    base = SimpleNamespace(version=1, incarnation=None)
    driver.signal("d-1", "removed", signal_id="s-2")
    driver.signal("d-1", "built", signal_id="s-3")
    driver.restart()
    assert driver.propose("d-1", "paint", {"by": "x"}, proposal_id="p", base=base).reason is Reason.STALE
    found = explain(case_of(driver, "p"))
    assert [tuple(row) for row in found.compared] == [
        ("version", "based on 1", "the state was at 3"),
        ("life", "based on an earlier one", "deleted, and created again as version 3"),
        ("fence", "by", "a change of by counts"),
    ]
    assert [(faster.version, faster.cause, dict(faster.fields)) for faster in found.conflicts] == [
        (2, "signal removed (s-2)", {"status": ("closed", "absent")}),
        (3, "signal built (s-3)", {"status": ("absent", "closed")}),
    ]


def test_what_the_log_has_let_go_of_is_left_out(driver: TestDriver) -> None:
    driver.signal("d-1", "built", signal_id="s-1")
    driver.propose("d-1", "open", {"by": "me"}, dedup_key="k-1", proposal_id="p-1", issued_at=driver.now_ms - 61_000)
    known = case_of(driver, "p-1")
    found = explain(known._replace(message=None, rules=None, history=()))
    [row] = found.compared
    assert row.found.startswith(f"valid until {iso(driver.now_ms - 1_000)}, decided at {iso(driver.now_ms)}: ")
    driver.propose("d-1", "open", {"by": "me"}, dedup_key="k-1", proposal_id="p-2")
    later = history(driver, "d-1")[-1]
    assert differences(None, later)["opened"] == (GONE, 1)


def test_the_past_is_told_as_far_as_the_log_holds_it(driver: TestDriver) -> None:
    driver.signal("d-1", "built", signal_id="s-1")
    for n in range(2, 5):
        driver.advance(seconds=60)
        driver.propose("d-1", "paint", {"by": f"painter {n}"}, proposal_id=f"paint-{n}")
    whole = history(driver, "d-1")
    minutes = [START_MS + n * 60_000 for n in range(4)]
    assert newest(whole, "d-1") is whole[-1]
    assert at_version(whole, "d-1", 2) is whole[1]
    assert as_of(whole, "d-1", minutes[2] - 1) is whole[1]
    assert as_of(whole, "d-1", minutes[2]) is whole[2]
    assert at_version(whole, "d-1", 5) == "d-1 has no version 5: the latest is 4."
    assert as_of(whole, "d-1", START_MS - 1) == (
        f"d-1 was not there at {iso(START_MS - 1)}: its version 1 was decided at {iso(START_MS)}."
    )
    assert [dict(step.changes) for step in steps(whole)[:2]] == [
        {"status": ("absent", "closed")},
        {"by": (None, "painter 2")},
    ]
    left = whole[2:]  # compaction has removed the first two
    holds = f"It holds versions 3 (decided at {iso(minutes[2])}) to 4: one horizon of changes, and the latest state."
    assert at_version(left, "d-1", 1) == f"Version 1 of d-1 is not on the log any more. {holds}"
    assert as_of(left, "d-1", minutes[1]) == f"What d-1 was at {iso(minutes[1])} is not on the log any more. {holds}"
    assert [dict(step.changes) for step in steps(left)] == [
        {"by": (GONE, "painter 3")},
        {"by": ("painter 3", "painter 4")},
    ]


def test_the_past_of_a_forgotten_entity(driver: TestDriver) -> None:
    driver.signal("d-1", "built", signal_id="s-1")
    driver.signal("d-1", "removed", signal_id="s-2")
    driver.advance(days=2)
    last = history(driver, "d-1")[-1:]
    gone = "d-1 was deleted longer than the horizon ago, as version 2: no more is known."
    assert (at_version(last, "d-1", 2), as_of(last, "d-1", driver.now_ms)) == (gone, gone)
    never = "d-1 was never seen, or is forgotten."
    assert (newest([], "d-1"), at_version([], "d-1", 1), as_of([], "d-1", 5)) == (never, never, never)


def test_every_reason_is_explained(driver: TestDriver) -> None:
    driver.signal("d-1", "built", signal_id="s-1")
    case = case_of(driver, "s-1")
    for reason in Reason:
        found = explain(case._replace(decision=replace(case.decision, reason=reason, version_before=1)))
        assert found.advice == REASONS[reason].todo
        assert found.question


AGED = parse_definition("""
entity: patient
version: 1
statuses: [stable, alarmed]
signals: {admitted: {from: absent, to: stable}}
proposals: {alarm: {max_state_age: 30s, from: stable, to: alarmed}}
""")


def test_a_proposal_says_when_its_state_was_read_where_it_is_asked() -> None:
    composer = Composer(AGED, Codec(AGED))
    stable = Snapshot("p-1", EntityState(version=1, status="stable"), read_at=START_MS)

    def alarm(seen: Snapshot) -> Message:
        return composer.proposal(seen, "alarm", None, START_MS + 9, proposal_id="p", dedup_key="k")

    assert alarm(stable).read_at == START_MS
    assert alarm(Snapshot("p-1", stable.state)).read_at is None, "nobody here read it"
    assert composer.would_accept(stable, "alarm", None, START_MS + 30_000).outcome is Outcome.ACCEPTED
    too_old = composer.would_accept(stable, "alarm", None, START_MS + 30_001)
    assert too_old.reason is Reason.STATE_TOO_OLD
    at = Coordinates("t", 0, 0, 0, START_MS + 30_001, 1, 1, 0, b"", 0)
    rows = compared(Case(too_old, at, alarm(stable), AGED))
    assert rows == [
        Compared(
            "read_at", "2026-01-01T00:00:00.000Z", "decided at 2026-01-01T00:00:30.001Z, 30001 ms later; at most 30s"
        )
    ]


def test_a_state_that_a_client_read_says_when() -> None:
    before_ms = time.time_ns() // 1_000_000
    found = Core.read_now(Snapshot("p-1"))
    assert found.read_at is not None
    assert before_ms <= found.read_at
    assert found == Snapshot("p-1"), "the same state"
    assert found != Snapshot("p-2", read_at=found.read_at)


def test_a_made_up_time_is_shown_as_it_is() -> None:
    assert iso(START_MS) == "2026-01-01T00:00:00.000Z"
    assert iso(2**62) == str(2**62)


# -- what a program sees on stderr -----------------------------------------------------------------------------------


def test_a_broker_that_is_away_is_logged_once_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    def tell(text: str, at_s: float, level: int = logging.ERROR) -> None:
        logger = client_logger()
        record = logger.makeRecord(logger.name, level, "", 0, "%s", (text,), None)
        record.created = at_s
        logger.handle(record)

    refused = "FAIL [app#{}] [thrd:kafka-1:9092/bootstrap]: kafka-1:9092/bootstrap: Connect failed: Connection refused"
    for second in range(0, 300, 10):
        tell(refused.format("consumer-1"), 1_000.0 + second)
        tell(refused.format("producer-2"), 1_000.0 + second)
    tell("GETPID [app#producer-2] [thrd:main]: no PID from broker kafka-1:9092/bootstrap: retrying", 1_301.0)
    tell("FAIL [app#consumer-1] [thrd:GroupCoordinator]: GroupCoordinator: kafka-1:9092: Connect failed", 1_302.0)
    leaderless = "METADATAUPDATE [app#producer-2] [thrd:main]: Partition order.signals(Cw)[0]: new leader{} in cache"
    tell(leaderless.format("-1 not found"), 1_302.5, logging.WARNING)  # the broker comes back
    assert caplog.messages == [refused.format("consumer-1")]
    tell(refused.format("consumer-1").replace("kafka-1", "kafka-2"), 1_303.0)  # another broker
    tell(refused.format("consumer-1"), 1_400.0)  # another outage
    tell("OFFSET [app#consumer-1] [thrd:main]: partition reset", 1_401.0)
    tell("OFFSET [app#consumer-1] [thrd:main]: partition reset", 1_401.0)
    assert len(caplog.messages) == 5
    tell(leaderless.format("-1 not found"), 1_500.0, logging.WARNING)  # nobody said why
    tell(leaderless.format("-1 not found"), 1_501.0, logging.WARNING)
    tell(leaderless.format("2 not found"), 1_501.0, logging.WARNING)  # a broker that nobody knows is another matter
    assert len(caplog.messages) == 7


def test_a_broker_that_is_still_loading_is_logged_when_it_takes_long(caplog: pytest.LogCaptureFixture) -> None:
    """Each start of `placet dev` warned of its own Kafka, which needs half a second more."""

    def tell(at_s: float, why: str = "Coordinator load in progress") -> None:
        logger = client_logger()
        said = "Failed to acquire idempotence PID from broker kafka-9:9092/1: Broker"
        text = f"GETPID [app#p-1] [thrd:main]: {said}: {why}: retrying"
        record = logger.makeRecord(logger.name, logging.WARNING, "", 0, "%s", (text,), None)
        record.created = at_s
        logger.handle(record)

    for half_seconds in range(10):
        tell(10_000.0 + half_seconds / 2)
    assert caplog.messages == []
    tell(10_005.5)
    tell(10_006.0)
    assert len(caplog.messages) == 1, "it loads for longer than it should"
    tell(20_000.0)
    assert len(caplog.messages) == 1, "another start"
    tell(30_000.0, "Cluster authorization failed")
    assert len(caplog.messages) == 2


# -- names -----------------------------------------------------------------------------------------------------------


def test_public_names_exist_and_are_sorted() -> None:
    assert placet.__all__ == sorted(placet.__all__)
    for name in placet.__all__:
        assert getattr(placet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = placet.Nothing


def test_the_public_api_type_checks() -> None:
    file = Path(__file__).parents[1] / "typing" / "api.py"
    out, err, code = api.run(["--strict", str(file)])
    assert code == 0, out + err
