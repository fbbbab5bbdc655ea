"""What the shell reads of a log, on the topics of a test driver: inputs whose id nobody can read are found too."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from placet.cli import app
from placet.cli.explain import _when
from placet.client.archive import Archive, ArchivedDecision
from placet.client.connect import empty_rulebook
from placet.client.explain_text import Case
from placet.client.link import Link, follow
from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Reason
from placet.schemas.definition.model import Definition, parse_definition
from placet.schemas.errors import SettingsError
from placet.schemas.messages import Kind, Message
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.settings import load_settings
from placet.streams.topology import dead_letters_topic
from placet.testing import START_MS, TestDriver
from tests.unit.control_records import control_record, published

PET = """
entity: pet
version: 1
statuses: [in]
signals:
  born: {from: absent, to: in}
"""
APP = "test"
"""The driver's app."""


class AdminOfTheDriver:
    """What an archive asks of brokers."""

    def __init__(self, driver: TestDriver) -> None:
        self._driver = driver

    def __exit__(self, *_: object) -> None:
        pass

    def earliest_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def latest_offsets(self, partitions: Iterable[TopicPartition], **_: object) -> dict[TopicPartition, int]:
        return {partition: self._driver.log.end(partition) for partition in partitions}

    def describe_topics(self, names: Iterable[str]) -> dict[str, Any]:
        return {name: SimpleNamespace(partitions=1) for name in names if name == dead_letters_topic(APP)}


class ReaderOfTheDriver:
    """Reads a partition to its end."""

    def __init__(self, driver: TestDriver) -> None:
        self._driver = driver

    def read(
        self,
        partition: TopicPartition,
        position: int,
        target: int,
        take: Callable[[list[ConsumerRecord], int], bool],
        _most: int = 0,
    ) -> bool:
        return take(self._driver.log.records(partition, position), target)

    def close(self) -> None:
        pass


@pytest.fixture
def driver() -> TestDriver:
    """A pet that is born, and two inputs that are none."""
    driver = TestDriver.from_text(PET)
    driver.signal("dog-1", "born", signal_id="s-1")
    driver.send_raw(Kind.SIGNAL, b"dog-1", b'{"name": "born"}')
    driver.send_raw(Kind.SIGNAL, b"dog-1", b"\x00\x01\x02")
    return driver


@pytest.fixture
def link(driver: TestDriver) -> Link:
    """The driver's entity type, with nothing on the control topic."""
    rulebook = empty_rulebook(load_settings({"app": APP}))
    return Link(driver.definition, driver.codec, driver.topics, driver.partitions, rulebook)


