"""Verify finds what was planted, names it by topic, partition and offset, and finds nothing in what a gate wrote."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from placet.definitions import load_definition, parse_definition
from placet.processors.dedup import CLOCK_AHEAD_MAX_MS
from placet.schemas.codec.wire import Confluent
from placet.schemas.errors import SettingsError
from placet.schemas.ledger import Commit, LedgerEntry, MemoryEntry
from placet.schemas.messages import Kind, Message
from placet.schemas.state import Change
from placet.streams.records import ConsumerRecord
from placet.streams.state import layout
from placet.testing import TestDriver
from placet.verify.report import Check, Mismatch
from placet.verify.rules import PastRules
from tests.unit.control_records import rulebook_of
from tests.unit.verify_history import DAY_MS, DEFINITION, History, history_of, long_history, numbered, small_history

DECISIONS, CHANGELOG, LEDGER = "test.order.decisions", "test.order.changelog", "test.order.ledger"
SIGNALS, PROPOSALS = "test.order.signals", "test.order.proposals"


def first_of(history: History, check: Check) -> Mismatch:
    report = history.verify()
    found = [finding for finding in report.findings if finding.check is check]
    assert found, f"no finding `{check.value}` among {[str(finding) for finding in report.findings]}"
    return found[0]


def test_what_a_gate_wrote_has_no_difference() -> None:
    report = small_history().verify()

    assert report.differences == 0
    assert (report.inputs, report.decisions, report.changes) == (8, 8, 6)
    assert (report.since.sequence, report.since.why) == (1, "")


# -- planted differences ----------------------------------------------------------------------------------------------


def rewrite_change(history: History, index: int, edit: Callable[[Change], Change]) -> ConsumerRecord:
    record = history.records[CHANGELOG][index]
    change = edit(history.codec.decode_change(record.value or b"", record.headers))
    value, headers = history.codec.encode_change(change)
    return history.replace(CHANGELOG, index, value=value, headers=headers + layout.change_headers(change, b"")[0])


def rewrite_decision(history: History, number: int, /, **parts: object) -> ConsumerRecord:
    """Change a decision, or where and when it was taken."""
    decision, at = history.codec.decode_decision(history.records[DECISIONS][number].value or b"")
    own = {name: part for name, part in parts.items() if name in decision.__match_args__}
    other = {name: part for name, part in parts.items() if name in at.__match_args__}
    decision, at = replace(decision, **own), replace(at, **other)
    return history.replace(DECISIONS, number, value=history.codec.encode_decision(decision, at))


def rewrite_entry(history: History, index: int, **parts: object) -> ConsumerRecord:
    entry = history.codec.decode_ledger(history.records[LEDGER][index].value or b"")
    value = history.codec.encode_ledger(msgspec.structs.replace(entry, **parts))
    return history.replace(LEDGER, index, value=value)


def commit_at(history: History, index: int) -> Commit:
    entry = history.codec.decode_ledger(history.records[LEDGER][index].value or b"")
    assert isinstance(entry, Commit)
    return entry


def entries(history: History, kind: type[LedgerEntry]) -> list[int]:
    return [
        index
        for index, record in enumerate(history.records[LEDGER])
        if record.value is not None and isinstance(history.codec.decode_ledger(record.value), kind)
    ]


def test_a_lost_decision_is_named_by_its_input() -> None:
    history = small_history()
    lost = history.records[DECISIONS].pop(2)
    _, at = history.codec.decode_decision(lost.value or b"")

    finding = first_of(history, Check.LOST)

    assert (finding.topic, finding.partition, finding.offset) == (at.topic, at.partition, at.offset)


def test_lost_decisions_at_the_end_are_found_too() -> None:
    history = small_history()
    del history.records[DECISIONS][-2:]

    report = history.verify()

    assert report.counts[Check.LOST] == 2
    assert {finding.offset for finding in report.findings if finding.check is Check.LOST} == {4, 5}


@pytest.mark.parametrize("index", [0, 3, -1])
def test_a_doubled_decision(index: int) -> None:
    history = small_history()
    added = history.append(history.records[DECISIONS][index])

    finding = first_of(history, Check.DOUBLED)

    assert (finding.topic, finding.partition, finding.offset) == (DECISIONS, 0, added.offset)


def test_a_decision_on_an_input_that_its_transaction_did_not_take() -> None:
    history = small_history()
    history.append(history.records[DECISIONS][-1])
    changed = rewrite_decision(history, -1, offset=7, index=2)

    history.positions[SIGNALS] = 8
    finding = first_of(history, Check.STRAY)

    assert (finding.topic, finding.offset) == (DECISIONS, changed.offset)
    assert "its transaction took 4 to 5" in finding.text


def test_a_change_without_an_accepted_decision() -> None:
    """A rogue writes a state of its own into the last transaction."""
    history = small_history()
    history.append(history.records[CHANGELOG][-1])
    added = rewrite_change(
        history, -1, lambda change: replace(change, offset=99, state=_renamed(change, total=1_000_000))
    )

    finding = first_of(history, Check.UNCAUSED)

    assert (finding.topic, finding.partition, finding.offset) == (CHANGELOG, 0, added.offset)
    assert "no decision on its input" in finding.text
    assert first_of(history, Check.STATE).offset == added.offset


def test_a_change_on_a_refused_input() -> None:
    history = small_history()
    refused, at = history.codec.decode_decision(history.records[DECISIONS][3].value or b"")
    history.records[CHANGELOG].insert(2, history.records[CHANGELOG][1])
    added = rewrite_change(
        history,
        2,
        lambda change: replace(change, topic=at.topic, offset=at.offset, sequence=at.sequence),
    )

    finding = first_of(history, Check.UNCAUSED)

    assert refused.outcome.name == "DUPLICATE"
    assert (finding.topic, finding.offset) == (CHANGELOG, added.offset)
    assert "DUPLICATE" in finding.text


def test_a_late_copy_of_a_change() -> None:
    history = small_history()
    added = history.append(history.records[CHANGELOG][0])

    finding = first_of(history, Check.UNCAUSED)

    assert (finding.topic, finding.offset) == (CHANGELOG, added.offset)


def test_a_missing_change() -> None:
    history = small_history()
    del history.records[CHANGELOG][1]

    finding = first_of(history, Check.MISSING)

    assert (finding.topic, finding.partition, finding.offset) == (DECISIONS, 0, history.records[DECISIONS][2].offset)
    assert "version 2 of 'order-1'" in finding.text


def test_a_gap_in_the_versions() -> None:
    history = small_history()
    changed = rewrite_change(
        history,
        3,
        lambda change: replace(change, state=replace(change.state, version=7)),
    )

    finding = first_of(history, Check.VERSION)

    assert (finding.topic, finding.offset) == (CHANGELOG, changed.offset)
    assert "version 7; its decision leads from 2 to 3" in finding.text


def _renamed(change: Change, **fields: object) -> object:
    return replace(change.state, fields={**change.state.fields, **fields})


def test_another_state_than_the_rules_give() -> None:
    history = small_history()
    changed = rewrite_change(history, -1, lambda change: replace(change, state=_renamed(change, total=500)))

    finding = first_of(history, Check.CHANGE)

    assert (finding.topic, finding.offset) == (CHANGELOG, changed.offset)
    assert "'total': 500" in finding.text
    assert first_of(history, Check.STATE).offset == changed.offset


def test_another_header_of_a_change() -> None:
    """What the header says is restored undecoded: it is the dedup memory."""
    history = small_history()
    headers = [(name, b"\0" * len(data)) for name, data in history.records[CHANGELOG][1].headers or ()]
    headers[0] = (history.records[CHANGELOG][1].headers or [])[0]
    changed = history.replace(CHANGELOG, 1, headers=headers)

    assert first_of(history, Check.CHANGE).offset == changed.offset


def test_another_decision_than_the_rules_give() -> None:
    history = small_history()
    changed = rewrite_decision(history, 3, input_id="someone else's")

    finding = first_of(history, Check.DECISION)

    assert (finding.topic, finding.partition, finding.offset) == (DECISIONS, 0, changed.offset)
    assert "input_id is \"someone else's\", the re-run gives 'proposal-2'" in finding.text


def test_other_bytes_of_the_same_decision() -> None:
    """A `first` that is written as an empty list in two blocks decodes the same."""
    history = small_history()
    value = history.records[DECISIONS][0].value or b""
    changed = history.replace(DECISIONS, 0, value=value[:-3] + b"\x80\x00" + value[-2:])

    finding = first_of(history, Check.DECISION)

    assert finding.offset == changed.offset
    assert "the values are the same, their bytes are not" in finding.text


def test_another_key_of_a_decision() -> None:
    history = small_history()
    changed = history.replace(DECISIONS, 0, key=b"order-9")

    assert first_of(history, Check.DECISION).offset == changed.offset


def test_bytes_that_are_no_decision() -> None:
    history = small_history()
    added = history.append(history.records[DECISIONS][0], value=b"not a decision")

    finding = first_of(history, Check.UNREADABLE)

    assert (finding.topic, finding.partition, finding.offset) == (DECISIONS, 0, added.offset)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"index": 4}, "index 4 stands at place 1"),
        ({"decided_at": 1_767_225_700_000}, "decided_at differs"),
        ({"control_position": 0}, "control_position differs"),
        ({"log_time": 1_767_225_600_000}, "log_time is 1767225600000"),
    ],
)
def test_an_illegal_order(parts: dict[str, object], words: str) -> None:
    history = small_history()
    changed = rewrite_decision(history, -1, **parts)

    finding = first_of(history, Check.ORDER)

    assert (finding.topic, finding.offset) == (DECISIONS, changed.offset)
    assert words in finding.text


def test_two_decisions_that_changed_places() -> None:
    history = small_history()
    values = [record.value for record in history.records[DECISIONS][-2:]]
    history.replace(DECISIONS, -2, value=values[1])
    swapped = history.replace(DECISIONS, -1, value=values[0])

    report = history.verify()

    finding = first_of(history, Check.ORDER)
    assert (finding.topic, finding.offset) == (DECISIONS, swapped.offset - 1)
    assert "index 1 stands at place 0" in finding.text
    assert {Check.ORDER, Check.DECISION} <= set(report.counts)
    assert Check.LOST not in report.counts


def test_two_changes_that_changed_places() -> None:
    history = small_history()
    first, second = history.records[CHANGELOG][-2:]
    history.replace(CHANGELOG, -2, value=second.value, headers=second.headers)
    swapped = history.replace(CHANGELOG, -1, value=first.value, headers=first.headers)

    finding = first_of(history, Check.ORDER)

    assert (finding.topic, finding.offset) == (CHANGELOG, first.offset)
    assert swapped.offset > first.offset


def test_log_time_that_moved_past_an_input_that_waited() -> None:
    driver = TestDriver(load_definition(DEFINITION))
    driver.signal("order-1", "opened", {"total": 5}, signal_id="opened-1")
    driver.advance(days=2)
    driver.signal("order-1", "added", {"amount": 1}, signal_id="added-1")
    history = history_of(driver)
    idle = [index for index in entries(history, Commit) if not commit_at(history, index).decisions]
    assert idle, "what expired moved log time on"
    moved = history.records[LEDGER][idle[-1]]
    assert history.verify().differences == 0

    waited = history.replace(SIGNALS, 1, timestamp=commit_at(history, idle[-1]).log_time - 1)
    finding = first_of(history, Check.ORDER)

    assert (finding.topic, finding.offset) == (LEDGER, moved.offset)
    assert f"past the input {SIGNALS} offset {waited.offset}" in finding.text


def test_a_broken_chain() -> None:
    history = small_history()
    changed = rewrite_entry(history, entries(history, Commit)[2], previous=b"\1" * 16)

    finding = first_of(history, Check.CHAIN)

    assert (finding.topic, finding.partition, finding.offset) == (LEDGER, 0, changed.offset)
    assert "it follows a commit of digest 0101" in finding.text


def test_a_commit_under_another_key() -> None:
    """Compaction would keep it for ever, and take the one that counts."""
    history = small_history()
    changed = history.replace(LEDGER, entries(history, Commit)[2], key=b"commit-2")

    assert first_of(history, Check.CHAIN).offset == changed.offset


def test_a_missing_commit() -> None:
    history = small_history()
    at = entries(history, Commit)[2]
    following = history.records[LEDGER][entries(history, Commit)[3]]
    del history.records[LEDGER][at]

    report = history.verify()

    assert {Check.CHAIN} == set(report.counts)
    assert Mismatch(Check.CHAIN, LEDGER, 0, following.offset, report.findings[1].text) == report.findings[1]
    assert "commits 3 to 3 are missing" in report.findings[1].text
    assert (report.findings[0].topic, report.findings[0].offset) == (DECISIONS, history.records[DECISIONS][2].offset)


def test_what_another_ladder_decided_is_verified_by_its_release() -> None:
    history = small_history()
    rewrite_entry(history, entries(history, Commit)[-1], ladder=2)
    with pytest.raises(SettingsError, match=r"was decided by ladder 2; this release runs ladders 1 to 1\. Verify with"):
        history.verify()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"digest": b"\2" * 16}, "digest is 0202"),
        ({"decisions": 9}, "decisions is 9, its records give 2"),
        ({"changes": 9}, "changes is 9, its records give 2"),
        ({"watermark": 1_767_225_700_000}, "watermark is 1767225700000"),
        ({"control_position": 2}, "control_position is 2"),
        ({"decided_at": 1_767_225_700_000}, "decided_at is 1767225700000"),
    ],
)
def test_a_wrong_commit(parts: dict[str, object], words: str) -> None:
    history = small_history()
    changed = rewrite_entry(history, entries(history, Commit)[-1], **parts)

    finding = first_of(history, Check.LEDGER)

    assert (finding.topic, finding.partition, finding.offset) == (LEDGER, 0, changed.offset)
    assert words in finding.text


def test_a_commit_of_an_earlier_epoch() -> None:
    history = small_history()
    added = history.append(history.records[LEDGER][-1])
    rewrite_entry(history, -1, task_epoch=0, sequence=8)

    finding = first_of(history, Check.CHAIN)

    assert (finding.topic, finding.offset) == (LEDGER, added.offset)
    assert "its epoch is below 1" in finding.text


@pytest.mark.parametrize("topic", [SIGNALS, "test.control"])
def test_topics_that_were_created_anew(topic: str) -> None:
    history = small_history()
    rewrite_entry(history, 0, topic_ids={topic: "another"})

    assert f"{topic} was created anew" in first_of(history, Check.CHAIN).text


def test_memory_that_the_ledger_lacks() -> None:
    history = small_history()
    del history.records[LEDGER][entries(history, MemoryEntry)[0]]

    assert "memory/1/order-1/key:seen-1 of 1/2 is missing" in first_of(history, Check.LEDGER).text


def test_memory_that_no_input_left() -> None:
    history = small_history()
    at = entries(history, MemoryEntry)[0]
    history.records[LEDGER].insert(at, history.records[LEDGER][at])
    changed = rewrite_entry(history, at, dedup_key="key:forged")

    finding = first_of(history, Check.LEDGER)

    assert (finding.topic, finding.offset) == (LEDGER, changed.offset)
    assert "no input of 1/2 leads to it" in finding.text


def test_memory_that_is_deleted_while_it_counts() -> None:
    history = small_history()
    memory = history.records[LEDGER][entries(history, MemoryEntry)[0]]
    last = history.records[LEDGER].pop()
    deleted = history.append(memory, value=None)
    history.append(last)

    finding = first_of(history, Check.TOMBSTONE)

    assert (finding.topic, finding.offset) == (LEDGER, deleted.offset)
    assert "the memory still counts" in finding.text


def test_a_tombstone_of_a_living_entity() -> None:
    history = small_history()
    last = history.codec.decode_ledger(history.records[LEDGER][-1].value or b"")
    assert isinstance(last, Commit)
    header = f"3/{last.task_epoch}/{last.sequence}".encode()
    added = history.append(
        history.records[CHANGELOG][-1], key=b"order-1", value=None, headers=[("placet-tombstone", header)]
    )

    finding = first_of(history, Check.TOMBSTONE)

    assert (finding.topic, finding.offset) == (CHANGELOG, added.offset)
    assert "the entity is `held`" in finding.text


def test_a_tombstone_that_no_transaction_wrote() -> None:
    history = small_history()
    added = history.append(history.records[CHANGELOG][-1], value=None, headers=[])

    assert first_of(history, Check.UNREADABLE).offset == added.offset


def test_a_group_whose_position_was_moved_back() -> None:
    history = small_history()
    history.positions = {SIGNALS: 3, PROPOSALS: 2}

    finding = first_of(history, Check.POSITION)

    assert (finding.topic, finding.partition, finding.offset) == (SIGNALS, 0, 3)
    assert "the ledger leads to 6" in finding.text


def test_a_ledger_that_is_gone() -> None:
    history = small_history()
    history.records[LEDGER].clear()

    report = history.verify()

    assert report.counts[Check.POSITION] == 2
    assert report.counts[Check.CHAIN] == 7


def test_all_are_counted_and_the_first_are_shown() -> None:
    history = small_history()
    for index in range(8):
        rewrite_decision(history, index, entity_id="nobody")

    report = history.verify(shown=3)

    assert report.counts[Check.DECISION] == 8
    assert len(report.findings) == 3


# -- while a gate runs ------------------------------------------------------------------------------------------------


def test_what_was_decided_after_the_positions_were_taken_is_left_alone() -> None:
    history = small_history()
    history.positions, history.later_positions = {SIGNALS: 3, PROPOSALS: 2}, history.positions
    del history.records[DECISIONS][-1], history.records[CHANGELOG][-1]  # half visible

    report = history.verify()

    assert report.differences == 0
    assert (report.inputs, report.decisions) == (5, 5)


def test_an_idle_transaction_that_is_half_visible_is_left_alone() -> None:
    driver = TestDriver(load_definition(DEFINITION))
    driver.signal("order-1", "opened", {"total": 5}, signal_id="opened-1")
    driver.signal("order-1", "closed", {}, signal_id="closed-1")
    driver.advance(days=1, minutes=2)
    history = history_of(driver)
    assert history.records[CHANGELOG][-1].value is None
    history.ends = {CHANGELOG: history.records[CHANGELOG][-1].offset}

    assert history.verify().differences == 0


def test_a_group_without_positions_is_a_warning() -> None:
    history = small_history()
    history.positions = {}

    report = history.verify()

    assert (report.differences, report.decisions) == (0, 8)
    assert len(report.warnings) == 2


# -- what time takes away ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_no_false_difference_in_long_histories(seed: int) -> None:
    history = long_history(seed, 150, days=6)

    assert history.verify().differences == 0


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kept_days", [2, 4])
def test_no_false_difference_after_compaction_and_retention(seed: int, kept_days: int) -> None:
    history = long_history(seed, 200, days=8, orders=6)
    before = history.now_ms - history.lag_ms
    for topic in (CHANGELOG, LEDGER):
        history.compact(topic, before, before - DAY_MS)
    whole = replace(history, records={topic: list(records) for topic, records in history.records.items()}, starts={})
    for topic in (SIGNALS, PROPOSALS, DECISIONS):
        history.retain(topic, history.now_ms - kept_days * DAY_MS)

    assert whole.verify().differences == 0
    report = history.verify()
    assert [str(finding) for finding in report.findings] == []
    assert report.since.sequence > 1
    assert "retention" in report.since.why


def test_after_retention_the_rest_is_decided_again() -> None:
    """Memory of before the start is known by the decisions, states by the changelog."""
    history = long_history(3, 400, days=6)
    for topic in (SIGNALS, PROPOSALS, DECISIONS):
        history.retain(topic, history.now_ms - 3 * DAY_MS)

    report = history.verify()

    assert report.differences == 0
    assert 0 < report.decisions < 400
    assert report.since.log_time >= history.now_ms - history.lag_ms


def test_a_difference_after_the_start_is_found() -> None:
    history = long_history(3, 400, days=6)
    for topic in (SIGNALS, PROPOSALS, DECISIONS):
        history.retain(topic, history.now_ms - 3 * DAY_MS)
    changed = rewrite_decision(history, -1, entity_id="nobody")

    finding = first_of(history, Check.DECISION)

    assert (finding.topic, finding.offset) == (DECISIONS, changed.offset)


def test_the_last_state_may_not_be_compacted_away() -> None:
    history = small_history()
    history.now_ms += 3 * DAY_MS
    del history.records[CHANGELOG][-1]

    finding = first_of(history, Check.STATE)

    assert (finding.topic, finding.offset) == (DECISIONS, history.records[DECISIONS][-1].offset)
    assert "version 3 of 'order-2'" in finding.text


def test_a_tombstone_counts_for_the_replay() -> None:
    driver = TestDriver(load_definition(DEFINITION))
    driver.signal("order-1", "opened", {"total": 5}, signal_id="opened-1")
    driver.signal("order-1", "closed", {}, signal_id="closed-1")
    driver.advance(milliseconds=DAY_MS + CLOCK_AHEAD_MAX_MS + 1)
    created = driver.signal("order-1", "opened", {"total": 5}, signal_id="opened-2")
    assert created.version_after == 1

    history = history_of(driver)
    assert history.verify().differences == 0

    history.now_ms += 3 * DAY_MS
    buried = history.find(CHANGELOG, lambda record: record.value is None)
    del history.records[CHANGELOG][buried]  # as compaction does in the end
    assert history.verify().differences == 0


# -- rules ------------------------------------------------------------------------------------------------------------

LATER = (
    DEFINITION.read_text()
    .replace("version: 1", "version: 2")
    .replace("{value: long}", "{value: long, unit: {type: string, default: C}}")
)


def test_decisions_under_several_definitions() -> None:
    first, second = load_definition(DEFINITION), parse_definition(LATER)
    driver = TestDriver(first)
    driver.signal("order-1", "opened", {"total": 5}, signal_id="opened-1")
    driver.restart(second)
    driver.signal("order-1", "temperature", {"value": 101}, signal_id="temperature-1")

    assert history_of(driver, (first, second)).verify().differences == 0


def unknown_schema() -> History:
    driver = TestDriver(load_definition(DEFINITION))
    later = TestDriver(parse_definition(LATER))
    payload = {"value": 101, "unit": "F"}
    message = Message(Kind.SIGNAL, "temperature", "t-1", "order-1", payload, driver.now_ms, driver.now_ms)
    decision = driver.send_raw(Kind.SIGNAL, b"order-1", later.codec.encode_message(message))
    assert decision.reason.name == "UNKNOWN_SCHEMA"
    return history_of(driver)


def test_a_schema_that_became_known_later_makes_no_difference() -> None:
    history = unknown_schema()
    history.published = numbered(load_definition(DEFINITION), parse_definition(LATER))

    assert history.verify().differences == 0


def test_a_schema_that_was_known_makes_one() -> None:
    history = unknown_schema()
    history.published = [(0, entry) for _, entry in numbered(load_definition(DEFINITION), parse_definition(LATER))]

    assert "reason is <Reason.UNKNOWN_SCHEMA: 102>" in first_of(history, Check.DECISION).text


def test_of_an_input_that_a_registry_did_not_know_all_but_that_is_decided_again() -> None:
    """When a registry came to know a schema is written nowhere: that it did not is taken for granted."""
    driver = TestDriver(load_definition(DEFINITION))
    driver.send_raw(Kind.SIGNAL, b"order-1", b"\0\0\0\0\x09a record")
    history = history_of(driver)
    rewrite_decision(history, 0, detail="http://registry:8081 does not know the schema id 9")
    assert [finding for finding in history.verify().findings if finding.check is Check.DECISION] == []
    rewrite_decision(history, 0, entity_id="order-2")
    assert "entity_id is 'order-2'" in first_of(history, Check.DECISION).text


def test_a_definition_that_the_control_topic_does_not_hold() -> None:
    history = small_history()
    history.published = numbered(parse_definition(LATER))

    finding = first_of(history, Check.DECISION)

    assert (finding.topic, finding.offset) == (DECISIONS, 0)
    assert load_definition(DEFINITION).digest.hex() in finding.text


def test_a_function_that_is_not_the_one_of_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be run again is no difference: it is said, and nothing is claimed."""
    module = tmp_path / "guards_of_then.py"
    module.write_text("def hot(scope):\n    return scope.payload['value'] > 100\n")
    monkeypatch.syspath_prepend(tmp_path)
    definition = parse_definition(DEFINITION.read_text().replace("payload.value > 100", "python:guards_of_then:hot"))
    driver = TestDriver(definition)
    driver.signal("order-1", "temperature", {"value": 101}, signal_id="temperature-1")
    history = history_of(driver, [definition])
    assert history.verify().differences == 0

    module.write_text("def hot(scope):\n    return scope.payload['value'] > 1_000\n")
    monkeypatch.delitem(sys.modules, "guards_of_then")
    linecache.clearcache()

    with pytest.raises(SettingsError, match="order version 1 can't be run again here"):
        history.verify()


def test_records_framed_by_a_registry_need_one() -> None:
    definition = load_definition(DEFINITION)
    book = PastRules("order", rulebook_of(numbered(definition)), None, 1 << 20)
    with pytest.raises(SettingsError, match="PLACET_REGISTRY__URL"):
        book.in_force(definition.digest, 1, 0)

    wire = Confluent(lambda _role, _schema: 7, lambda _role, _id: "")
    in_force = PastRules("order", rulebook_of(numbered(definition)), wire, 1 << 20).in_force(definition.digest, 1, 0)
    assert in_force is not None
    decision, at = TestDriver(definition).codec.decode_decision(small_history().records[DECISIONS][0].value or b"")
    assert in_force.codec.encode_decision(decision, at)[:5] == b"\0\0\0\0\7"
