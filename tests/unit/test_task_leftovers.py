"""A transaction has room for so many bytes of states; what comes after is left over, in order."""

from __future__ import annotations

import pytest

from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Outcome, Reason
from placet.schemas.definition.model import parse_definition
from placet.schemas.messages import Kind, Message
from placet.streams.loop.task import Task
from placet.streams.records import ConsumerRecord, ProducerRecord
from placet.testing import TestDriver

DOC = """
entity: doc
version: 1
statuses: [open]
final: [open]
fields: {text: {type: string, default: ''}, n: {type: long, default: 0}}
signals:
  written: {payload: {text: string}, from: [absent, open], to: open, copy: text}
  counted: {payload: {by: long}, from: open, guard: payload.by > 0, set: {n: state.n + payload.by}}
"""
CODEC = Codec(parse_definition(DOC))
TEXT_BYTES = 10_000
NOW = 1_800_000_000_000


@pytest.fixture
def driver() -> TestDriver:
    """Ten documents of 10 kB."""
    driver = TestDriver.from_text(DOC)
    for number in range(10):
        driver.signal(f"doc-{number}", "written", {"text": "x" * TEXT_BYTES}, signal_id=f"w-{number}")
    return driver


def counted(driver: TestDriver, by: int, docs: list[int]) -> list[ConsumerRecord]:
    """Signals that wait, one for each of these documents."""
    now, position = driver.now_ms, driver.task().positions[driver.topics.signals]
    messages = [
        Message(Kind.SIGNAL, "counted", f"c-{index}", f"doc-{doc}", {"by": by}, now, now)
        for index, doc in enumerate(docs)
    ]
    return [
        ConsumerRecord(
            driver.topics.signals, 0, position + index, now, message.entity_id.encode(), CODEC.encode_message(message)
        )
        for index, message in enumerate(messages)
    ]


def decisions_of(driver: TestDriver, written: list[ProducerRecord]) -> list[tuple[Outcome, Reason]]:
    found = [CODEC.decode_decision(r.value or b"")[0] for r in written if r.topic == driver.topics.decisions]
    return [(decision.outcome, decision.reason) for decision in found]


def batches(driver: TestDriver, records: list[ConsumerRecord], bytes_max: int) -> list[int]:
    """How many inputs each transaction takes until none is left over."""
    task, sizes = driver.task(), []
    while True:
        sizes.append(
            len(decisions_of(driver, task.process(records, driver.now_ms, driver.now_ms, bytes_max=bytes_max)))
        )
        task.committed({})
        records = []
        if not task.left:
            return sizes


def test_a_changed_state_counts_as_it_is_read_and_each_time_that_it_is_written(driver: TestDriver) -> None:
    assert batches(driver, counted(driver, 1, [3] * 9), 4 * TEXT_BYTES) == [3, 3, 3]  # read once, written thrice


def test_states_that_are_only_read_count_too(driver: TestDriver) -> None:
    """Refused inputs write nothing, but each state is held until the transaction ends."""
    assert batches(driver, counted(driver, 0, list(range(10))), 4 * TEXT_BYTES) == [4, 4, 2]


def test_bytes_that_do_not_decode_count_for_they_become_dead_letters(driver: TestDriver) -> None:
    [signal] = counted(driver, 1, [0])
    poison = [signal._replace(offset=signal.offset + n, value=b"\xff" * TEXT_BYTES) for n in range(5)]
    assert batches(driver, poison, 2 * TEXT_BYTES) == [2, 2, 1]


def test_an_input_that_is_larger_than_the_room_goes_alone(driver: TestDriver) -> None:
    assert batches(driver, counted(driver, 1, [1, 2, 3]), 1) == [1, 1, 1]


def test_where_there_is_room_nothing_is_left_over(driver: TestDriver) -> None:
    assert batches(driver, counted(driver, 1, [1, 2, 3] * 400), 1 << 40) == [1_200]


def test_what_is_left_over_comes_before_what_is_polled_next(driver: TestDriver) -> None:
    task: Task = driver.task()
    records = counted(driver, 1, [1, 2, 3, 4])
    first = records[0].offset
    task.process(records[:3], driver.now_ms, driver.now_ms, bytes_max=1)
    assert task.staged_positions[driver.topics.signals] == first + 1
    task.committed({})
    assert (task.positions[driver.topics.signals], task.next_positions[driver.topics.signals]) == (first + 1, first + 3)
    task.process(records[3:], driver.now_ms, driver.now_ms, bytes_max=1)
    task.committed({})
    assert [record.offset for record in task.left] == [first + 2, first + 3]


def test_an_aborted_transaction_takes_its_leftovers_with_it(driver: TestDriver) -> None:
    """They are read again from the task's positions, with what was taken."""
    task: Task = driver.task()
    records = counted(driver, 1, [1, 2, 3])
    task.process(records, driver.now_ms, driver.now_ms, bytes_max=1)
    task.committed({})
    task.process([], driver.now_ms, driver.now_ms, bytes_max=1)
    task.discard()
    assert task.left == []
    assert task.next_positions == task.positions
    assert batches(driver, records[1:], 1) == [1, 1]


def test_inputs_that_are_left_over_do_not_let_log_time_move_on_to_the_clock(driver: TestDriver) -> None:
    """As an idle partition's does: they are older than the clock."""
    task: Task = driver.task()
    task.process(counted(driver, 1, [1, 2]), driver.now_ms, driver.now_ms, bytes_max=1)
    task.committed({})
    written = task.process([], driver.now_ms + 60_000, driver.now_ms + 60_000, bytes_max=1)
    decision = next(record for record in written if record.topic == driver.topics.decisions)
    assert CODEC.decode_decision(decision.value or b"")[1].log_time == driver.now_ms
