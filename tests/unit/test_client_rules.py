"""Rules that change under a running client: what it proposes, foretells, reads, and says of what it can't use."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from placet.client import DecisionTimeout, NotConnected, Retry
from placet.client.answers import Answers
from placet.client.changes import ChangelogMember
from placet.client.connect import _why_not
from placet.client.core import Core
from placet.client.explain_text import todo_of
from placet.client.link import link_of
from placet.client.mirror import Mirror
from placet.client.snapshot import Snapshot
from placet.client.sync import Proposal
from placet.definitions import parse_definition
from placet.processors.ladder import LADDER
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.control import Published
from placet.schemas.definition import model
from placet.schemas.definition.model import Definition
from placet.schemas.errors import DefinitionError, InvalidPayload, SettingsError, UnknownSchema
from placet.schemas.messages import Kind
from placet.streams.errors import LogUnreachable
from placet.streams.records import ConsumerRecord, ProducerRecord, RecordId, TopicPartition
from placet.streams.rules.rulebook import EVERYTHING, Rulebook
from placet.streams.settings import load_settings
from placet.streams.topology import entity_topics
from placet.testing import TestDriver
from tests.unit.control_records import control_record, published

TEXT = """
entity: lamp
version: 1
statuses: [dark, lit]
fields: {watts: {type: int, default: 5}}
signals:
  made: {from: absent, to: dark}
proposals:
  light: {payload: {watts: int}, from: dark, to: lit, copy: watts, guard: payload.watts < 100}
"""
V1 = parse_definition(TEXT)
V2_TEXT = (
    TEXT.replace("version: 1", "version: 2")
    .replace("default: 5}}", "default: 5}, owner: {type: string, default: nobody}}")
    .replace("payload.watts < 100", "payload.watts < 10")
    + "  own: {payload: {owner: string}, from: dark, copy: owner}\n"
)
V2 = parse_definition(V2_TEXT)
V3 = parse_definition(V2_TEXT.replace("version: 2", "version: 3"))
MISSPELT = parse_definition(V2_TEXT.replace("payload.watts < 10", "payload.wats < 10"))
FUNCTION = "python:rules_of_lamps_that_nobody_has:lights"
WITH_CODE = V2_TEXT.replace("payload.watts < 10", FUNCTION) + f"sources: {{'{FUNCTION}': '00'}}\n"
ELSEWHERE = parse_definition(WITH_CODE)


class Lamps:
    """A running client of lamps with Kafka taken away, and a control topic that grows."""

    def __init__(self, wanted: Definition | str, *first: Definition) -> None:
        self.rulebook = Rulebook("control", EVERYTHING)
        self.records: list[ConsumerRecord] = []
        self.sent: list[ProducerRecord] = []
        for definition in first:
            self.append(published(definition, base=self.rulebook.base_of("lamp")))
            self.rulebook.take(self.records[-1:], len(self.records))
        settings = load_settings({})
        self.core: Any = Core(wanted, settings=settings)
        self.exchange: Any = self.core._exchange
        link = link_of(settings, wanted, entity_topics("app", "lamp"), 1, self.rulebook)
        assert link is not None
        self.exchange.link = link
        self.exchange.mirror = Mirror(link.definition, link.codec, 1, lambda _: None)
        self.exchange.mirror.reached_end(0)
        self.exchange.answers = Answers(link.codec, self.exchange.mirror.tell, self.exchange._goes_by)
        self.exchange._answering = True
        self.exchange._producer = SimpleNamespace(send=lambda record, _: self.sent.append(record))
        self.exchange._admin = None
        self.exchange.opened.set_result(None)

    def append(self, entry: Published) -> None:
        self.records.append(control_record(entry, len(self.records)))

    def publish(self, definition: Definition, **parts: Any) -> None:
        """Publish a version, as the client's reader brings it."""
        self.append(published(definition, **{"base": self.rulebook.base_of("lamp"), **parts}))
        self.exchange._take_rules(self.records[-1])

    def read(self, entity_id: str = "l-1") -> Snapshot:
        found = self.core.read(entity_id, 0).result(0)
        assert isinstance(found, Snapshot)
        return found

    def propose(self, name: str, **payload: object) -> Proposal:
        return Proposal(self.core.propose(self.read(), name, payload, dedup_key="k"))

    def would_be(self, **payload: object) -> str:
        made = TestDriver(V1)
        made.signal("l-1", "made", signal_id="s")
        dark = Snapshot("l-1", made.read("l-1"))
        reason: str = self.core.would_accept(dark, "light", payload).reason.name
        return reason


def known_to_gates_of(definition: Definition, record: ProducerRecord) -> bool:
    """Whether a gate that has heard of this version only can read it."""
    try:
        Codec(definition).decode(Kind.PROPOSAL, record.value or b"")
    except UnknownSchema:
        return False
    return True