@pytest.fixture
def placet(driver: TestDriver, link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The shell, which reads the driver's topics."""
    monkeypatch.setattr("placet.client.archive.Admin", lambda *_: AdminOfTheDriver(driver))
    monkeypatch.setattr("placet.client.archive.LogReader", lambda *_: ReaderOfTheDriver(driver))
    monkeypatch.setattr("placet.client.archive.connect", lambda *_: link)
    (tmp_path / "pet.yaml").write_text(PET)
    where = ["-d", str(tmp_path / "pet.yaml"), "--app", APP]
    return lambda *arguments: CliRunner().invoke(app, [*arguments, *where], catch_exceptions=False)


def test_what_did_not_decode_is_explained_by_its_place(placet: Callable[..., Result], driver: TestDriver) -> None:
    place = f"{driver.topics.signals}-0@1"
    assert place in placet("decisions", "tail", "--refused").output
    shown = placet("explain", place).output.splitlines()
    assert shown[0] == "signal of dog-1: REFUSED, UNDECODABLE"
    assert any("the value begins with 7b22" in line for line in shown)
    assert placet("explain", f"{driver.topics.signals}-0@7").exit_code == 1
    assert placet("explain", "s-1").output.startswith("signal born of dog-1: ACCEPTED")


PET_2 = PET.replace("version: 1", "version: 2").replace("to: in}", "to: in}\n  left: {from: in, to: absent}")


def in_rulebook_of(link: Link, *definitions: Definition) -> None:
    for offset, definition in enumerate(definitions):
        entry = published(definition, base=link.rulebook.base_of("pet"))
        link.rulebook.take([control_record(entry, offset)], offset + 1)


def test_the_rules_that_decided_are_named_and_what_those_in_force_do_otherwise(
    placet: Callable[..., Result], driver: TestDriver, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rules() -> tuple[list[str], dict[str, Any]]:
        lines = placet("explain", "s-1").output.splitlines()
        form = json.loads(placet("explain", "s-1", "--output", "json").output)["rules"]
        return lines[2 : next(at for at, line in enumerate(lines) if line.startswith("  ladder"))], form

    digest = driver.definition.digest.hex()
    says = f"  rules      digest {digest}, which can't be read here: not on the control topic, or of a later release"
    assert rules() == ([says], {"version": None, "digest": digest, "in_force": None, "differences": []})

    in_rulebook_of(link, driver.definition)
    lines, form = rules()
    assert lines == ["  rules      version 1, in force still"]
    assert form == {
        "version": 1, "digest": digest, "in_force": {"version": 1, "digest": digest}, "differences": []
    }  # fmt: skip

    newer = parse_definition(PET_2)
    in_rulebook_of(link, driver.definition, newer)
    now = follow(link, load_settings({"app": APP}), "pet")
    monkeypatch.setattr("placet.client.archive.connect", lambda *_: now)
    lines, form = rules()
    assert lines == [
        "  rules      version 1; version 2 is in force now:",
        "             version: 1 -> 2",
        "             signals.left: added",
    ]
    assert (form["version"], form["in_force"]) == (1, {"version": 2, "digest": newer.digest.hex()})
    assert [found["path"] for found in form["differences"]] == ["version", "signals.left"]

    monkeypatch.setattr("placet.client.archive.connect", lambda *_: replace(now, beyond="of a later release"))
    assert rules()[0] == ["  rules      version 1; what is in force now can't be read here"]


def test_what_the_rules_in_force_can_read_may_be_sent_again(
    placet: Callable[..., Result], driver: TestDriver, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = parse_definition(PET_2)
    message = Message(Kind.SIGNAL, "left", "s-9", "dog-1", {}, START_MS, START_MS)
    driver.send_raw(Kind.SIGNAL, b"dog-1", Codec(newer).encode_message(message))
    place = f"{driver.topics.signals}-0@3"
    in_rulebook_of(link, driver.definition)
    assert json.loads(placet("explain", place, "--output", "json").output)["reason"] == "UNKNOWN_SCHEMA"
    in_rulebook_of(link, driver.definition, newer)
    now = follow(link, load_settings({"app": APP}), "pet")
    monkeypatch.setattr("placet.client.archive.connect", lambda *_: now)
    assert placet("explain", place).output.splitlines()[-1] == (
        "  try again? yes, later, as it is. The gate went by other rules than those in force: later it may fit."
    )
    broken = placet("explain", f"{driver.topics.signals}-0@1").output.splitlines()[-1]
    assert broken.startswith("  try again? no. Encode with the schemas")


def test_a_state_whose_rules_were_published_since_the_look_at_them_is_read(
    placet: Callable[..., Result], driver: TestDriver, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = TestDriver.from_text(PET_2.replace("statuses: [in]", "statuses: [in]\nfields: {toy: string | null}"))
    later.signal("cat-1", "born", signal_id="s-1")
    monkeypatch.setattr(driver, "log", later.log)
    looked = []

    def read_rulebook(*_: object) -> None:
        looked.append(1)
        for schema in published(later.definition).schemas.values():
            link.codec.learn(schema)

    monkeypatch.setattr("placet.client.archive.read_rulebook", read_rulebook)
    assert placet("history", "cat-1").output.startswith("   1  in ")
    assert looked == [1]


def test_dead_letters_are_shown_with_the_beginning_of_their_bytes(
    placet: Callable[..., Result], driver: TestDriver
) -> None:
    lines = placet("decisions", "dead-letters").output.splitlines()
    assert lines[0].endswith(f"UNDECODABLE     {driver.topics.signals}-0@1, key dog-1, 16 bytes")
    assert lines[1].startswith("  the value begins with 7b22")
    assert lines[2] == '  {"name": "born"}'
    assert lines[-1] == "  00 01 02"
    [form] = map(json.loads, placet("decisions", "dead-letters", "-n", "1", "--output", "json").output.splitlines())
    assert form["input"] == {"topic": driver.topics.signals, "partition": 0, "offset": 2}
    assert (b64decode(form["value"]), b64decode(form["key"]), form["value_size"]) == (b"\x00\x01\x02", b"dog-1", 3)
    assert placet("decisions", "dead-letters", "-n", "0").output == ""


def test_bytes_that_are_long_or_missing(placet: Callable[..., Result], driver: TestDriver) -> None:
    driver.send_raw(Kind.SIGNAL, b"dog-1", "é".encode() * 500)
    driver.send_raw(Kind.SIGNAL, b"dog-1", None)
    lines = placet("decisions", "dead-letters", "-n", "2").output.splitlines()
    assert lines[2] == f"  {'é' * 100} …"
    assert lines[3].endswith("key dog-1, no value")
    assert lines[4] == "  the record has no value"


def test_an_app_without_a_topic_of_dead_letters(placet: Callable[..., Result], driver: TestDriver) -> None:
    archive = Archive(load_settings({"app": "other"}), driver.definition)
    with archive, pytest.raises(SettingsError, match=r"There is no topic other\.dead-letters"):
        archive.dead_letters(1)


# -- timers ------------------------------------------------------------------------------------------------------------

WATCHED = """
entity: pet
version: 1
statuses: [ok, watching, alerted]
fields:
  valid_to: timestamp | null
  alerts: {type: int, default: 0}
signals:
  seen: {from: absent, to: ok}
  odd: {from: ok, to: watching}
  fed: {from: watching, set: {alerts: state.alerts + 1}}
timers:
  nobody_answered: {from: watching, after: 30s, to: alerted}
  looked_after: {from: watching, after: 10s, guard: state.alerts > 0, to: ok}
  decays: {from: alerted, after: 1h, to: absent}
"""
NOBODY, LOOKED = f"nobody_answered/{START_MS}/2", f"looked_after/{START_MS}/2"


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[TestDriver, Callable[..., Result]]:
    """A pet that is watched since the clock's first time, and the shell."""
    driver = TestDriver.from_text(WATCHED)
    driver.signal("rex", "seen", signal_id="s-1")
    driver.signal("rex", "odd", signal_id="s-2")
    rulebook = empty_rulebook(load_settings({"app": APP}))
    entry = published(driver.definition, base=rulebook.base_of("pet"))
    rulebook.take([control_record(entry, 0)], 1)
    link = Link(driver.definition, driver.codec, driver.topics, driver.partitions, rulebook)
    monkeypatch.setattr("placet.client.archive.Admin", lambda *_: AdminOfTheDriver(driver))
    monkeypatch.setattr("placet.client.archive.LogReader", lambda *_: ReaderOfTheDriver(driver))
    monkeypatch.setattr("placet.client.archive.connect", lambda *_: link)
    for module in ("timers", "state"):
        monkeypatch.setattr(f"placet.cli.{module}.clock_ms", lambda: driver.now_ms)
    (tmp_path / "pet.yaml").write_text(WATCHED)
    where = ["-d", str(tmp_path / "pet.yaml"), "--app", APP]
    return driver, lambda *arguments: CliRunner().invoke(app, [*arguments, *where], catch_exceptions=False)


Watched = tuple[TestDriver, Callable[..., Result]]


def listed(placet: Callable[..., Result], *arguments: str) -> list[tuple[str, str, float]]:
    form = json.loads(placet("timers", "list", *arguments, "--output", "json").stdout)
    return [(timer["entity_id"], timer["name"], timer["overdue_s"]) for timer in form]


def test_timers_that_wait_are_listed_the_first_that_is_due_first(watched: Watched) -> None:
    driver, placet = watched
    driver.advance(seconds=5)
    driver.signal("ben", "seen", signal_id="s-3")
    driver.signal("ben", "odd", signal_id="s-4")
    assert listed(placet) == [
        ("rex", "looked_after", 0),
        ("ben", "looked_after", 0),
        ("rex", "nobody_answered", 0),
        ("ben", "nobody_answered", 0),
    ]
    shown = [" ".join(line.split()) for line in placet("timers", "list", "--entity-id", "rex").stdout.splitlines()]
    assert [line for line in shown if line and not line.startswith("─")] == [
        "due entity timer status armed by",
        "2026-01-01T00:00:10.000Z in 5 s rex looked_after watching version 2",
        "2026-01-01T00:00:30.000Z in 25 s rex nobody_answered watching version 2",
    ]
    [first] = json.loads(placet("timers", "list", "--limit", "1", "--output", "json").stdout)
    assert first == {
        "due": "2026-01-01T00:00:10.000Z", "overdue_s": 0.0, "entity_id": "rex", "name": "looked_after",
        "status": "watching", "armed_by_version": 2,
    }  # fmt: skip
    assert placet("timers", "list", "--limit", "1").stderr == "3 more: see --limit\n"
    assert placet("timers", "list", "--entity-id", "nobody").stdout == "no timer waits\n"
    assert placet("timers", "list", "--overdue").stdout == "no timer is overdue\n"


def test_a_timer_that_fired_and_changed_nothing_waits_no_more(watched: Watched) -> None:
    driver, placet = watched
    driver.advance(seconds=11)
    refused = driver.decisions[-1]
    assert (refused.name, refused.reason, refused.changed) == ("looked_after", Reason.GUARD_FAILED, False)
    change = driver.changelog[-1]
    assert change is not None
    assert "looked_after" in (change.state.armed or {}), "the changelog has it armed still"
    assert listed(placet) == [("rex", "nobody_answered", 0)]
    assert listed(placet, "--entity-id", "rex") == [("rex", "nobody_answered", 0)]
    driver.advance(seconds=20)
    assert listed(placet) == [("rex", "decays", 0)]
    driver.advance(hours=2)
    assert listed(placet) == [], "the pet is gone"


def test_a_timer_that_is_armed_anew_waits_again(watched: Watched) -> None:
    driver, placet = watched
    driver.advance(seconds=31)
    driver.advance(hours=2)
    driver.signal("rex", "seen", signal_id="s-5")
    driver.signal("rex", "odd", signal_id="s-6")
    assert listed(placet) == [("rex", "looked_after", 0), ("rex", "nobody_answered", 0)]


def test_overdue_timers_are_those_that_are_due_by_the_clock_here(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, placet = watched
    monkeypatch.setattr("placet.cli.timers.clock_ms", lambda: driver.now_ms + 25_000)
    assert listed(placet, "--overdue") == [("rex", "looked_after", 15.0)]
    assert "overdue by 15 s" in placet("timers", "list", "--overdue").stdout


def test_a_state_is_shown_with_its_timers(watched: Watched) -> None:
    driver, placet = watched
    driver.advance(seconds=18)
    shown = placet("state", "get", "rex").stdout.splitlines()
    assert shown[-1] == "  nobody_answered due 2026-01-01T00:00:30.000Z (in 12 s)"
    assert not [line for line in shown if "looked_after" in line], "it fired"
    form = json.loads(placet("state", "get", "rex", "--output", "json").stdout)
    assert [(timer["name"], timer["armed_by_version"]) for timer in form["timers"]] == [("nobody_answered", 2)]
    assert "due" not in placet("state", "get", "rex", "--at-version", "2").stdout
    assert "timers" not in json.loads(placet("state", "get", "rex", "--at-version", "2", "--output", "json").stdout)


def test_a_change_of_a_timer_names_it_and_when_it_was_due(watched: Watched) -> None:
    driver, placet = watched
    driver.advance(seconds=31)
    caused = "timer nobody_answered, due 2026-01-01T00:00:30.000Z"
    assert placet("history", "rex").stdout.splitlines()[-2:] == [
        f"   3  alerted      2026-01-01T00:00:30.001Z: {caused}",
        "      status: watching -> alerted",
    ]
    assert caused in placet("state", "get", "rex").stdout
    form = json.loads(placet("history", "rex", "--output", "json").stdout)[-1]
    assert form["cause"] == {"kind": "TIMER", "name": "nobody_answered", "input_id": NOBODY}


def test_decisions_of_timers_have_no_place_and_none_is_taken_for_another(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, placet = watched
    driver.advance(seconds=31)
    lines = placet("decisions", "tail").stdout.splitlines()
    assert lines[-1].split(maxsplit=2)[2] == f"timer nobody_answered of rex, armed by version 2 ({NOBODY})"
    assert "REFUSED   GUARD_FAILED       timer looked_after of rex" in lines[-2]
    [refused] = map(json.loads, placet("decisions", "tail", "--refused", "--output", "json").stdout.splitlines())
    assert (refused["kind"], refused["input"], refused["retry"]) == ("TIMER", None, "NEVER")
    assert refused["timer"] == {"incarnation": START_MS, "armed_by_version": 2}

    def follow(archive: Archive, _ends: object, wanted: Callable[[ArchivedDecision], bool]) -> list[ArchivedDecision]:
        """All of them again, and one that is new."""
        driver.advance(hours=2)
        return archive.latest_decisions(100, wanted)

    monkeypatch.setattr(Archive, "follow_decisions", follow)
    followed = placet("decisions", "tail", "--follow").stdout.splitlines()
    assert followed[:-1] == lines
    assert "timer decays of rex, armed by version 3" in followed[-1]


def test_a_timer_that_fired_is_explained(watched: Watched) -> None:
    driver, placet = watched
    driver._gate._scheduler.start_ns += 30_400_000_000
    driver.advance(seconds=1)
    shown = placet("explain", NOBODY).stdout.splitlines()
    assert shown[:4] == [
        "timer nobody_answered of rex: ACCEPTED",
        "  fired      2026-01-01T00:00:30.400Z, 400 ms after it was due",
        "  due        2026-01-01T00:00:30.000Z; armed by version 2, signal odd (s-2)",
        "  rules      version 1, in force still",
    ]
    assert "\n".join(shown[:3]) in (Path(__file__).parents[2] / "docs" / "definition.md").read_text()
    assert shown[-2:] == [
        "             status: watching -> alerted",
        "  try again? not needed. Nothing: it is applied.",
    ]
    form = json.loads(placet("explain", NOBODY, "--output", "json").stdout)
    assert form["decided"]["input"] is None
    assert form["timer"] == {
        "incarnation": START_MS, "armed_by_version": 2, "due": "2026-01-01T00:00:30.000Z", "overdue_s": 0.4
    }  # fmt: skip


def test_a_timer_that_was_refused_is_explained_and_nobody_is_told_to_send_it_again(watched: Watched) -> None:
    driver, placet = watched
    driver.advance(seconds=11)
    shown = placet("explain", LOOKED).stdout.splitlines()
    assert shown[0] == "timer looked_after of rex: REFUSED, GUARD_FAILED"
    assert shown[2] == "  due        2026-01-01T00:00:10.000Z; armed by version 2, signal odd (s-2)"
    assert "  compared   state.alerts: 0 at version 2" in shown
    assert shown[-1] == (
        "  try again? no. Nothing: a timer fires once. It is armed anew when the entity comes to the status again."
    )


def test_timers_of_one_id_are_told_apart_by_their_entity(watched: Watched) -> None:
    driver, placet = watched
    driver.signal("ben", "seen", signal_id="s-3")
    driver.signal("ben", "odd", signal_id="s-4")
    driver.advance(seconds=31)
    assert "2 inputs have this id" in placet("explain", NOBODY).stdout
    shown = placet("explain", NOBODY, "--entity-id", "ben").stdout
    assert shown.startswith("timer nobody_answered of ben: ACCEPTED")
    assert "have this id" not in shown
    assert placet("explain", NOBODY, "--entity-id", "tom").exit_code == 1


def test_where_the_log_has_let_go_of_what_armed_a_timer_the_rest_is_said() -> None:
    driver = TestDriver.from_text(WATCHED)
    driver.signal("rex", "seen", signal_id="s-1")
    driver.signal("rex", "odd", signal_id="s-2")
    driver.advance(seconds=11)
    decided = ArchivedDecision(*driver.decided[-1])
    case = Case(decided.decision, decided.at, None, driver.definition)
    assert (case.due, case.armed_by) == (None, None)
    assert case.rule == driver.definition.timers["looked_after"]
    assert _when(case)[1] == "  due        when is not on the log any more; armed by version 2"
