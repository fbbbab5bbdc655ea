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
from placet.client.archive import Archive
from placet.client.connect import empty_rulebook
from placet.client.link import Link, follow
from placet.schemas.codec.codec import Codec
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
