"""The rulebook: what gates, clients and verify make of the same records of the control topic."""

from __future__ import annotations

import json
from typing import cast

import pytest

from placet.schemas.codec.codec import Codec
from placet.schemas.codec.contracts import contracts
from placet.schemas.codec.control import NO_BASE
from placet.schemas.codec.wire import single_object_head
from placet.schemas.definition.model import Definition, parse_definition
from placet.schemas.errors import DecodeError, UnknownSchema
from placet.schemas.messages import Kind
from placet.schemas.state import EntityState
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.rules.rulebook import EVERYTHING, STATES, Rulebook
from placet.testing import TestDriver
from tests.unit.control_records import control_record, published, rulebook_of

V1 = """
entity: lamp
version: 1
statuses: [lit]
fields: {watts: int}
signals:
  changed: {payload: {watts: int, at: long}, from: [absent, lit], to: lit, copy: watts}
proposals:
  dim: {from: lit, set: {watts: 1}}
"""
OLD = parse_definition(V1)
NEW = parse_definition(
    V1.replace("version: 1", "version: 2").replace("watts: int}\n", "watts: int, room: string | null}\n")
)
TIMED = parse_definition(V1.replace("version: 1", "version: 3").replace("at: long", "at: timestamp"))
OTHER = parse_definition(V1.replace("entity: lamp", "entity: fan"))


def state_of(codec: Codec, record: ConsumerRecord) -> EntityState:
    return codec.decode_state(record.value or b"", record.headers)


def change_by(definition: Definition) -> ConsumerRecord:
    driver = TestDriver(definition)
    driver.signal("l", "changed", {"watts": 1, "at": 1}, signal_id="s")
    (record,) = driver.log.records(TopicPartition(driver.topics.changelog, 0))
    return record


def test_the_order_is_that_of_the_log_and_the_first_of_a_digest_counts() -> None:
    first, second = published(NEW), published(OLD)
    again = published(NEW, published_at=7)
    rulebook = rulebook_of([(0, first), (3, published(OTHER)), (4, second), (9, again)])
    assert list(rulebook.published.values()) == [first, published(OTHER), second]
    assert rulebook.of("lamp") == [first, second]
    assert [rulebook.offset_of(entry) for entry in (first, second, again)] == [0, 4, 0]
    assert rulebook.entities() == ["fan", "lamp"]
    newest = rulebook.in_force("lamp").newest
    assert newest is not None
    assert newest.definition.version == 2
    assert rulebook.position == 10


def test_of_two_versions_that_were_checked_against_the_same_one_the_first_counts() -> None:
    """Neither was compared with the other: the second publisher is told, and checks against the first."""
    first = published(OLD, base=NO_BASE)
    here, there = (published(by, base=OLD.digest) for by in (NEW, TIMED))
    again = published(TIMED, base=NEW.digest)
    rulebook = rulebook_of([(0, first), (1, published(OTHER, base=NO_BASE)), (2, here), (3, there)])
    assert (rulebook.of("lamp"), rulebook.overtaken) == ([first, here], [there])
    assert rulebook.base_of("lamp") == NEW.digest
    rulebook.take([control_record(again, 4)], 5)
    assert (rulebook.of("lamp"), rulebook.base_of("lamp")) == ([first, here, again], TIMED.digest)
    assert rulebook.base_of("lantern") == NO_BASE


def test_a_first_version_counts_only_where_there_is_none() -> None:
    rulebook = rulebook_of([(0, published(OLD, base=NO_BASE)), (1, published(NEW, base=NO_BASE))])
    assert (rulebook.of("lamp"), rulebook.overtaken) == ([published(OLD, base=NO_BASE)], [published(NEW, base=NO_BASE)])


def test_tombstones_and_what_a_later_release_wrote_are_read_and_left_out() -> None:
    rulebook = Rulebook("control")
    foreign = [ConsumerRecord("control", 0, offset, 0, b"k", value, None) for offset, value in ((0, None), (1, b"?"))]
    assert rulebook.take(foreign, 5) == []
    assert (rulebook.position, rulebook.entities()) == (5, [])
    rulebook.take([], 3)
    assert rulebook.position == 5, "it never goes back"


def test_a_codec_reads_what_is_published_before_and_after_it_came() -> None:
    codec, rulebook, change = Codec(OLD), rulebook_of([(0, published(OTHER))]), change_by(NEW)
    assert rulebook.teach({"lamp": codec}) == []
    with pytest.raises(UnknownSchema):
        state_of(codec, change)
    assert rulebook.take([control_record(published(NEW), 1)], 2) == []
    late = Codec(OLD)
    assert rulebook.teach({"lamp": late}) == []
    assert state_of(codec, change).fields["watts"] == state_of(late, change).fields["watts"] == 1


def test_what_a_codec_can_not_read_is_told_once_whether_it_came_first_or_last() -> None:
    timed, again = published(TIMED), published(TIMED, published_at=7)
    rulebook = rulebook_of([(0, timed)])
    ((entry, why),) = rulebook.teach({"lamp": Codec(OLD)})
    assert entry == timed
    assert "two schemas differ in a logical type only" in why
    later = rulebook_of([(0, published(OTHER))])
    assert later.teach({"lamp": Codec(OLD), "fan": Codec(OTHER)}) == []
    assert later.take([control_record(timed, 1), control_record(again, 2)], 3) == [(timed, why)]


def test_a_gate_leaves_an_input_unknown_where_a_client_says_why() -> None:
    """The reason is part of the gate's decision, and verify must find the same one."""
    retyped = contracts(OLD).signal | {"fields": [{"name": "signal_id", "type": "long"}]}
    foreign = published(NEW, schemas={"signal": json.dumps(retyped)})
    value, gate, client = single_object_head(json.dumps(retyped)) + b"\x02", Codec(OLD), Codec(OLD)
    rulebook_of([(0, foreign)], STATES).teach({"lamp": gate})
    rulebook_of([(0, foreign)], EVERYTHING).teach({"lamp": client})
    with pytest.raises(UnknownSchema):
        gate.decode(Kind.SIGNAL, value)
    with pytest.raises(DecodeError, match="version 2 of `lamp` wrote it, which can't be read"):
        client.decode(Kind.SIGNAL, value)


def test_who_waits_for_a_position_finds_the_codecs_taught() -> None:
    """A restore waits in its own thread, and reads states as soon as the rules are known that far."""
    rulebook, codec, seen = Rulebook("control"), Codec(OLD), list[int]()

    class Watched:
        def learn(self, schema: object) -> None:
            seen.append(rulebook.position)
            codec.learn(schema)

    rulebook.teach({"lamp": cast("Codec", Watched())})
    rulebook.take([control_record(published(NEW), 4)], 5)
    assert set(seen) == {0}
    assert rulebook.position == 5
