"""A partition moves between gates of two versions: what only the newer one knows comes through as if it had decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from placet.schemas.codec.codec import STATE_HEADER, Codec
from placet.schemas.codec.contracts import contracts
from placet.schemas.decision import Decision, Outcome, Reason
from placet.schemas.definition.model import parse_definition
from placet.schemas.errors import DecodeError
from placet.schemas.state import EntityState
from placet.streams.loop.rules_in_force import RulesInForce
from placet.streams.records import TopicPartition
from placet.streams.state import layout
from placet.streams.state.store import MemoryStore
from placet.testing import TestDriver
from placet.verify.report import Check
from tests.golden import samples
from tests.property.strategies import Dice, thorough
from tests.unit.verify_history import history_of

NEW = {
    "owner": "string | null",
    "paid": "{type: long, default: 3}",
    "share": "{type: double, default: 0.5}",
    "fee": "{type: decimal, precision: 9, scale: 3, default: '1.5'}",
    "bright": "{type: boolean, default: true}",
    "due": "timestamp | null",
    "tags": "{type: array, items: string, default: []}",
    "levels": "{type: array, items: double, default: [1.0]}",
    "rooms": "{type: map, values: double, default: {}}",
    "kind": "{type: string, symbols: [a, b], default: a}",
}


def rules(version: int, new: dict[str, str]) -> str:
    """The text of a version, with new fields or without any."""
    fields = "".join(f", {name}: {kind}" for name, kind in new.items())
    text = f"""
entity: order
version: {version}
horizon: 10m
statuses: [lit, dark]
fields: {{watts: {{type: int, default: 5}}, room: string | null{fields}}}
signals:
  changed: {{payload: {{watts: int}}, from: [absent, lit, dark], to: lit, copy: watts}}
  moved: {{payload: {{room: string | null}}, from: any, copy: room}}
  seen: {{from: any}}
  removed: {{from: any, to: absent}}
"""
    if new:
        text += f"  owned: {{payload: {{{fields[2:]}}}, from: any, copy: [{', '.join(new)}]}}\n"
    text += "proposals:\n  darken: {from: lit, to: dark}\n"
    if new:
        text += "  paint: {payload: {colour: string}, from: any, fence: [owner, fee], guard: state.owner != null}\n"
    return text


OLD, NEWER = parse_definition(rules(1, {})), parse_definition(rules(2, NEW))
READER = Codec(NEWER)
READER.learn(contracts(OLD).change)
VALUES: dict[str, tuple[Any, ...]] = {
    "owner": (None, "me", "1.50", ""),
    "paid": (3, 0, 2**60, -1),
    "share": (0.5, 1.0, 1e300, -0.25),
    "fee": (Decimal("1.5"), Decimal("0"), Decimal("-12.340"), Decimal("999999.999")),
    "bright": (True, False),
    "due": (None, 0, 1_700_000_000_000),
    "tags": ([], ["a"], ["b", "", "ü"]),
    "levels": ([1.0], [], [2.5, 3.0]),
    "rooms": ({}, {"z": 1.0, "a": 2.0}, {"b": 0.1}),
    "kind": ("a", "b"),
}
STEPS = ("v1", "changed", "owned", "v1 in place", "moved", "v2", "paint", "darken", "v2 in place", "seen", "removed")


@pytest.fixture(autouse=True, scope="module")
def started_before() -> Iterator[None]:
    """The old gate has not heard of the newer version yet: it looks once a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("placet.streams.rules.publication.refuse_unfit", lambda *_: None)
        patch.setattr("placet.streams.publishing.not_overtaken", lambda definitions, _: list(definitions))
        patch.setattr(RulesInForce, "_changed", lambda _self, before, _newest: (before, ""))
        yield


