"""The topic of rules, as a gate follows it and writes to it."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from placet.definitions import parse_definition
from placet.schemas.codec.control import NO_BASE, decode_control
from placet.schemas.errors import SettingsError
from placet.streams.errors import LogUnreachable
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.rules.control import Control
from tests.unit.control_records import control_record, published

TEXT = """
entity: lamp
version: 1
statuses: [lit]
fields: {watts: int | null}
signals:
  changed: {payload: {watts: int}, from: [absent, lit], to: lit, copy: watts}
"""
LAMP = parse_definition(TEXT)
NEWER = parse_definition(TEXT.replace("version: 1", "version: 2"))


class Topic:
    """A control topic and its reader; each look at it comes a second after the one before."""

    def __init__(self) -> None:
        self.records: list[ConsumerRecord] = []
        self.reader = MagicMock()
        self.reader.read.side_effect = self._read
        seconds = iter(range(1_000))
        runtime = MagicMock(monotonic_s=lambda: float(next(seconds)) * 10)
        self.control = Control(runtime, self.reader, "control", lambda: len(self.records))

    def produce(self, _key: bytes, value: bytes) -> None:
        self.records.append(control_record(decode_control(value), len(self.records)))

    def _read(self, _partition: object, position: int, _end: int, take: object) -> bool:
        assert callable(take)
        return bool(take(self.records[position:], len(self.records)))


def test_what_is_published_names_what_it_was_checked_against() -> None:
    topic = Topic()
    assert topic.control.publish([LAMP], topic.produce, 7) is True
    assert topic.control.publish([LAMP], topic.produce, 8) is True, "it stands there already"
    assert topic.control.publish([NEWER], topic.produce, 9) is True
    entries = [decode_control(record.value or b"") for record in topic.records]
    assert [(entry.version, entry.base, entry.published_at) for entry in entries] == [
        (1, NO_BASE, 7), (2, LAMP.digest, 9),
    ]  # fmt: skip


def test_a_publication_that_another_one_overtook_has_to_be_checked_again() -> None:
    topic = Topic()
    topic.control.publish([LAMP], topic.produce, 7)
    other = parse_definition(TEXT.replace("version: 1", "version: 3"))
    topic.records.append(control_record(published(other, base=LAMP.digest), 1))
    assert topic.control.publish([NEWER], topic.produce, 9) is False
    assert topic.control.rulebook.base_of("lamp") == other.digest
    assert [entry.version for entry in topic.control.rulebook.overtaken] == [2]


def test_what_nobody_could_read_is_not_published() -> None:
    topic = Topic()
    large = parse_definition(
        TEXT.replace("{watts: int | null}", f"{{watts: {{type: int, default: 0, doc: {'x' * 1_100_000}}}}}")
    )
    with pytest.raises(SettingsError, match="lamp version 1 can't be published: the value has"):
        topic.control.publish([large], topic.produce, 7)
    assert topic.records == []


def test_after_an_error_the_topic_is_read_on_from_what_was_taken() -> None:
    topic = Topic()
    topic.control.publish([LAMP], topic.produce, 7)
    topic.control.stay()
    topic.reader.take_new.side_effect = [
        LogUnreachable("a message could not be read"), ([control_record(published(NEWER, base=LAMP.digest), 1)], None),
    ]  # fmt: skip
    assert topic.control.follow() == []
    topic.reader.follow.assert_called_with(TopicPartition("control", 0), 1)
    assert topic.reader.follow.call_count == 2
    topic.control.follow()
    assert topic.control.position == 2


def test_markers_behind_the_last_record_are_read_too() -> None:
    """Otherwise whoever waits until the topic is read to its end would wait for ever."""
    topic = Topic()
    topic.control.publish([LAMP], topic.produce, 7)
    topic.reader.take_new.side_effect = [([], 3)]
    topic.control.follow()
    assert topic.control.position == 3
