"""One task: what a batch writes, in which order, and what it keeps; what an aborted one leaves behind."""

from __future__ import annotations

import sys
from types import FrameType

import pytest

from placet.processors.machine import compile_machine
from placet.processors.rules import Rules
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.dead_letter import decode_dead_letter
from placet.schemas.decision import Coordinates, Decision, Outcome, Reason
from placet.schemas.definition.model import parse_definition
from placet.schemas.ledger import AppliedEntry, Commit, Genesis, LedgerEntry, MemoryEntry, Span
from placet.schemas.messages import Kind, Message
from placet.streams.errors import TaskStopped
from placet.streams.loop.order import in_log_time_order
from placet.streams.loop.task import Phase, Task
from placet.streams.records import ConsumerRecord, ProducerRecord
from placet.streams.state.store import MemoryStore
from placet.streams.topology import TaskId, dead_letters_topic, entity_topics

NOW = 1_000_000_000
TOPICS = entity_topics("shop", "order")
DEAD = dead_letters_topic("shop")
DEFINITION = parse_definition("""
entity: order
version: 1
horizon: 10m
statuses: [open]
fields: {amount: {type: int, default: 0}}
signals:
  opened: {dedup: once, from: absent, to: open}
  counted: {payload: {amount: int}, from: open, copy: amount}
proposals:
  raise: {payload: {by: int}, from: open, set: {amount: state.amount + payload.by}}
""")
CODEC, MACHINE = Codec(DEFINITION), compile_machine(DEFINITION)
GENESIS = Genesis({topic: f"id-of-{topic}" for topic in TOPICS}, 1, 0, NOW)


class Sheet:
    """A task, and the input topics that it reads."""

    def __init__(self) -> None:
        self.task = Task(TaskId("order", 0), TOPICS, DEAD, Rules(MACHINE, CODEC, 7), MemoryStore(), 1)
        self.task.open(None, dict.fromkeys(TOPICS.inputs, 0), GENESIS)
        self._ends = dict.fromkeys(TOPICS.inputs, 0)

    def record(self, topic: str, value: bytes | None, timestamp: int = NOW, key: bytes = b"o-1") -> ConsumerRecord:
        self._ends[topic] += 1
        return ConsumerRecord(topic, 0, self._ends[topic] - 1, timestamp, key, value)

    def signal(self, name: str, payload: dict | None = None, timestamp: int = NOW, **given: object) -> ConsumerRecord:
        number = self._ends[TOPICS.signals]
        message = Message(Kind.SIGNAL, name, f"s-{number}", "o-1", payload or {}, NOW, NOW, **given)  # type: ignore[arg-type]
        return self.record(TOPICS.signals, CODEC.encode_message(message), timestamp)

    def proposal(self, by: int, base_version: int, timestamp: int = NOW) -> ConsumerRecord:
        number = self._ends[TOPICS.proposals]
        message = Message(
            Kind.PROPOSAL, "raise", f"p-{number}", "o-1", {"by": by}, NOW, NOW, f"k-{number}", base_version=base_version
        )
        return self.record(TOPICS.proposals, CODEC.encode_message(message), timestamp)

    def commit(self, records: list[ConsumerRecord], clock_ms: int = NOW) -> list[ProducerRecord]:
        written = self.task.process(records, clock_ms, clock_ms)
        self.task.committed({})
        return written


@pytest.fixture
def sheet() -> Sheet:
    return Sheet()


def of(topic: str, records: list[ProducerRecord]) -> list[ProducerRecord]:
    return [record for record in records if record.topic == topic]


def decided(records: list[ProducerRecord]) -> list[tuple[Decision, Coordinates]]:
    return [CODEC.decode_decision(record.value or b"") for record in of(TOPICS.decisions, records)]


def entries(records: list[ProducerRecord]) -> list[LedgerEntry]:
    return [CODEC.decode_ledger(record.value) for record in of(TOPICS.ledger, records) if record.value is not None]


def last_commit(records: list[ProducerRecord]) -> Commit:
    entry = entries(records)[-1]
    assert isinstance(entry, Commit)
    return entry


# What a batch writes --------------------------------------------------------------------------------------------------


