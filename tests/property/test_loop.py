"""The loop takes every input once and in order, however transactions are cut, and whatever goes wrong in between."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from placet.schemas.decision import Coordinates, Decision, Outcome
from placet.schemas.definition.model import parse_definition
from placet.schemas.ledger import Commit
from placet.schemas.messages import Kind, Message
from placet.streams.loop.task import Task
from placet.streams.loop.task_calls import room_for
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.state.layout import StateFormat
from placet.streams.state.store import MemoryStore
from placet.streams.topology import TaskId
from placet.testing import TestDriver
from tests.property.loop_world import PARTITIONS, LoopWorld
from tests.property.recorded import states_of
from tests.property.strategies import Dice, thorough

DOC = """
entity: doc
version: 1
statuses: [open]
final: [open]
fields: {text: {type: string, default: ''}, n: {type: long, default: 0}}
signals:
  written: {payload: {text: string}, from: [absent, open], to: open, copy: text}
  counted: {payload: {by: long}, from: open, set: {n: state.n + payload.by}}
proposals:
  count: {payload: {by: long}, fence: none, from: open, set: {n: state.n + payload.by}}
"""
DOCS = ("doc-1", "doc-2", "doc-3", "doc-4")
TEXT_BYTES = 400


def filled(dice: Dice, count: int, *, unknown: bool = True) -> TestDriver:
    """A log with inputs that wait: each document is written first, then counted; some are of unknown schemas."""
    driver = TestDriver(parse_definition(DOC), partitions=PARTITIONS)
    for doc in DOCS:
        put(driver, Kind.SIGNAL, doc, "written", {"text": doc * (TEXT_BYTES // len(doc))}, f"w-{doc}")
    for number in range(count):
        kind = dice.pick((Kind.SIGNAL, Kind.PROPOSAL))
        doc = dice.pick(DOCS)
        put(driver, kind, doc, "counted" if kind is Kind.SIGNAL else "count", {"by": 1}, f"c-{number}")
        if unknown and dice.pick(range(8)) == 1:
            driver.append(kind, doc.encode(), b"\xc3\x01" + bytes(8))
        driver.advance(milliseconds=dice.pick((0, 1)))
    return driver


def put(driver: TestDriver, kind: Kind, doc: str, name: str, payload: dict, input_id: str) -> None:
    now = driver.now_ms
    message = Message(kind, name, input_id, doc, payload, now, now, input_id if kind is Kind.PROPOSAL else None)
    driver.append(kind, doc.encode(), driver.codec.encode_message(message))


def decided_by(world: LoopWorld, partition: int) -> list[tuple[Decision, Coordinates]]:
    records = world.log.records(TopicPartition(world.driver.topics.decisions, partition))
    return [world.driver.codec.decode_decision(record.value or b"") for record in records]


def commits_of(world: LoopWorld, partition: int) -> list[Commit]:
    records = world.log.records(TopicPartition(world.driver.topics.ledger, partition))
    entries = [world.driver.codec.decode_ledger(record.value) for record in records if record.value]
    return [entry for entry in entries if isinstance(entry, Commit)]


def assert_once_and_in_order(world: LoopWorld) -> None:
    """Every input has one decision, per topic in order; states and ledger agree with that."""
    driver = world.driver
    applied: Counter[str] = Counter()
    for partition in range(PARTITIONS):
        decided = decided_by(world, partition)
        for topic in driver.topics.inputs:
            inputs = world.log.records(TopicPartition(topic, partition))
            assert [at.offset for _, at in decided if at.topic == topic] == [record.offset for record in inputs]
        commits = commits_of(world, partition)
        assert [commit.sequence for commit in commits] == list(range(1, len(commits) + 1))
        in_each = Counter(at.sequence for _, at in decided)
        assert {commit.sequence: commit.decisions for commit in commits if commit.decisions} == in_each
        applied.update(d.entity_id for d, _ in decided if d.outcome is Outcome.ACCEPTED and d.name != "written")
        # From nothing: checks every link of the ledger, and the group's positions.
        restored = world.restored(TaskId("doc", partition), fresh := MemoryStore())
        assert restored.positions == {topic: len(world.log.records(TopicPartition(topic, partition)))
                                      for topic in driver.topics.inputs}  # fmt: skip
        form = StateFormat(driver.codec, driver.machine.decimal_fields)
        store = world.stores[TaskId("doc", partition)].copy()
        world.restored(TaskId("doc", partition), store)  # it may be behind the log
        assert states_of(store, form) == states_of(fresh, form)
        counted = {key.decode(): form.load(data).fields["n"] for key, data in fresh.scan(b"s", b"s", 99)}
        assert {f"s{doc}": applied[doc] for doc in DOCS if f"s{doc}" in counted} == counted


@thorough(150)
@given(st.binary(min_size=700, max_size=700), st.sampled_from([1, 1_500, 4_000, 10**9]))
def test_every_input_is_taken_once_and_in_order_whatever_goes_wrong(data: bytes, bytes_max: int) -> None:
    """Leftovers of a cut transaction amid aborts, lost commits, partitions that come and go, and damaged stores."""
    dice = Dice(data)
    world = LoopWorld(filled(dice, 40), dice, bytes_max=bytes_max)
    world.run()
    assert_once_and_in_order(world)
    for what in set(world.happened):
        event(what)


@pytest.mark.parametrize("bytes_max", [1, 1_500, 4_000])
def test_a_transaction_ends_once_it_has_its_size(bytes_max: int) -> None:
    """With the input that passes it; the rest is left over and comes next. Its tasks share the size."""
    world = LoopWorld(
        filled(Dice(bytes(range(256))), 60, unknown=False), Dice(b""), bytes_max=bytes_max, records_max=50
    )
    world.run()
    assert_once_and_in_order(world)
    changes = [commit.changes for partition in range(PARTITIONS) for commit in commits_of(world, partition)]
    assert max(changes) <= max(1, bytes_max / PARTITIONS / TEXT_BYTES + 1)
    written = [world.log.records(TopicPartition(world.driver.topics.changelog, each)) for each in range(PARTITIONS)]
    assert sum(changes) == sum(map(len, written))


def test_inputs_that_are_left_over_keep_others_from_being_polled() -> None:
    """What waits in memory does not grow: fewer are polled, and one at a time where they are large; never none."""
    small = [ConsumerRecord("t", 0, offset, 1, b"k", b"v") for offset in range(30)]
    large = [record._replace(value=bytes(1 << 20)) for record in small]
    tasks = {name: SimpleNamespace(left=left) for name, left in {"none": [], "small": small, "large": large}.items()}

    def room(*names: str) -> int:
        return room_for([cast("Task", tasks[name]) for name in names], 100)

    assert (room(), room("none"), room("none", "small"), room("large", "small")) == (100, 100, 70, 1)
    assert room("small", "small", "small", "small") == 1