@pytest.mark.parametrize("wanted", ["lamp", V1], ids=["by name", "by file"])
def test_a_running_client_goes_on_by_the_rules_that_were_published(wanted: Definition | str) -> None:
    lamps = Lamps(wanted, V1)
    lamps.propose("light", watts=50)
    assert known_to_gates_of(V1, lamps.sent[0])
    assert lamps.would_be(watts=50) == "NONE"
    with pytest.raises(InvalidPayload, match="no proposal `own`"):
        lamps.propose("own", owner="me")
    assert lamps.read().fields == {"watts": 5}

    lamps.publish(V2)
    lamps.propose("own", owner="me")
    assert known_to_gates_of(V2, lamps.sent[1])
    assert lamps.would_be(watts=50) == "GUARD_FAILED", "the rules in force, not those that it began with"
    assert lamps.read().fields == {"watts": 5, "owner": "nobody"}
    assert lamps.core.composer.machine.version == 2


def test_states_that_either_version_wrote_are_read_across_the_change() -> None:
    lamps = Lamps("lamp", V1)
    for number, (definition, fields) in enumerate([(V1, {"watts": 5, "owner": "nobody"}), (V2, {"owner": "nobody"})]):
        driver = TestDriver(definition)
        driver.signal(f"l-{number}", "made", signal_id="s")
        [record] = driver.log.records(TopicPartition(driver.topics.changelog, 0))
        lamps.exchange.mirror.take(record)
        waiting = lamps.core.read(f"l-{number}", 1)
        if number == 1:
            assert not waiting.done(), "its rules are about to come"
            lamps.publish(V2)
        assert fields.items() <= {**waiting.result(0).fields, "owner": "nobody"}.items()
    assert lamps.read("l-0").fields == lamps.read("l-1").fields == {"watts": 5, "owner": "nobody"}


def test_a_file_counts_until_something_is_in_force_and_never_behind_it() -> None:
    alone = Lamps(V1)
    alone.propose("light", watts=5)
    alone.publish(V1)
    assert alone.core.composer.machine.version == 1
    assert Lamps(V1, V1, V2).core.composer.machine.version == 2, "an older file: the rules in force decide"


def test_a_later_file_is_told_that_its_version_is_not_in_force_yet() -> None:
    lamps = Lamps(V2, V1)
    says = "no proposal `own`; it has light. Version 1 of `lamp` is in force, and this client was given version 2: once"
    with pytest.raises(InvalidPayload, match=re.escape(says)) as refused:
        lamps.propose("own", owner="me")
    assert refused.value.name == "own"
    assert "try again later" in str(refused.value)
    lamps.propose("light", watts=5)
    assert known_to_gates_of(V1, lamps.sent[0])
    lamps.publish(V2)
    lamps.propose("own", owner="me")
    with pytest.raises(InvalidPayload) as wrong:
        lamps.propose("own", owner=5)
    assert "later" not in str(wrong.value)


def test_a_missing_function_keeps_a_client_from_nothing_but_foretelling() -> None:
    lamps = Lamps("lamp", V1)
    lamps.publish(ELSEWHERE)
    with pytest.raises(DefinitionError, match=r"version 2 of `lamp` can't be evaluated here: .*\n.*propose, and wait"):
        lamps.would_be(watts=50)
    lamps.propose("own", owner="me")
    assert known_to_gates_of(V2, lamps.sent[0])