def test_the_first_transaction_writes_a_genesis_and_every_one_ends_with_its_commit(sheet: Sheet) -> None:
    first = sheet.commit([sheet.signal("opened")])
    assert [record.topic for record in first] == [
        TOPICS.changelog, TOPICS.decisions, TOPICS.ledger, TOPICS.ledger,
    ]  # fmt: skip
    assert [type(entry) for entry in entries(first)] == [Genesis, Commit]
    assert [record.key for record in of(TOPICS.ledger, first)] == [b"genesis", b"commit"]
    second = sheet.commit([sheet.signal("counted", {"amount": 1})])
    assert [type(entry) for entry in entries(second)] == [Commit]


def test_everything_keeps_the_key_and_the_partition_of_its_entity(sheet: Sheet) -> None:
    written = sheet.commit([sheet.signal("opened"), sheet.proposal(5, 9)])
    assert {record.partition for record in written} == {0}
    assert {record.key for record in written if record.topic != TOPICS.ledger} == {b"o-1"}


def test_a_commit_tells_what_the_transaction_covered(sheet: Sheet) -> None:
    sheet.commit([sheet.signal("opened")])
    written = sheet.commit([sheet.signal("counted", {"amount": 1}, NOW + 3), sheet.proposal(5, 2, NOW + 9)], NOW + 20)
    commit = last_commit(written)
    assert (commit.task_epoch, commit.sequence) == (1, 2)
    assert commit.spans == (Span(TOPICS.signals, 1, 2), Span(TOPICS.proposals, 0, 1))
    assert (commit.log_time, commit.decided_at, commit.watermark) == (NOW + 9, NOW + 20, NOW)
    assert (commit.control_position, commit.definition_digest) == (7, MACHINE.digest)
    assert (commit.decisions, commit.changes) == (2, 2)


def test_every_input_topic_is_covered_even_unmoved(sheet: Sheet) -> None:
    sheet.commit([sheet.signal("opened")])
    assert last_commit(sheet.commit([])).spans == (Span(TOPICS.signals, 1, 1), Span(TOPICS.proposals, 0, 0))


def test_commits_link_and_their_digest_covers_decisions_and_changes(sheet: Sheet) -> None:
    commits = [last_commit(sheet.commit([sheet.signal("opened")])), last_commit(sheet.commit([]))]
    commits.append(last_commit(sheet.commit([sheet.signal("counted", {"amount": 1})])))
    assert [commit.previous for commit in commits] == [b"", commits[0].digest, commits[1].digest]
    assert len({commit.digest for commit in commits}) == 3


def test_a_decision_tells_where_and_when_it_was_taken(sheet: Sheet) -> None:
    sheet.commit([sheet.signal("opened")])
    written = sheet.commit([sheet.signal("counted", {"amount": 1}, NOW + 3), sheet.proposal(5, 2, NOW + 9)], NOW + 20)
    assert [at for _, at in decided(written)] == [
        Coordinates(TOPICS.signals, 0, 1, NOW + 3, NOW + 20, 1, 2, 0, MACHINE.digest, 7),
        Coordinates(TOPICS.proposals, 0, 0, NOW + 9, NOW + 20, 1, 2, 1, MACHINE.digest, 7),
    ]


def test_the_next_input_sees_what_the_one_before_it_did(sheet: Sheet) -> None:
    """In the same transaction, before anything is stored."""
    records = [sheet.signal("opened"), sheet.proposal(5, 1, NOW + 1), sheet.proposal(5, 1, NOW + 2)]
    records.append(records[1]._replace(offset=2, timestamp=NOW + 3))
    reasons = [decision.reason for decision, _ in decided(sheet.commit(records))]
    assert reasons == [Reason.NONE, Reason.NONE, Reason.STALE, Reason.REPEATED]


def test_an_input_that_changed_nothing_is_remembered_in_the_ledger(sheet: Sheet) -> None:
    sheet.commit([sheet.signal("opened"), sheet.signal("counted", {"amount": 0})])
    memory, applied, _ = entries(sheet.commit([sheet.signal("counted", {"amount": 0}, NOW + 4)]))
    assert isinstance(memory, MemoryEntry)
    assert (memory.entity_id, memory.dedup_key, memory.memory.version) == ("o-1", "key:s-2", 1)
    assert isinstance(applied, AppliedEntry)
    assert (applied.name, applied.applied.input_id, applied.applied.log_time) == ("counted", "s-2", NOW + 4)


def test_bytes_that_do_not_decode_are_kept(sheet: Sheet) -> None:
    written = sheet.commit([sheet.record(TOPICS.proposals, b"poison"), sheet.record(TOPICS.signals, None)])
    assert [decision.reason for decision, _ in decided(written)] == [Reason.UNDECODABLE] * 2
    letters = [decode_dead_letter(record.value or b"") for record in of(DEAD, written)]
    assert [(letter.topic, letter.value) for letter in letters] == [
        (TOPICS.proposals, b"poison"),
        (TOPICS.signals, None),
    ]
    assert {record.partition for record in of(DEAD, written)} == {-1}


