"""Which rules a gate decides by, as the control topic grows: it changes them, or leaves an entity type to others."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from placet.definitions import parse_definition
from placet.processors.ladder import LADDER
from placet.processors.machine import compile_machine
from placet.processors.rules import Rules
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.control import NO_BASE, Published
from placet.schemas.definition.model import Definition
from placet.schemas.errors import SettingsError
from placet.streams.entity_type import EntityType
from placet.streams.errors import TaskMigrated
from placet.streams.loop.rules_in_force import RulesInForce
from placet.streams.records import ConsumerRecord
from placet.streams.rules.rulebook import Rulebook
from placet.streams.topology import entity_topics
from tests.unit.control_records import control_record, published

TEXT = """
entity: lamp
version: 1
statuses: [lit]
fields: {watts: int | null}
signals:
  changed: {payload: {watts: int}, from: [absent, lit], to: lit, copy: watts}
"""
LAMP, FAN = parse_definition(TEXT), parse_definition(TEXT.replace("lamp", "fan"))
NEWER, NEWEST = (parse_definition(TEXT.replace("version: 1", f"version: {number}")) for number in (2, 3))
MISSPELT = parse_definition(
    TEXT.replace("version: 1", "version: 2").replace("copy: watts}", "copy: watts, guard: state.wats < 3}")
)


class Following:
    """A gate of lamps, and of fans if asked; what it is told; and a control topic that grows."""

    def __init__(self, *definitions: Definition, too_new: Published | None = None) -> None:
        self.told = MagicMock()
        self.cannot_run: set[int] = set()
        self.rulebook = Rulebook("control")
        for definition in definitions:
            self.publish(published(definition, base=NO_BASE))
        control = MagicMock(rulebook=self.rulebook, follow=list)
        type(control).position = property(lambda _: self.rulebook.position)
        kinds = {each.entity: self.kind(each) for each in definitions}
        if too_new is not None:
            self.publish(too_new)
            self.cannot_run = {too_new.version}
        self.now_s = 0.0
        self.rules = RulesInForce(kinds, control, self.told, self._made, lambda: self.now_s)

    def publish(self, entry: Published) -> None:
        offset = self.rulebook.position
        self.rulebook.take([control_record(entry, offset)], offset + 1)

    def decided_by(self) -> dict[str, int]:
        return {name: kind.rules.machine.version for name, kind in self.rules.entity_types.items()}

    def why_not(self) -> tuple[dict[str, str], bool]:
        """What it can't run, as told last, and whether it is outside the group for it."""
        last = self.told.can_not_run.mock_calls[-1]
        return last.args[0], last.kwargs["outside"]

    def events(self) -> list[str]:
        return [call.args[0] for call in self.told.event.mock_calls]

    def _made(self, definition: Definition) -> Rules:
        if definition.version in self.cannot_run:
            raise SettingsError("there is no such function")
        return Rules(compile_machine(definition), Codec(definition))

    def kind(self, definition: Definition) -> EntityType:
        topics = entity_topics("app", definition.entity)
        return EntityType("app", self._made(definition), topics, dict.fromkeys(topics, ""), 1)


def test_the_rules_are_those_in_force_at_the_position() -> None:
    gate = Following(LAMP)
    assert gate.rules.follow() is False
    gate.publish(published(NEWER, base=LAMP.digest))
    assert gate.rules.follow() is True
    rules = gate.rules.entity_types["lamp"].rules
    assert (rules.machine.digest, rules.position) == (NEWER.digest, 2)
    gate.told.rules.assert_called_once_with("lamp", 2, NEWER.digest)
    gate.publish(published(FAN, base=NO_BASE))
    assert gate.rules.follow() is True, "the position is another one"
    assert gate.rules.entity_types["lamp"].rules.position == 3
    assert gate.rules.entity_types["lamp"].rules.codec is rules.codec


def test_what_was_overtaken_is_decided_by_nobody() -> None:
    gate = Following(LAMP)
    gate.publish(published(NEWER, base=LAMP.digest))
    gate.publish(published(NEWEST, base=LAMP.digest))
    gate.rules.follow()
    assert gate.decided_by() == {"lamp": 2}


def test_an_entity_type_whose_rules_can_not_be_run_here_is_left_to_others_and_comes_back() -> None:
    gate = Following(LAMP, FAN)
    gate.cannot_run = {2}
    gate.publish(published(NEWER, base=LAMP.digest))
    with pytest.raises(TaskMigrated):
        gate.rules.follow()
    assert (gate.decided_by(), gate.rules.inputs) == ({"fan": 1}, [*entity_topics("app", "fan").inputs])
    assert gate.events() == ["rules in force can't be run here"]
    gate.publish(published(NEWEST, base=NEWER.digest))
    with pytest.raises(TaskMigrated):
        gate.rules.follow()
    assert gate.decided_by() == {"lamp": 3, "fan": 1}


def test_an_entity_type_that_could_not_be_run_at_the_start_comes_back_too() -> None:
    gate = Following(LAMP, FAN, too_new=published(NEWER, base=LAMP.digest))
    assert gate.decided_by() == {"fan": 1}
    assert set(gate.rules.entity_of.values()) == {"lamp", "fan"}, "its topics are known: the group may give them"
    gate.publish(published(NEWEST, base=NEWER.digest))
    with pytest.raises(TaskMigrated):
        gate.rules.follow()
    assert gate.decided_by() == {"lamp": 3, "fan": 1}


