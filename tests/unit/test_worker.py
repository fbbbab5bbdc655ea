"""When a partition counts as idle: a transaction without inputs moves log time on to the clock."""

from __future__ import annotations

from threading import Event
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock, call

import pytest

from placet.schemas.errors import SettingsError
from placet.streams.errors import ProducerFenced, TaskMigrated
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.topology import TaskId, entity_topics
from placet.streams.worker import Worker

TOPICS = entity_topics("app", "order")
TASK = TaskId("order", 0)
SIGNALS, PROPOSALS = TopicPartition(TOPICS.signals, 0), TopicPartition(TOPICS.proposals, 0)


def worker_with(lag: dict[TopicPartition, int]) -> Worker:
    """A worker that runs one task in which something has expired; its inputs lag as told."""
    consumer = MagicMock(assigned={SIGNALS, PROPOSALS})
    consumer.take_revoked.return_value = set()
    consumer.lag.return_value = lag
    restorer = MagicMock()
    restorer.take_done.return_value = []
    entity_types = {"order": SimpleNamespace(topics=TOPICS)}
    worker = Worker(
        cast("Any", entity_types), lambda: consumer, MagicMock(), restorer, MagicMock(), lambda: 1_000, MagicMock(),
        Event(), records_max=10, poll_timeout_ms=1, namesake=MagicMock(),
    )  # fmt: skip
    task = MagicMock(task_id=TASK, positions={TOPICS.signals: 5, TOPICS.proposals: 7})
    task.needs_housekeeping.return_value = True
    worker._tasks[TASK] = task
    return worker


@pytest.mark.parametrize(
    ("lag", "idle"),
    [
        ({SIGNALS: 0, PROPOSALS: 0}, True),
        ({SIGNALS: 3, PROPOSALS: 0}, False),
        ({SIGNALS: 0, PROPOSALS: 1}, False),
        ({SIGNALS: 0}, False),  # nothing heard of the other one yet: a backlog may wait there
        ({}, False),
    ],
)
def test_housekeeping_alone_starts_a_transaction_only_where_no_input_waits(
    lag: dict[TopicPartition, int], idle: bool
) -> None:
    ready = worker_with(lag)._follow_assignment([])
    assert [(task.task_id, records) for task, records in ready] == ([(TASK, [])] if idle else [])


def test_a_record_that_a_seek_left_in_the_queue_is_not_decided_twice() -> None:
    records = [ConsumerRecord(TOPICS.signals, 0, offset, 1, b"o", b"v") for offset in (4, 5, 6, 5, 6, 7)]
    [(_, handed)] = worker_with({})._follow_assignment(records)
    assert [record.offset for record in handed] == [5, 6, 7]


def test_a_gate_that_the_group_has_not_admitted_fences_nobody() -> None:
    worker = worker_with({})
    consumer, producer = cast("Any", worker._consumer), cast("Any", worker._producer)
    consumer.poll_batch.return_value = []
    consumer.joined = False
    worker.run_once()
    producer.start.assert_not_called()
    consumer.joined = True
    worker.run_once()
    producer.start.assert_called_once_with()


@pytest.mark.parametrize(("error", "fenced"), [(ProducerFenced("f"), True), (TaskMigrated("m"), False)])
def test_a_gate_that_is_out_looks_for_another_of_its_name_after_it_has_left(error: TaskMigrated, fenced: bool) -> None:
    worker = worker_with({})
    order = MagicMock()
    order.attach_mock(cast("Any", worker._consumer).close, "leave")
    order.attach_mock(cast("Any", worker._namesake).look, "look")
    order.look.side_effect = SettingsError("another gate is called")
    cast("Any", worker._consumer).member_id.return_value = "ours"
    with pytest.raises(SettingsError):
        worker._join_again(error)
    assert order.mock_calls == [call.leave(), call.look("ours", fenced=fenced)]