def test_what_decodes_but_is_refused_is_no_dead_letter(sheet: Sheet) -> None:
    written = sheet.commit([sheet.proposal(1, 0)])
    assert decided(written)[0][0].outcome is Outcome.REFUSED
    assert of(DEAD, written) == []


def test_decisions_are_counted_by_kind_outcome_and_reason(sheet: Sheet) -> None:
    sheet.commit([sheet.signal("opened"), sheet.signal("opened"), sheet.proposal(1, 9)])
    assert dict(sheet.task.counts) == {
        (Kind.PROPOSAL, Outcome.REFUSED, Reason.ILLEGAL_TRANSITION): 1,  # equal log times: proposals come first
        (Kind.SIGNAL, Outcome.ACCEPTED, Reason.NONE): 1,
        (Kind.SIGNAL, Outcome.DUPLICATE, Reason.REPEATED): 1,
    }
    sheet.commit([])
    assert dict(sheet.task.counts) == {}


# What it keeps --------------------------------------------------------------------------------------------------------


def test_nothing_is_stored_before_the_commit_and_nothing_of_an_aborted_one(sheet: Sheet) -> None:
    record = sheet.signal("opened")
    first = sheet.task.process([record], NOW, NOW)
    assert sheet.task.store.scan(b"", b"", 99) == []
    sheet.task.discard()
    assert sheet.task.store.scan(b"", b"", 99) == []
    assert sheet.task.positions == dict.fromkeys(TOPICS.inputs, 0)
    assert sheet.task.process([record], NOW, NOW) == first


def test_values_and_the_positions_they_cover_are_stored_together(sheet: Sheet) -> None:
    writes: list[dict] = []
    sheet.task.store.write = lambda batch: writes.append(dict(batch))  # type: ignore[method-assign]
    sheet.task.process([sheet.signal("opened")], NOW, NOW)
    sheet.task.committed({TOPICS.changelog: 4, TOPICS.ledger: 9})
    assert len(writes) == 1
    assert set(writes[0]) == {
        b"so-1", b"mcommit", b"mchanged", b"mposition/shop.order.changelog", b"mposition/shop.order.ledger",
    }  # fmt: skip


def test_decided_at_and_log_time_never_go_back(sheet: Sheet) -> None:
    sheet.commit([sheet.signal("opened", timestamp=NOW + 50)], NOW + 100)
    written = sheet.commit([sheet.signal("counted", {"amount": 1}, NOW + 20)], NOW + 30)
    at = decided(written)[0][1]
    assert (at.log_time, at.decided_at) == (NOW + 50, NOW + 100)


def test_a_task_goes_on_from_the_last_commit_in_a_new_epoch(sheet: Sheet) -> None:
    last = last_commit(sheet.commit([sheet.signal("opened", timestamp=NOW + 5)], NOW + 9))
    again = Sheet()
    again.task.open(last, {TOPICS.signals: 1, TOPICS.proposals: 0}, None)
    commit = last_commit(again.commit([], NOW))
    assert (commit.task_epoch, commit.sequence, commit.previous) == (2, 2, last.digest)
    assert (commit.log_time, commit.decided_at, commit.spans[0]) == (NOW + 5, NOW + 9, Span(TOPICS.signals, 1, 1))


def test_an_idle_partition_moves_on_with_the_clock(sheet: Sheet) -> None:
    sheet.commit([sheet.signal("opened")])
    sheet.commit([sheet.signal("counted", {"amount": 0})])
    assert not sheet.task.needs_housekeeping(NOW + 660_000)
    assert sheet.task.needs_housekeeping(NOW + 660_001)
    written = sheet.commit([], NOW + 660_001)
    assert last_commit(written).log_time == NOW + 660_001
    assert [record.key for record in written if record.value is None] == [b"memory/1/o-1/key:s-1"]
    assert not sheet.task.needs_housekeeping(NOW + 660_001)