def test_a_client_foretells_by_the_version_of_a_function_that_is_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application that has both versions beside it changes over; one that lacks the newer says so."""
    code = "".join(f"def lights_v{n}(scope):\n    return scope.payload['watts'] < {100 // n**2}\n\n" for n in (1, 2))
    (tmp_path / "rules_of_lamps_by_version.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    one, two, three = (
        TEXT.replace("version: 1", f"version: {n}").replace(
            "payload.watts < 100", f"python:rules_of_lamps_by_version:lights@{n}"
        )
        for n in (1, 2, 3)
    )
    lamps = Lamps("lamp", parse_definition(one))
    assert lamps.would_be(watts=50) == "NONE"
    lamps.publish(parse_definition(two))
    assert lamps.would_be(watts=50) == "GUARD_FAILED"
    lamps.publish(model.parse_definition(three + "sources: {'python:rules_of_lamps_by_version:lights@3': '00'}\n"))
    with pytest.raises(DefinitionError, match="has no version 3 of lights: it has lights@1, lights@2"):
        lamps.would_be(watts=50)
    lamps.propose("light", watts=50)


def later_ladder(lamps: Lamps) -> None:
    lamps.publish(V2, ladder=LADDER + 1)


def later_language(lamps: Lamps) -> None:
    lamps.publish(V2, document=V2.document.replace('"statuses"', '"stages"'))


def later_record(lamps: Lamps) -> None:
    key = b"definition/lamp/" + V2.digest.hex().encode()
    lamps.records.append(ConsumerRecord("control", 0, len(lamps.records), 0, key, b"\xc3\x01of a later release", None))
    lamps.exchange._take_rules(lamps.records[-1])


@pytest.mark.parametrize(
    ("come", "keeps"), [(later_ladder, 2), (later_language, 1), (later_record, 1)], ids=["ladder", "language", "record"]
)
def test_rules_of_a_later_release_are_told_once_and_the_client_goes_on(
    come: Callable[[Lamps], None], keeps: int, caplog: pytest.LogCaptureFixture
) -> None:
    lamps = Lamps("lamp", V1)
    come(lamps)
    lamps.exchange._follow_rules()
    [line] = caplog.messages
    assert line.startswith("the rules in force of `lamp` can't be used here: ")
    assert line.endswith(f"This client reads and proposes by version {keeps}, and foretells nothing")
    with pytest.raises(DefinitionError, match=r"can't be used here.*\n  fix: Only the gate can tell"):
        lamps.would_be(watts=50)
    lamps.propose("light", watts=50)
    assert lamps.read().fields["watts"] == 5


def test_who_connects_by_name_where_nothing_can_be_used_is_told_why() -> None:
    lamps = Lamps(V1)
    later_language(lamps)
    said = _why_not("lamp", "app", set(), lamps.rulebook)
    assert said.startswith("The rules in force of `lamp` can't be used here")
    assert "later release" in said


def test_what_an_earlier_release_published_unchecked_is_passed_over_as_by_gates() -> None:
    lamps = Lamps("lamp", V1)
    lamps.publish(MISSPELT, base=b"")
    assert lamps.would_be(watts=50) == "NONE"
    lamps.publish(V3)
    assert lamps.core.composer.machine.version == 3


def test_a_registry_that_lacks_the_new_schemas_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lamps = Lamps("lamp", V1)

    def lacking(*_: object) -> None:
        raise SettingsError("the registry does not have the schema: run `placet schemas register`.")

    with monkeypatch.context() as away:
        away.setattr("placet.client.link.wire_of", lacking)
        lamps.publish(V2)
        lamps.exchange._follow_rules()
    assert len(caplog.messages) == 1
    assert "can't be used here yet: the registry does not have" in caplog.messages[0]
    lamps.propose("light", watts=50)
    assert known_to_gates_of(V1, lamps.sent[0])
    assert lamps.exchange._ask_again_at_s < float("inf")
    lamps.exchange._follow_rules()
    assert lamps.exchange._ask_again_at_s == float("inf")
    lamps.propose("own", owner="me")


# -- what was decided by other rules -----------------------------------------------------------------------------------


def decided(lamps: Lamps, driver: TestDriver, value: bytes) -> Any:
    """Let a gate decide on what the client sent; return the decision as the client gives it."""
    driver.send_raw(Kind.PROPOSAL, b"l-1", value)
    answer = lamps.exchange.answers.expect("l-1")
    at = driver.decided[-1].at
    lamps.exchange.answers.place("l-1", answer, RecordId(at.topic, at.partition, at.offset))
    lamps.exchange.answers.take(driver.log.records(TopicPartition(driver.topics.decisions, 0))[-1])
    return answer.result(0)


@pytest.mark.parametrize("knows_the_schema", [True, False], ids=["INVALID_PAYLOAD", "UNKNOWN_SCHEMA"])
def test_a_refusal_of_an_older_gate_may_be_sent_again_later(
    knows_the_schema: bool,
    request: pytest.FixtureRequest,
) -> None:
    lamps, older = Lamps("lamp", V1, V2), TestDriver(V1)
    if knows_the_schema:
        older.codec.learn(V2_SCHEMAS["proposal"])
    lamps.propose("own", owner="me")
    decision = decided(lamps, older, lamps.sent[0].value or b"")
    assert decision.reason.name in request.node.name
    assert decision.retry is Retry.LATER
    assert "other rules" in todo_of(decision)
    assert "later" in todo_of(decision)


V2_SCHEMAS = published(V2).schemas


def test_what_the_same_rules_refuse_is_not_sent_again() -> None:
    lamps, gate = Lamps("lamp", V1), TestDriver(V1)
    gate.codec.learn(V2_SCHEMAS["proposal"])
    newer = Lamps("lamp", V2)
    newer.propose("own", owner="me")
    decision = decided(lamps, gate, newer.sent[0].value or b"")
    assert (decision.reason.name, decision.retry) == ("INVALID_PAYLOAD", Retry.NEVER)


def test_other_rules_make_no_other_reason_one_for_later() -> None:
    lamps, older = Lamps("lamp", V1, V2), TestDriver(V1)
    for schema in V2_SCHEMAS.values():
        older.codec.learn(schema)
    lamps.core.propose(lamps.read(), "light", {"watts": 5}, dedup_key="k", issued_at=older.now_ms)
    decision = decided(lamps, older, lamps.sent[0].value or b"")
    assert (decision.reason.name, decision.retry) == ("ILLEGAL_TRANSITION", Retry.RECOMPUTE)


def test_who_waits_in_vain_is_told_of_a_decision_that_a_later_release_wrote() -> None:
    lamps = Lamps("lamp", V1)
    waiting = lamps.propose("light", watts=5)
    lamps.exchange.answers.take(ConsumerRecord("d", 0, 0, 0, b"l-1", b"\xc3\x01" + b"later   " + b"body", None))
    with pytest.raises(DecisionTimeout, match=r"this release can't read, and it may be that one: nobody here knows"):
        waiting.decision(0)


# -- rules that are asked for at once ----------------------------------------------------------------------------------


@pytest.fixture
def lamps(monkeypatch: pytest.MonkeyPatch) -> Lamps:
    """A client whose control topic holds more than its reader has brought."""
    lamps = Lamps("lamp", V1)
    lamps.append(published(V2, base=V1.digest))

    def read_rulebook(_settings: object, _admin: object, rulebook: Rulebook) -> None:
        rulebook.take(lamps.records[rulebook.position :], len(lamps.records))

    monkeypatch.setattr("placet.client.exchange.read_rulebook", read_rulebook)
    return lamps


def test_who_met_an_unknown_schema_has_the_rules_read_at_once(lamps: Lamps) -> None:
    asked = [lamps.exchange.read_rules() for _ in range(2)]
    lamps.exchange._meet_requests()
    assert [one.result(0) for one in asked] == [None, None]
    assert lamps.core.composer.machine.version == 2
    lamps.exchange._take_rules(lamps.records[-1])  # as the reader brings it, late
    assert lamps.rulebook.overtaken == []
    lamps.propose("own", owner="me")


def test_rules_that_can_not_be_read_are_told_to_who_asked(lamps: Lamps, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise LogUnreachable("nobody there")

    monkeypatch.setattr("placet.client.exchange.read_rulebook", away)
    asked = lamps.exchange.read_rules()
    lamps.exchange._meet_requests()
    with pytest.raises(LogUnreachable):
        asked.result(0)
    late = lamps.exchange.read_rules()
    lamps.exchange._reader = lamps.exchange._producer = SimpleNamespace(close=lambda **_: None)
    lamps.exchange._end(NotConnected("it was closed"))
    with pytest.raises(NotConnected):
        late.result(0)


def test_a_reader_of_changes_goes_over_a_change_of_rules(lamps: Lamps, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = TestDriver(V2)
    driver.signal("l-1", "made", signal_id="s")
    records = driver.log.records(TopicPartition(driver.topics.changelog, 0))
    group = SimpleNamespace(poll_batch=lambda *_: records, close=lambda: None)
    monkeypatch.setattr("placet.client.changes.GroupReader", lambda *_: group)
    ask = lamps.exchange.read_rules

    def read_rules() -> Any:
        asked = ask()
        lamps.exchange._meet_requests()
        return asked

    monkeypatch.setattr(lamps.exchange, "read_rules", read_rules)
    with ChangelogMember(load_settings({}), lamps.exchange, "group", 10) as member:
        batch = member.poll()
    assert batch is not None
    assert [lamp.fields for lamp in batch] == [{"watts": 5, "owner": "nobody"}]


def test_a_record_that_no_published_version_wrote_is_named_and_may_be_read_later(
    lamps: Lamps, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = TestDriver(parse_definition(TEXT.replace("watts: {", "lumen: {type: int, default: 1}, watts: {")))
    driver.signal("l-1", "made", signal_id="s")
    [record] = driver.log.records(TopicPartition(driver.topics.changelog, 0))
    group = SimpleNamespace(poll_batch=lambda *_: [record], close=lambda: None)
    monkeypatch.setattr("placet.client.changes.GroupReader", lambda *_: group)
    monkeypatch.setattr(lamps.exchange, "read_rules", lambda: SimpleNamespace(result=lambda _: None))
    member = ChangelogMember(load_settings({}), lamps.exchange, "group", 10)
    with pytest.raises(UnknownSchema, match=r"partition 0 at offset 0: 'l-1'.*not known here yet: try again later"):
        member.poll()
