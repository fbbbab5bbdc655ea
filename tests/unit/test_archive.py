"""What the shell reads of a log, on the topics of a test driver: inputs whose id nobody can read are found too."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from placet.cli import app
from placet.client.archive import Archive
from placet.client.connect import empty_rulebook
from placet.client.link import Link
from placet.schemas.errors import SettingsError
from placet.schemas.messages import Kind
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.settings import load_settings
from placet.streams.topology import dead_letters_topic
from placet.testing import TestDriver

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
def placet(driver: TestDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The shell, which reads the driver's topics."""
    settings = load_settings({"app": APP})
    link = Link(driver.definition, driver.codec, driver.topics, driver.partitions, empty_rulebook(settings))
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
