"""Which inputs stand for the same occasion, and which say the same."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import pytest

from placet.processors.dedup import CheckedInput, identified
from placet.schemas.messages import Message
from tests.unit.bench import Bench, proposal, signal

ROOM = """
entity: room
version: 1
statuses: [open]
fields: {note: string | null}
signals:
  heard: {payload: {what: string}, from: any}
  shouted: {payload: {what: string}, from: any}
  timed: {payload: {what: string, times: {type: map, values: int}}, from: any}
  entered: {dedup: once, from: any}
proposals:
  book: {payload: {who: string, hour: int, note: {type: string, default: ""}}, dedup: [who, hour], from: any}
  clean: {payload: {note: {type: string, default: ""}}, from: any}
"""
BENCH = Bench(ROOM)


class Occasion(NamedTuple):
    dedup_key: str
    payload_digest: bytes


def occasion(message: Message) -> Occasion:
    found = identified(BENCH.machine.rules[message.kind, message.name], message)
    assert isinstance(found, CheckedInput), found
    return Occasion(found.dedup_key, found.payload_digest)


def test_different_occasions_have_different_keys() -> None:
    messages = [
        signal("heard", {"what": "a"}, input_id="x"),
        signal("heard", {"what": "a"}, input_id="x/heard"),
        proposal("clean", {"note": ""}, caused_by="x"),
        proposal("clean", {"note": ""}, caused_by="x/clean"),
        proposal("clean", {"note": ""}, dedup_key="x/clean"),
        proposal("clean", {"note": ""}, dedup_key="cause:x/clean"),
        proposal("book", {"who": "ann", "hour": 1, "note": ""}),
        proposal("book", {"who": "ann,1", "hour": 1, "note": ""}),
        proposal("book", {"who": 'ann",1,"', "hour": 1, "note": ""}),
        proposal("book", {"who": "ann", "hour": 11, "note": ""}),
    ]
    for one, other in combinations(messages, 2):
        assert occasion(one).dedup_key != occasion(other).dedup_key, (one, other)


def test_a_key_that_is_given_counts_before_the_id_and_the_cause() -> None:
    given = occasion(signal("heard", {"what": "a"}, input_id="s-1", dedup_key="k"))
    assert given.dedup_key == occasion(signal("heard", {"what": "a"}, input_id="s-2", dedup_key="k")).dedup_key
    caused = proposal("clean", {"note": ""}, dedup_key="k", caused_by="task-1")
    assert occasion(caused) == occasion(replace(caused, caused_by="task-2"))


def test_the_fields_alone_name_the_occasion() -> None:
    first = proposal("book", {"who": "ann", "hour": 9, "note": "x"}, dedup_key="k-1")
    second = proposal("book", {"who": "ann", "hour": 9, "note": "y"}, dedup_key="k-2")
    assert occasion(first).dedup_key == occasion(second).dedup_key
    assert occasion(first).payload_digest != occasion(second).payload_digest


def test_where_the_entity_remembers_by_name_there_is_no_key() -> None:
    assert occasion(signal("entered", dedup_key="k")).dedup_key == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"who": "ann", "hour": 9, "note": ""}, {"note": "", "hour": 9, "who": "ann"}),
        ({"who": "ann", "hour": 9, "note": ""}, {"who": "ann", "hour": 9, "note": ""}),
    ],
)
def test_the_digest_does_not_mind_how_a_payload_was_packed(one: dict, other: dict) -> None:
    assert occasion(proposal("book", one)).payload_digest == occasion(proposal("book", other)).payload_digest


def test_the_digest_minds_the_order_of_a_map_no_more_than_the_map_does() -> None:
    one = signal("timed", {"what": "a", "times": {"x": 1, "y": 2}})
    other = signal("timed", {"what": "a", "times": {"y": 2, "x": 1}})
    assert occasion(one).payload_digest == occasion(other).payload_digest


def test_the_digest_covers_name_and_values_only() -> None:
    heard = signal("heard", {"what": "a"})
    later = replace(heard, event_time=1, issued_at=2, input_id="other", proposer="else", caused_by="x")
    assert occasion(heard).payload_digest == occasion(later).payload_digest
    assert occasion(heard).payload_digest != occasion(signal("shouted", {"what": "a"})).payload_digest
    assert occasion(heard).payload_digest != occasion(signal("heard", {"what": "b"})).payload_digest