def test_an_input_that_is_ahead_of_the_clock_stops_the_task_once_a_commit_has_proved_the_clock(sheet: Sheet) -> None:
    """A broker's clock was wrong for a moment: decided, the input would make all later ones TOO_LATE."""
    fine, ahead = sheet.signal("opened"), sheet.signal("counted", {"amount": 1}, NOW + 3_000_000)
    behind, other = sheet.signal("counted", {"amount": 2}), sheet.proposal(5, 1)
    task, latest = sheet.task, NOW + 5_000
    written = task.process([fine, ahead, behind, other], NOW, NOW, log_time_max=latest)
    assert [at.offset for _, at in decided(written)] == [0, 0], "those that are ordered before it are decided"
    assert last_commit(written).log_time == NOW
    task.committed({})
    assert decided(task.process([], NOW + 1, NOW, log_time_max=latest)) == [], "this commit measures the clock"
    task.committed({})
    with pytest.raises(TaskStopped, match=r"offset 1 was appended 2999 s ahead of this machine's") as stopped:
        task.process([], NOW + 2, NOW, log_time_max=latest)
    assert stopped.value.goes_on_ms == NOW + 2 + 2_995_000, "then it is no later than what is allowed"


def test_an_input_that_is_ahead_waits_for_a_clock_that_comes_up_with_it(sheet: Sheet) -> None:
    ahead = sheet.signal("opened", timestamp=NOW + 10_000)
    assert decided(sheet.task.process([ahead], NOW, NOW, log_time_max=NOW + 5_000)) == []
    sheet.task.discard()  # that commit failed: nothing is proved
    assert decided(sheet.task.process([ahead], NOW, NOW, log_time_max=NOW + 5_000)) == []
    sheet.task.committed({})
    assert len(decided(sheet.task.process([], NOW + 5_000, NOW, log_time_max=NOW + 10_000))) == 1


def test_a_task_that_never_committed_has_nothing_to_clean_up(sheet: Sheet) -> None:
    assert not sheet.task.needs_housekeeping(NOW * 2)


def test_a_closed_task_gives_its_store_back_once(sheet: Sheet) -> None:
    closed = []
    sheet.task.store.close = lambda: closed.append(True)  # type: ignore[method-assign]
    sheet.task.close()
    sheet.task.close()
    assert (closed, sheet.task.phase) == ([True], Phase.CLOSED)


# The order within a batch ---------------------------------------------------------------------------------------------


def at(topic: str, offset: int, timestamp: int) -> ConsumerRecord:
    return ConsumerRecord(topic, 0, offset, timestamp, None, None)


def test_a_batch_is_taken_by_log_time_and_per_topic_as_it_came() -> None:
    signals = [at("signals", 0, 10), at("signals", 1, 30), at("signals", 2, 20), at("signals", 3, 40)]
    proposals = [at("proposals", 0, 5), at("proposals", 1, 25), at("proposals", 2, 35)]
    ordered = [(record.topic[0], record.offset) for record in in_log_time_order(signals + proposals)]
    # s-2 was appended with a step back in time: it counts as s-1's time, and stays behind it
    assert ordered == [("p", 0), ("s", 0), ("p", 1), ("s", 1), ("s", 2), ("p", 2), ("s", 3)]


def test_at_the_same_time_proposals_come_before_signals() -> None:
    records = [at(TOPICS.signals, 0, 10), at(TOPICS.proposals, 0, 10), at(TOPICS.signals, 1, 9)]
    ordered = [(record.topic, record.offset) for record in in_log_time_order(records)]
    assert ordered == [(TOPICS.proposals, 0), (TOPICS.signals, 0), (TOPICS.signals, 1)]


def test_the_order_does_not_depend_on_how_the_poll_mixed_the_topics() -> None:
    signals = [at("signals", offset, 10 + offset // 2) for offset in range(6)]
    proposals = [at("proposals", offset, 10 + offset // 3) for offset in range(6)]
    mixed = [record for pair in zip(signals, proposals, strict=True) for record in pair]
    orders = [list(in_log_time_order(batch)) for batch in (signals + proposals, proposals + signals, mixed)]
    assert orders[0] == orders[1] == orders[2]
    assert list(in_log_time_order([])) == []


def test_other_threads_may_go_first_every_few_hundred_inputs() -> None:
    sheet, called = Sheet(), []

    def note(frame: FrameType, event: str, _arg: object) -> None:
        if event == "call":
            called.append(frame.f_code.co_name)

    records = [sheet.signal("counted", {"amount": number}) for number in range(1_500)]
    sys.setprofile(note)
    try:
        sheet.task.process(records, NOW, NOW)
    finally:
        sys.setprofile(None)
    assert called.count("come_up_for_air") >= 2 * (1_500 // 512)  # while they are decided, and while they are encoded
