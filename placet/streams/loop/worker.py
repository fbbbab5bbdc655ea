"""The run loop: one poll, one transaction. Read `run_once` and you know the system.

consume -> decode -> decide -> stage -> commit -> flush. No transaction is ever open while polling, so rebalance
callbacks have nothing to commit; they only take notes, and `_follow_assignment` acts on them at its own pace.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from placet.schemas.errors import PlacetError
from placet.streams.errors import (
    FatalError,
    ProducerFenced,
    TaskCorrupted,
    TaskMigrated,
    TaskStopped,
    TransactionAborted,
)
from placet.streams.kafka.consumer import GroupConsumer
from placet.streams.kafka.transactional_producer import TransactionalProducer
from placet.streams.loop import task_calls
from placet.streams.loop.back_off import BackOff
from placet.streams.loop.identity import Identity
from placet.streams.loop.idle import IdleQuestion
from placet.streams.loop.namesake import Namesake
from placet.streams.loop.observer import Observer
from placet.streams.loop.outside import Outside
from placet.streams.loop.rules_in_force import RulesInForce
from placet.streams.loop.task import Task
from placet.streams.loop.task_calls import Moment
from placet.streams.loop.unknown_schemas import SchemaQuestion
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.restore_thread import Job, Restorer
from placet.streams.runtime import Flag, Runtime
from placet.streams.state.store import StateStore
from placet.streams.topology import TaskId, dead_letters_topic

__all__ = ["Worker"]

_RESTORING_TIMEOUT_MS: Final = 10
_CLOSE_TIMEOUT_S: Final = 10.0
_LEAVE_TIMEOUT_S: Final = 2.0  # the tasks wait meanwhile
_HOUSEKEEPING_EVERY_S: Final = 5.0


class Worker:
    """Moves batches from the input topics to the outputs, each in one transaction, until told to stop.

    Args:
        rules: the entity types, by the rules in force.
        make_consumer: joins the group, or stays outside; called again after the group moved on, or the rules.
        producer: the transactional producer.
        restorer: brings tasks up to the log.
        runtime: clocks.
        observer: metrics and log.
        stopping: set from outside to end the loop after its batch.
        idle: asks which partitions are read to their end.
        unknown: asks for schemas that are not known, before inputs are refused for them.
        identity: asks whether the tasks' topics are still the same.
        records_max: most records of one batch.
        poll_timeout_ms: longest wait for a batch's first record.
        namesake: looks for another gate of our name.
        retention_ms: within it what was deleted leaves the local stores.
        bytes_max: size of the states of one transaction, after which its tasks leave inputs over for the next.

    Attributes:
        rules: see above.
        tasks: those that run.
    """

    def __init__(
        self,
        rules: RulesInForce,
        make_consumer: Callable[[], GroupConsumer | Outside],
        producer: TransactionalProducer,
        restorer: Restorer,
        runtime: Runtime,
        observer: Observer,
        stopping: Flag,
        idle: IdleQuestion,
        unknown: SchemaQuestion,
        identity: Identity,
        *,
        records_max: int,
        poll_timeout_ms: int,
        namesake: Namesake,
        retention_ms: int,
        bytes_max: int = task_calls.TRANSACTION_BYTES_MAX,
    ) -> None:
        self._stopping, self.rules = stopping, rules
        self._make_consumer, self._consumer = make_consumer, make_consumer()
        self._producer = producer
        self._restorer = restorer
        self._now_ms, self._monotonic_s = runtime.now_ms, runtime.monotonic_s
        self._observer, self._namesake = observer, namesake
        self._idle, self._unknown, self._identity = idle, unknown, identity
        self._records_max, self._poll_timeout_ms = records_max, poll_timeout_ms
        self._retention_ms, self._bytes_max = retention_ms, bytes_max
        self.tasks: dict[TaskId, Task] = {}
        self._restoring: dict[TaskId, tuple[Job, float]] = {}
        self._stopped: dict[TaskId, float] = {}  # with the time at which each is begun again
        self._housekeeping_at_s = 0.0
        self._back_off = BackOff(stopping.wait, runtime.monotonic_s)

    def run(self) -> None:
        """Loop until told to stop; then finish, close the tasks and leave the group.

        Raises:
            ClockSkew, FatalError, SettingsError: the process has to end; all is closed, nothing half done.
        """
        failure: PlacetError | None = None
        try:
            while not self._stopping.is_set():
                try:
                    # Not while it is in flight: confluent-kafka leaks it, with all its frames know, if it raises then.
                    self._react_to(failure)
                    failure = None
                    self.run_once()
                except (TransactionAborted, TaskMigrated, TaskStopped, TaskCorrupted) as error:
                    failure = error
        finally:
            self._close()

    def _react_to(self, failure: PlacetError | None) -> None:
        """Do what an error of the last round calls for. That may fail as well: the group can move on meanwhile."""
        match failure:
            case TransactionAborted():
                self._restore_all(failure)
            case TaskMigrated():
                self._join_again(failure)
            case TaskStopped():
                self._stop_task(failure)
            case TaskCorrupted():
                self._rebuild(failure)
                self._read_again()

    def run_once(self) -> None:
        """Move one batch from the input topics to the outputs, atomically."""
        self._back_off.begin()
        room = task_calls.room_for([task for task in self.tasks.values() if not task.asking.number], self._records_max)
        records = self._consumer.poll_batch(room, self._wait_ms())
        if self._consumer.joined:  # a gate that the group does not admit fences nobody, and one that does is seen there
            self._producer.start()  # once, and after any suspicion: what an earlier one left behind is fenced
        ready = self._follow_assignment(records)
        if not ready:
            return
        began_s, clock_ms, bytes_max = self._monotonic_s(), self._now_ms(), self._bytes_max // len(ready)
        now = Moment(clock_ms, self._idle.log_time_max(clock_ms), self._idle.log_times(clock_ms))
        with self._producer.transaction() as transaction:
            for task, task_records in ready:
                transaction.send(task_calls.process(task, task_records, now, bytes_max))
            positions = task_calls.positions_of(task for task, _ in ready)
            transaction.commit(positions, self._consumer.metadata_of_this_batch())
        self._idle.clocks.hear(transaction.stamped)
        damaged = [error for task, _ in ready if (error := task_calls.store(task, transaction))]
        self._report(ready, clock_ms, self._monotonic_s() - began_s)
        for error in damaged:
            self._rebuild(error)

    def _wait_ms(self) -> int:
        """How long to wait for a record: not long while a task may want to start or go on, not at all for more."""
        if any(task.goes_on for task in self.tasks.values()):
            return 0
        most_ms = _RESTORING_TIMEOUT_MS if self._restoring or self._unknown.waiting else self._poll_timeout_ms
        return self._idle.wait_ms(self.tasks.values(), most_ms)

    def _follow_assignment(self, records: list[ConsumerRecord]) -> list[tuple[Task, list[ConsumerRecord]]]:
        """Open, restore and close tasks; return the running ones that have something to do.

        What a task can't take yet is not lost: it starts with a seek to the ledger's positions.
        """
        self._observer.looped()
        if self.rules.follow():
            for task_id, task in self.tasks.items():
                task.follow(self.rules.entity_types[task_id.entity].rules)
            for task_id in [*self._restoring]:
                self._close_task(task_id)  # it reads by the rules that it began with: it is begun again below
        self._producer.serve()
        revoked = {self.rules.task_of(partition) for partition in self._consumer.take_revoked()}
        for task_id in sorted(revoked):
            self._close_task(task_id)
        now_ms = self._now_ms()
        known = {*self.tasks, *self._restoring, *(one for one, at_ms in self._stopped.items() if now_ms < at_ms)}
        for task_id in sorted(self.rules.complete(self._consumer.assigned) - known):
            self._restore(task_id, None)
        self._start_restored()
        self._stop_unreadable()
        self._identity.check(self.tasks)
        self._ask_for_schemas()
        deciding = {task_id: task for task_id, task in self.tasks.items() if not task.asking.number}
        work = task_calls.lanes_of(records, deciding, self.rules.entity_of)
        self._idle.clocks.read(work.values())
        if self._monotonic_s() >= self._housekeeping_at_s:
            self._housekeeping_at_s = self._monotonic_s() + _HOUSEKEEPING_EVERY_S
            self._observer.lag(self._consumer.lag(task_calls.all_positions(self.tasks.values())))
            self._observer.next_due(task_calls.next_due(self.tasks.values()))
            task_calls.clean(self.tasks.values(), self._now_ms(), self._retention_ms)
            self._idle.ask(self.tasks.values())
        self._idle.ask_in_time(deciding.values())
        return task_calls.ready(work, deciding, self._idle.take_idle(deciding.values(), self._consumer.reached))

    def _ask_for_schemas(self) -> None:
        """Let tasks wait whose next input is of an unknown schema, and go on once whoever may know it was asked."""
        told = self._unknown.told
        waits, goes_on = self._unknown.look(self.tasks.values())
        for task in waits:
            self._consumer.pause(self.rules.inputs_of(task.task_id))
        for task in goes_on:
            self._flow(task)
        if self._unknown.told != told:
            self._show_tasks()

    def _flow(self, task: Task) -> None:
        """Have a task's input partitions polled, from its next positions on."""
        self._consumer.start({TopicPartition(t, task.task_id.partition): at for t, at in task.next_positions.items()})

    def _stop_unreadable(self) -> None:
        """Stop the task of a partition that can't be read on.

        Raises:
            TaskStopped: what is to be read next is not there.
        """
        for partition in self._consumer.take_out_of_range():
            task = self.tasks.get(self.rules.task_of(partition))
            why = task and self._consumer.why_unreadable(partition, task.next_positions[partition.topic])
            if task and why:
                raise TaskStopped(task.task_id, why)

    def _restore(self, task_id: TaskId, store: StateStore | None, damage: str = "") -> None:
        self._stopped.pop(task_id, None)
        job = Job(task_id, self.rules.entity_types[task_id.entity], store, damage)
        self._restoring[task_id] = (job, self._monotonic_s())
        self._restorer.submit(job)
        self._show_tasks()

    def _start_restored(self) -> None:
        """Start the tasks whose restore is done; take out those whose log contradicts itself.

        Raises:
            FatalError: the disk takes nothing: others shall take over.
        """
        for aside in self._restorer.take_set_aside():
            self._observer.event(aside.event, task=str(aside.task_id), folder=str(aside.folder), why=aside.why)
        while (result := self._restorer.take_done()) is not None:
            task_id = result.job.task_id
            _, began_s = self._restoring.pop(task_id)
            if isinstance(result.error, FatalError):
                raise result.error
            if result.restored is None or result.store is None:
                self._name_stopped(task_id, str(result.error))
                continue
            kind = self.rules.entity_types[task_id.entity]
            task = Task(task_id, kind.topics, dead_letters_topic(kind.app), kind.rules, result.store, kind.partitions)
            self.tasks[task_id] = task
            task_calls.open_task(task, result.restored)
            self._idle.clocks.forget()
            self._flow(task)
            self._observer.restored(
                str(task_id), result.restored.records, self._monotonic_s() - began_s, result.restored.warning
            )
            self._show_tasks()
        if self._restoring:
            progress = {str(task): (job.records, job.ahead) for task, (job, _) in self._restoring.items()}
            waits_for = {str(task): job.waits_for for task, (job, _) in self._restoring.items()}
            self._observer.restoring(progress, waits_for)

    def _close_task(self, task_id: TaskId) -> None:
        if task_id in self._restoring:
            self._restoring.pop(task_id)[0].cancel()
        task = self.tasks.pop(task_id, None)
        if task is not None:
            task.close()
        self._stopped.pop(task_id, None)
        self._show_tasks()

    def _restore_all(self, error: TransactionAborted) -> None:
        """Nobody knows how far the transaction got, so the log is asked: every task restores its tail."""
        self._observer.transaction("aborted", 0.0)
        self._observer.event("transaction aborted", why=str(error))
        tasks, self.tasks = self.tasks, {}
        for task_id, task in tasks.items():
            self._consumer.pause(self.rules.inputs_of(task_id))
            self._restore(task_id, task.store)
        self._back_off.pause()

    def _stop_task(self, error: TaskStopped) -> None:
        """Nothing was committed: the failed task is taken out, the others read their batch again."""
        task = self.tasks.pop(error.task)
        self._consumer.pause(self.rules.inputs_of(error.task))
        task.close()
        self._name_stopped(error.task, str(error), error.goes_on_ms)
        self._read_again()

    def _rebuild(self, error: TaskCorrupted) -> None:
        """Its store is damaged: the task restores another one. Whatever it had committed is on the log."""
        task = self.tasks.pop(error.task)
        self._consumer.pause(self.rules.inputs_of(error.task))
        task.close()
        self._restore(error.task, None, str(error))

    def _read_again(self) -> None:
        """Nothing was committed of what was polled last: every task forgets it, and reads it once more."""
        self._observer.transaction("aborted", 0.0)
        for task in self.tasks.values():
            task.discard()
            self._flow(task)

    def _name_stopped(self, task_id: TaskId, why: str, goes_on_ms: float = inf) -> None:
        self._stopped[task_id] = goes_on_ms
        self._observer.event("task stopped", task=str(task_id), why=why)
        self._show_tasks()

    def _join_again(self, error: TaskMigrated) -> None:
        """Drop everything of the old membership, and come back as a new member, or wait outside the group.

        Raises:
            SettingsError: another gate of our name is in our place.
        """
        self._observer.transaction("migrated", 0.0)
        self._observer.event("joining the group again" if self.rules.inputs else "out of the group", why=str(error))
        for task_id in [*self.tasks, *self._restoring]:
            self._close_task(task_id)
        self._stopped.clear()
        self._consumer.close_in_time(_LEAVE_TIMEOUT_S)
        self._producer.abandon()
        self._namesake.look(self._consumer.member_id(), fenced=isinstance(error, ProducerFenced))
        self._back_off.pause()
        self._consumer = self._make_consumer()

    def _report(self, ready: list[tuple[Task, list[ConsumerRecord]]], clock_ms: int, duration_s: float) -> None:
        self._back_off.succeeded()
        self._observer.transaction("committed", duration_s)
        for task, _ in ready:
            waited_s = max(0.0, (clock_ms - task.oldest_at) / 1000 + duration_s)
            self._observer.decided(*task.task_id, task.counts, waited_s, task.overdue_ms)

    def _show_tasks(self) -> None:
        self._observer.schema_waits(self._unknown.told)
        self._observer.tasks(task_calls.phases_of(self.tasks, self._unknown.told, self._restoring, self._stopped))

    def _close(self) -> None:
        for task_id in [*self.tasks, *self._restoring]:
            self._close_task(task_id)
        self._restorer.close()
        self._producer.abandon()
        self._consumer.close_in_time(_CLOSE_TIMEOUT_S)
        self.rules.close()
