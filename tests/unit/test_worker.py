"""When a task counts as idle: a transaction without inputs moves log time on. And what the loop makes of a poll."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import ANY, MagicMock, call

import pytest

from placet.schemas.errors import DecodeError, SettingsError
from placet.streams.errors import FatalError, ProducerFenced, TaskCorrupted, TaskMigrated, TaskStopped
from placet.streams.host import LocalHost
from placet.streams.loop.broker_clocks import BrokerClocks
from placet.streams.loop.due_timers import DueTimers
from placet.streams.loop.idle import IdleQuestion, _Asked
from placet.streams.loop.outside import Outside
from placet.streams.loop.rules_in_force import RulesInForce
from placet.streams.loop.task_calls import Moment, process
from placet.streams.loop.worker import Worker
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.restore_thread import Restorer
from placet.streams.rules.rulebook import Rulebook
from placet.streams.state.rocksdb import RocksDBStore
from placet.streams.state.store import MemoryStore, StoreDamaged
from placet.streams.topology import TaskId, entity_topics
from tests.lamp import lamp
from tests.memory_log import log_of
from tests.staged import StagedHost

TOPICS = entity_topics("app", "order")
TASK = TaskId("order", 0)
SIGNALS, PROPOSALS = TopicPartition(TOPICS.signals, 0), TopicPartition(TOPICS.proposals, 0)
CLOCK_MS, SKEW_MS = 100_000, 5_000
NOTHING_UNKNOWN = cast("Any", SimpleNamespace(look=lambda _tasks: ([], []), waiting={}, told={}))


class Brokers:
    """Answers questions about ends, when it is told to."""

    def __init__(self) -> None:
        self.asked: dict[TopicPartition, list[Future[int]]] = {}

    def _ask(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        asked: dict[TopicPartition, Future[int]] = {partition: Future() for partition in partitions}
        for partition, future in asked.items():
            self.asked.setdefault(partition, []).append(future)
        return asked

    ask_starts = ask_ends = ask_newest = _ask

    def answer(
        self, ends: dict[TopicPartition, int], newest: dict[TopicPartition, int] | None = None, start: int = 0
    ) -> None:
        for partition, futures in self.asked.items():
            if partition not in ends:
                for future in futures:
                    future.set_exception(TimeoutError())
                continue
            last = (newest or {}).get(partition, ends[partition] - 1)
            for future, value in zip(futures, (start, ends[partition], last), strict=True):
                future.set_result(value)
        self.asked = {}


class Turn:
    """A worker that runs one task in which something has expired: signals are read to 5, proposals to 7."""

    def __init__(self, *, expired: bool = True) -> None:
        self.brokers = Brokers()
        self.consumer = MagicMock(assigned={SIGNALS, PROPOSALS})
        self.consumer.take_revoked.return_value = set()
        self.consumer.take_out_of_range.return_value = []
        self.consumer.reached.side_effect = lambda _partition, position: position
        self.consumer.lag.return_value = {SIGNALS: 0, PROPOSALS: 0}  # as known from an earlier ownership
        restorer = MagicMock()
        restorer.take_done.return_value = None
        rules = SimpleNamespace(
            entity_types={"order": SimpleNamespace(topics=TOPICS)},
            follow=lambda: False,
            entity_of=dict.fromkeys(TOPICS.inputs, "order"),
            task_of=lambda _partition: TASK,
            inputs=[*TOPICS.inputs],
            inputs_of=lambda _task_id: [SIGNALS, PROPOSALS],
            complete=lambda _assigned: {TASK},
        )
        self.clock_ms = CLOCK_MS
        clocks = BrokerClocks(lambda _topics: {}, lambda: self.clock_ms, lambda: 0.0, SKEW_MS)
        self.idle = IdleQuestion(self.brokers, clocks, lambda: 0.0)
        self.worker = Worker(
            cast("Any", rules), lambda: self.consumer, MagicMock(), restorer,
            StagedHost(now_ms=lambda: self.clock_ms), MagicMock(), LocalHost().flag(), self.idle, NOTHING_UNKNOWN,
            MagicMock(),
            records_max=10, poll_timeout_ms=1, namesake=MagicMock(), retention_ms=604_800_000,
        )  # fmt: skip
        positions = {TOPICS.signals: 5, TOPICS.proposals: 7}
        self.task = MagicMock(
            task_id=TASK, positions=positions, next_positions=positions, staged_positions=positions, left=[],
            oldest_at=CLOCK_MS, asking=SimpleNamespace(number=0), cleaned_ms=0, goes_on=False,
            timers=DueTimers(MemoryStore(), TOPICS.inputs),
        )  # fmt: skip
        self.task.needs_housekeeping.return_value = expired
        self.task.goes_on_waiting.return_value = False
        self.worker.tasks[TASK] = self.task

    def ready(self, records: Iterable[ConsumerRecord] = ()) -> list[tuple[TaskId, list[ConsumerRecord]]]:
        return [(task.task_id, taken) for task, taken in self.worker._follow_assignment(list(records))]


@pytest.mark.parametrize(
    ("ends", "idle"),
    [
        ({SIGNALS: 5, PROPOSALS: 7}, True),
        ({SIGNALS: 8, PROPOSALS: 7}, False),
        ({SIGNALS: 5, PROPOSALS: 8}, False),
        ({SIGNALS: 5}, False),  # the other one's broker did not answer: a backlog may wait there
        ({}, False),
    ],
)
def test_a_transaction_without_inputs_needs_the_brokers_word_that_none_waits(
    ends: dict[TopicPartition, int], idle: bool
) -> None:
    turn = Turn()
    assert turn.ready() == []  # whatever the consumer believes

    turn.brokers.answer(ends)

    assert turn.ready() == ([(TASK, [])] if idle else [])
    assert turn.ready() == []


@pytest.mark.parametrize(
    ("newest", "idle"),
    [
        ({SIGNALS: 4, PROPOSALS: 6}, True),
        ({SIGNALS: 4, PROPOSALS: -1}, False),  # a record that not all replicas have: it has its time already
        ({SIGNALS: 5, PROPOSALS: 6}, False),  # it became readable between the two answers
    ],
)
def test_an_input_that_nobody_can_read_yet_waits_as_well(newest: dict[TopicPartition, int], idle: bool) -> None:
    turn = Turn()
    turn.ready()
    turn.brokers.answer({SIGNALS: 5, PROPOSALS: 7}, newest)
    assert turn.ready() == ([(TASK, [])] if idle else [])


def test_where_every_input_was_removed_nothing_waits() -> None:
    asked = _Asked(Future(), Future(), Future())
    for future, value in zip(asked, (7, 7, -1), strict=True):
        future.set_result(value)
    assert asked.read_to() == 7


def test_log_time_moves_on_to_what_no_later_input_can_be_older_than() -> None:
    turn = Turn()
    turn.ready()
    turn.brokers.answer({SIGNALS: 5, PROPOSALS: 7})
    turn.worker.run_once()

    turn.task.needs_housekeeping.assert_called_with(CLOCK_MS - SKEW_MS)
    assert turn.task.process.call_args.args[2] == CLOCK_MS - SKEW_MS


def test_log_time_stays_behind_a_clock_that_was_set_back_since_the_question() -> None:
    turn = Turn()
    turn.ready()
    turn.brokers.answer({SIGNALS: 5, PROPOSALS: 7})
    turn.clock_ms -= 7_000
    turn.worker.run_once()
    assert turn.task.process.call_args.args[2] == CLOCK_MS - 7_000 - SKEW_MS


def test_nobody_is_asked_where_nothing_expires() -> None:
    turn = Turn(expired=False)
    assert turn.ready() == []
    assert turn.brokers.asked == {}


def test_an_end_behind_the_last_record_counts_as_read() -> None:
    turn = Turn()
    turn.consumer.reached.side_effect = lambda partition, position: position + (partition == SIGNALS)
    turn.ready()
    turn.brokers.answer({SIGNALS: 6, PROPOSALS: 7})  # a marker of a transactional producer
    assert turn.ready() == [(TASK, [])]


def test_records_that_came_meanwhile_are_decided_instead() -> None:
    turn = Turn()
    turn.ready()
    turn.brokers.answer({SIGNALS: 5, PROPOSALS: 7})
    record = ConsumerRecord(TOPICS.signals, 0, 5, 1, b"o", b"v")
    assert turn.ready([record]) == [(TASK, [record])]


def test_a_record_that_a_seek_left_in_the_queue_is_not_decided_twice() -> None:
    records = [ConsumerRecord(TOPICS.signals, 0, offset, 1, b"o", b"v") for offset in (4, 5, 6, 5, 6, 7)]
    [(_, handed)] = Turn(expired=False).ready(records)
    assert [record.offset for record in handed] == [5, 6, 7]


def test_a_partition_that_can_not_be_read_on_stops_its_task_by_name() -> None:
    turn = Turn()
    turn.consumer.take_out_of_range.return_value = [SIGNALS]
    turn.consumer.why_unreadable.side_effect = lambda partition, position: f"{partition.topic} ends before {position}"
    with pytest.raises(TaskStopped, match=r"order-0: app\.order\.signals ends before 5"):
        turn.ready()

    turn.consumer.why_unreadable.side_effect = lambda _partition, _position: ""
    assert turn.ready() == []


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (DecodeError("app.order.changelog partition 0: 'o-1' can't be read"), TaskStopped),
        (ZeroDivisionError("a bug"), TaskStopped),
        (TaskStopped(TASK, "it said so itself"), TaskStopped),
        (TaskCorrupted(TASK, "the store is damaged"), TaskCorrupted),
        (StoreDamaged("Corruption"), TaskCorrupted),
        (FatalError("the disk is full"), FatalError),
    ],
)
def test_what_a_task_raises_is_about_that_task_alone(raised: Exception, told: type[Exception]) -> None:
    task = MagicMock(task_id=TASK)
    task.process.side_effect = raised
    with pytest.raises(told) as caught:
        process(task, [], Moment(1_000), 1)
    assert str(raised) in str(caught.value)
    assert isinstance(raised, FatalError) or str(caught.value).startswith("order-0: ")


def test_a_gate_that_the_group_has_not_admitted_fences_nobody() -> None:
    turn = Turn(expired=False)
    worker, consumer, producer = turn.worker, turn.consumer, cast("Any", turn.worker._producer)
    consumer.poll_batch.return_value = []
    consumer.joined = False
    worker.run_once()
    producer.start.assert_not_called()
    consumer.joined = True
    worker.run_once()
    producer.start.assert_called_once_with()


@pytest.mark.parametrize(("error", "fenced"), [(ProducerFenced("f"), True), (TaskMigrated("m"), False)])
def test_a_gate_that_is_out_looks_for_another_of_its_name_after_it_has_left(error: TaskMigrated, fenced: bool) -> None:
    worker, order = Turn().worker, MagicMock()
    order.attach_mock(cast("Any", worker._consumer).close_in_time, "leave")
    order.attach_mock(cast("Any", worker._namesake).look, "look")
    order.look.side_effect = SettingsError("another gate is called")
    cast("Any", worker._consumer).member_id.return_value = "ours"
    with pytest.raises(SettingsError):
        worker._join_again(error)
    assert order.mock_calls == [call.leave(ANY), call.look("ours", fenced=fenced)]


def test_a_gate_that_can_run_nothing_leaves_the_group_and_joins_once_it_can() -> None:
    turn = Turn()
    worker, member, order = turn.worker, turn.consumer, MagicMock()
    rules, told = cast("Any", worker.rules), cast("Any", worker._observer)
    outside = Outside(LocalHost().flag())
    worker._make_consumer = lambda: member if rules.inputs else outside
    order.attach_mock(member.close_in_time, "leave")
    rules.inputs = []
    worker._join_again(TaskMigrated("it can't run any rules"))
    assert order.mock_calls == [call.leave(ANY)]
    assert worker._consumer is outside
    assert told.event.call_args == call("out of the group", why="it can't run any rules")
    assert told.tasks.call_args == call({})
    rules.complete = lambda assigned: {TASK} if assigned else set()
    followed: list[None] = []
    rules.follow = lambda: followed.append(None)
    worker.run_once()
    assert followed == [None], "it follows the rules on"
    cast("Any", worker._producer).start.assert_not_called()
    rules.inputs = [*TOPICS.inputs]
    worker._join_again(TaskMigrated("it can again"))
    assert worker._consumer is member
    assert told.event.call_args == call("joining the group again", why="it can again")


def test_a_task_that_can_not_start_loses_no_other_restored_one(tmp_path: Path) -> None:
    """Its store would stay open, and the next restore of that task wait for ever for the process that has it: this."""
    driver = lamp()
    host = StagedHost(now_ms=lambda: driver.now_ms)
    restorer = Restorer(host, host, lambda: log_of(driver), tmp_path)
    kind = replace(driver.entity_type, app="app")
    inputs = {TopicPartition(topic, number) for topic in driver.topics.inputs for number in (0, 1)}
    consumer = MagicMock(assigned=inputs)
    consumer.take_revoked.return_value = set()
    consumer.start.side_effect = TaskMigrated("a partition is not ours any more")
    control = cast("Any", SimpleNamespace(position=1, rulebook=Rulebook("control"), follow=list))
    rules = RulesInForce({"lamp": kind}, control, MagicMock(), MagicMock(), host.monotonic_s)
    worker = Worker(
        rules, lambda: consumer, MagicMock(), restorer, host,
        MagicMock(), host.flag(), MagicMock(), NOTHING_UNKNOWN, MagicMock(),
        records_max=10, poll_timeout_ms=1, namesake=MagicMock(), retention_ms=604_800_000,
    )  # fmt: skip
    worker._follow_assignment([])
    deadline_s = time.monotonic() + 20
    while len(restorer._done) < 2:
        assert time.monotonic() < deadline_s, "both are restored"
        time.sleep(0.01)
    assert [done.error for done in restorer._done] == [None, None]
    with pytest.raises(TaskMigrated) as failed:
        worker._follow_assignment([])
    worker._react_to(failed.value)
    restorer.close()
    for number in ("0", "1"):
        RocksDBStore(tmp_path / "app" / "lamp" / number).close()


def test_each_store_is_told_to_clean_its_disk_eight_times_within_the_retention() -> None:
    turn = Turn()
    told = turn.task.store.clean
    for hours in (0, 1, 20, 21, 41, 42, 50, 63, 1, 2, 30):  # and the clock is set back once
        turn.clock_ms = (1_000 + hours) * 3_600_000
        turn.worker._housekeeping_at_s = 0.0
        turn.ready()
    assert told.call_args_list == [call(302_400)] * 6, "at 0, 21, 42, 63, 1 and 30"


def test_a_task_that_stopped_until_a_time_is_begun_again_when_that_is_past() -> None:
    turn = Turn(expired=False)
    restorer = cast("MagicMock", turn.worker._restorer)
    turn.worker._react_to(TaskStopped(TASK, "an input is ahead of the clock", CLOCK_MS + 1_000))
    turn.ready()
    assert not restorer.submit.called
    turn.clock_ms += 1_000
    turn.ready()
    assert [call.args[0].task_id for call in restorer.submit.call_args_list] == [TASK]
    turn.worker._restoring.clear()
    turn.worker._name_stopped(TASK, "its log contradicts itself")
    turn.clock_ms += 10**9
    turn.ready()
    assert restorer.submit.call_count == 1