class _Gates:
    """One log, and gates of two versions that take turns on it: on a new machine, or in place, on the same store."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.driver = TestDriver(OLD, make_store=lambda: self.store)
        self.switch(2, in_place=True)

    def switch(self, version: int, *, in_place: bool) -> None:
        self.version = version
        if not in_place:
            self.store = MemoryStore()
        self.driver.restart(OLD if version == 1 else NEWER)

    def seen_by_v2(self, entity: str) -> EntityState:
        """The state as a reader with the newer definition has it."""
        changes = self.driver.log.records(TopicPartition(self.driver.topics.changelog, 0))
        own = [record for record in changes if record.key == entity.encode()]
        if not own:
            return EntityState()
        return READER.decode_change(own[-1].value or b"", own[-1].headers).state


def _step(driver: TestDriver, dice: Dice, what: str, number: int, entity: str, base: EntityState) -> Decision:
    payload: dict[str, Any] = {}
    if what == "owned":
        payload = {name: dice.pick(values) for name, values in VALUES.items()}
    elif what in ("changed", "moved"):
        payload = {"watts": dice.pick((1, 2, 3))} if what == "changed" else {"room": dice.pick(("x", None))}
    elif what == "paint":
        payload = {"colour": "red"}
    if what in ("paint", "darken"):
        return driver.propose(entity, what, payload, base=base, dedup_key=f"k{number}", proposal_id=f"p{number}")
    return driver.signal(entity, what, payload, signal_id=f"s{number}")


@thorough(40)
@given(st.lists(st.binary(min_size=16, max_size=16), min_size=8, max_size=30))
def test_fields_that_a_gate_does_not_know_come_through(history: list[bytes]) -> None:
    mixed, alone = _Gates(), TestDriver(NEWER)
    bases: dict[str, EntityState] = {}
    buried: set[str] = set()
    for driver in (mixed.driver, alone):
        driver.signal("l", "changed", {"watts": 1}, signal_id="first")
    for number, step in enumerate(history):
        dice = Dice(step)
        what, entity = dice.pick(STEPS), dice.pick(("l", "m"))
        note(f"{what} {entity}")
        if what.startswith("v"):
            mixed.switch(int(what[1]), in_place=what.endswith("in place"))
            continue
        if what in ("owned", "paint") and mixed.version == 1:
            mixed.switch(2, in_place=dice.pick((True, False)))
        keep, base = dice.pick((True, False, False)), bases.get(entity, alone.read(entity))
        found, expected = (
            _step(driver, Dice(step[3:]), what, number, entity, base) for driver in (mixed.driver, alone)
        )
        if what == "removed" and mixed.version == 1:
            buried.add(entity)  # what its fields' defaults are is not known there: all count as changed
        if entity not in buried:
            assert (found.outcome, found.reason, found.conflicts) == (
                expected.outcome,
                expected.reason,
                expected.conflicts,
            )
        bases[entity] = base if keep else alone.read(entity)
        state, due = mixed.seen_by_v2(entity), alone.read(entity)
        assert (state.status, state.version, state.incarnation) == (due.status, due.version, due.incarnation)
        assert {name: state.fields.get(name) for name in due.fields} == due.fields
        assert state.carried is None
        if entity in buried:
            assert all(version <= state.field_versions[name] for name, version in due.field_versions.items())
        else:
            assert state.field_versions == due.field_versions
    report = history_of(mixed.driver, (OLD, NEWER)).verify()
    assert not report.findings, [str(finding) for finding in report.findings]


# One by one -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def gates() -> _Gates:
    made = _Gates()
    made.driver.signal("l", "changed", {"watts": 1}, signal_id="s-1")
    made.driver.signal("l", "owned", {"owner": "me", "fee": Decimal("2.5"), "due": None}, signal_id="s-2")
    return made


@pytest.mark.parametrize("in_place", [True, False])
def test_a_fence_on_a_field_that_is_carried_sees_its_changes(gates: _Gates, *, in_place: bool) -> None:
    before = gates.driver.read("l")
    gates.driver.signal("l", "owned", {"owner": "you"}, signal_id="s-3")
    gates.switch(1, in_place=in_place)
    gates.driver.signal("l", "changed", {"watts": 2}, signal_id="s-4")
    gates.switch(1, in_place=in_place)
    gates.driver.signal("l", "changed", {"watts": 3}, signal_id="s-5")
    gates.switch(2, in_place=in_place)
    assert gates.driver.read("l").fields["owner"] == "you"
    stale = gates.driver.propose("l", "paint", {"colour": "red"}, base=before, dedup_key="k-1")
    assert (stale.reason, [tuple(conflict) for conflict in stale.conflicts]) == (
        Reason.STALE,
        [(3, ("fee", "owner"))],
    )


def test_the_old_gate_shows_what_it_carries_and_its_columns_lack_it(gates: _Gates) -> None:
    gates.switch(1, in_place=False)
    gates.driver.signal("l", "changed", {"watts": 2}, signal_id="s-3")
    state = gates.driver.read("l")
    assert state.fields == {"watts": 2, "room": None}
    assert state.carried == {
        "owner": "me", "paid": 3, "share": 0.5, "fee": "2.500", "bright": True, "due": None, "tags": [],
        "levels": [1.0], "rooms": {}, "kind": "a",
    }  # fmt: skip


def test_what_is_carried_goes_with_the_entity(gates: _Gates) -> None:
    gates.switch(1, in_place=False)
    gates.driver.signal("l", "removed", signal_id="s-3")
    assert gates.driver.read("l").carried is None
    gates.driver.signal("l", "changed", {"watts": 4}, signal_id="s-4")
    gates.switch(2, in_place=False)
    state = gates.driver.read("l")
    assert (state.fields["owner"], state.fields["fee"]) == (None, Decimal("1.500"))
    assert state.field_versions["owner"] == 3  # so that a fence on it sees the deletion


def test_what_is_carried_counts_in_the_size_of_a_state() -> None:
    driver = TestDriver(OLD)
    driver.restart(parse_definition(rules(2, {**NEW, "essay": "string | null"})))
    driver.signal("l", "changed", {"watts": 1}, signal_id="s-1")
    assert driver.signal("l", "owned", {"essay": "x" * 261_800}, signal_id="s-2").outcome is Outcome.ACCEPTED
    driver.restart(OLD)
    refused = driver.signal("l", "moved", {"room": "y" * 400}, signal_id="s-3")
    assert refused.reason is Reason.STATE_TOO_LARGE


def test_without_anything_carried_a_states_bytes_are_as_they_were() -> None:
    codec = Codec(samples.DEFINITION)
    _, headers = codec.encode_change(samples.CHANGE)
    assert dict(headers)[STATE_HEADER][0] == 0x92  # an array of two, as earlier releases wrote it
    form = layout.StateFormat(codec, frozenset({"fee"}))
    *parts, _carried, _armed, _counts = (getattr(samples.CHANGE.state, field.name) for field in fields(EntityState))
    earlier = b"\x00" + msgspec.msgpack.encode(parts)
    assert form.load(earlier) == samples.CHANGE.state


def test_a_carried_value_of_another_type_is_refused_by_name() -> None:
    codec = Codec(parse_definition(rules(2, {**NEW, "owner": "long | null"})))
    codec.learn(contracts(OLD).change)
    old = Codec(OLD)
    state = EntityState(3, 5, "lit", {"watts": 1, "room": None}, {}, {}, 0, {"owner": "me"})
    value, headers = old.encode_change(replace(samples.CHANGE, state=state))
    with pytest.raises(DecodeError, match=r"`owner`: the carried value 'me' is no long \| null: a field is never"):
        codec.decode_change(value, headers)


def test_a_log_that_lost_a_field_is_a_difference(gates: _Gates) -> None:
    """Gates of earlier releases dropped what they did not know."""
    gates.switch(1, in_place=False)
    gates.driver.signal("l", "changed", {"watts": 2}, signal_id="s-3")
    history = history_of(gates.driver, (OLD, NEWER))
    record = history.records[gates.driver.topics.changelog][-1]
    codec = Codec(OLD)
    change = codec.decode_change(record.value or b"", record.headers)
    _, headers = codec.encode_change(replace(change, state=replace(change.state, carried=None)))
    others = [header for header in record.headers or [] if header[0] != STATE_HEADER]
    history.replace(gates.driver.topics.changelog, -1, headers=headers + others)
    (finding,) = [found for found in history.verify().findings if found.check is Check.CHANGE]
    assert "state.carried is None, the re-run gives {" in str(finding)


def test_a_decimal_is_kept_digit_by_digit_as_a_restore_gives_it() -> None:
    driver = TestDriver.from_text(
        """
entity: bill
version: 1
statuses: [open]
final: [open]
fields:
  fee: {type: decimal, precision: 9, scale: 2, default: '0'}
  tax: {type: decimal, precision: 9, scale: 3, default: '1.5'}
signals:
  opened: {from: absent, to: open}
  taxed: {from: open, set: {tax: 7}}
"""
    )
    driver.signal("b", "opened", signal_id="s-1")
    driver.signal("b", "taxed", signal_id="s-2")
    expected = [("fee", "0.00"), ("tax", "7.000")]
    assert [(name, str(value)) for name, value in driver.read("b").fields.items()] == expected
    driver.restart()
    assert [(name, str(value)) for name, value in driver.read("b").fields.items()] == expected