def test_rules_that_were_never_published_are_not_gone_on_with() -> None:
    """An older file, and a version of an earlier release whose function is not here."""
    gate = Following(LAMP)
    gate.rules._all["lamp"] = gate.kind(NEWEST)
    gate.publish(published(MISSPELT))
    with pytest.raises(TaskMigrated):
        gate.rules.follow()
    assert "version 2 is in force, and can't be run here" in gate.why_not()[0]["lamp"]


def test_a_record_of_a_later_release_may_be_in_force_until_one_is_checked_against_what_is_known() -> None:
    gate = Following(LAMP, FAN)
    unreadable = ConsumerRecord("control", 0, 2, 0, b"definition/lamp/00", b"\xc3\x01later", None)
    gate.rulebook.take([unreadable], 3)
    with pytest.raises(TaskMigrated):
        gate.rules.follow()
    assert gate.decided_by() == {"fan": 1}
    gate.publish(published(NEWER, base=b"of the later one"))
    assert gate.rules.follow() is True
    assert gate.decided_by() == {"fan": 1}, "it follows what can't be read here"
    gate.publish(published(NEWEST, base=LAMP.digest))
    with pytest.raises(TaskMigrated):
        gate.rules.follow()
    assert gate.decided_by() == {"lamp": 3, "fan": 1}


def test_a_gate_that_can_run_nothing_subscribes_to_nothing_until_it_can() -> None:
    gate = Following(LAMP)
    gate.cannot_run = {2}
    gate.publish(published(NEWER, base=LAMP.digest))
    with pytest.raises(TaskMigrated, match="can run nothing"):
        gate.rules.follow()
    assert (gate.decided_by(), gate.rules.inputs) == ({}, [])
    why = "version 2 is in force, and can't be run here: there is no such function"
    assert gate.why_not() == ({"lamp": why}, True)
    [event] = gate.told.event.mock_calls
    assert event.kwargs["why"] == why
    assert "waits outside the group" in event.kwargs["then"]
    assert "placet definitions withdraw lamp" in event.kwargs["do"]
    assert gate.rules.follow() is False
    gate.publish(published(NEWEST, base=NEWER.digest))
    with pytest.raises(TaskMigrated, match="can run the rules of lamp"):
        gate.rules.follow()
    assert gate.decided_by() == {"lamp": 3}
    assert gate.why_not() == ({}, False)


def test_a_gate_that_can_run_nothing_looks_again_for_what_it_lacks() -> None:
    """A registry learns a schema, and nothing is published meanwhile."""
    gate = Following(LAMP, too_new=published(NEWER, base=LAMP.digest))
    assert gate.decided_by() == {}, "at its start already"
    gate.now_s = 29.0
    gate.cannot_run = set()
    assert gate.rules.follow() is False
    gate.now_s = 30.0
    with pytest.raises(TaskMigrated):
        gate.rules.follow()
    assert gate.decided_by() == {"lamp": 2}


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"ladder": LADDER + 1}, f"decided by ladder {LADDER + 1}; this release runs ladder {LADDER}"),
        ({"document": '{"entity": "lamp", "later": 1}'}, "version 2: this release of Placet can't use it"),
    ],
)
def test_what_a_later_release_published_can_not_be_run(parts: dict[str, Any], why: str) -> None:
    gate = Following(LAMP)
    gate.publish(published(NEWER, base=LAMP.digest, **parts))
    with pytest.raises(TaskMigrated):
        gate.rules.follow()
    assert why in gate.why_not()[0]["lamp"]
    started = Following(LAMP, too_new=published(NEWER, base=LAMP.digest, **parts))
    assert started.why_not() == gate.why_not()


def test_its_own_definition_may_be_decided_by_a_later_ladder() -> None:
    gate = Following()
    gate.publish(published(LAMP, base=NO_BASE, ladder=LADDER + 1))
    control = MagicMock(rulebook=gate.rulebook, position=1)
    rules = RulesInForce({"lamp": gate.kind(LAMP)}, control, gate.told, gate._made, lambda: 0.0)
    assert rules.inputs == []
    assert f"decided by ladder {LADDER + 1}" in gate.why_not()[0]["lamp"]


def test_a_gate_says_beforehand_what_it_could_not_run() -> None:
    gate = Following(LAMP)
    assert gate.rules.why_not(published(NEWER, base=LAMP.digest)) == ""
    assert gate.rules.why_not(published(FAN, base=NO_BASE, ladder=LADDER + 1)) == "", "it does not decide fans"
    gate.cannot_run = {2}
    assert gate.rules.why_not(published(NEWER, base=LAMP.digest)) == "there is no such function"
    assert "this release runs ladder" in gate.rules.why_not(published(LAMP, base=NO_BASE, ladder=LADDER + 1))
    assert gate.rules.why_not(published(LAMP, base=NO_BASE, document='{"entity": "lamp", "later": 1}')) != ""
    assert gate.decided_by() == {"lamp": 1}
    assert gate.told.mock_calls == []


def test_what_an_earlier_release_published_without_a_look_is_passed_over() -> None:
    gate = Following(LAMP)
    gate.publish(published(MISSPELT))
    assert gate.rules.follow() is True
    assert gate.decided_by() == {"lamp": 1}
    assert gate.events() == ["published version passed over"]
    assert "wats" in cast("str", gate.told.event.mock_calls[0].kwargs["why"])
