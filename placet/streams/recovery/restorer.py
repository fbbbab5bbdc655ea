"""Restores tasks beside the loop: a thread with a consumer of its own, so that running tasks go on and polling too.

A store belongs to one owner at a time: the job hands it over, the result hands it back. A damaged or foreign folder is
set aside, never deleted, and rebuilt from the log; one that is damaged again soon after stops its task by name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock
from typing import NamedTuple, Protocol

from placet.schemas.errors import PlacetError
from placet.streams.entity_type import EntityType
from placet.streams.errors import FatalError, LogUnreachable, TaskCorrupted, TaskStopped
from placet.streams.records import TopicPartition
from placet.streams.recovery.restore import Log, Restoration, Restored, restore
from placet.streams.recovery.set_aside import Aside, SetAside
from placet.streams.runtime import Runtime
from placet.streams.state.disk import Disk
from placet.streams.state.layout import StateFormat
from placet.streams.state.store import StateStore, StoreDamaged, StoreLocked
from placet.streams.topology import TaskId

__all__ = ["RESTORE_CALL_TIMEOUT_S", "Job", "RestoreResult", "Restorer"]

RESTORE_CALL_TIMEOUT_S = 2.0
"""Limit of each call of a restore: the others wait for their turn meanwhile."""
_RETRY_AFTER_S = 0.5
_RULES_WITHIN_S = 5.0  # the loop looks at the rules once a second
_LOOK_EVERY_S = 0.02
_PATIENCE_S = 2.0  # with a job that gets nothing to read, while others wait


class Job:
    """A task to restore. `store` is handed over when the task had one already. `cancel` ends the job early.

    `damage` says what was wrong with the store that the task has just closed: its folder is set aside first.
    """

    def __init__(
        self, task_id: TaskId, entity_type: EntityType, store: StateStore | None = None, damage: str = ""
    ) -> None:
        self.task_id = task_id
        self.entity_type = entity_type
        self.store = store
        self.damage = damage
        self.cancelled = Event()
        self.records = 0
        self.ahead: int | None = None  # offsets still to go; None while nobody knows
        self.waits_for = ""

    @property
    def partitions(self) -> list[TopicPartition]:
        """What a restore reads or asks about."""
        topics = self.entity_type.topics
        return [
            TopicPartition(topic, self.task_id.partition) for topic in (topics.changelog, topics.ledger, *topics.inputs)
        ]


class RestoreLog(Log, Protocol):
    """A log of which it can be known, without waiting, whether a restore would wait for a broker."""

    def unreachable(self, partitions: list[TopicPartition]) -> str:
        """Say which of the partitions' leaders do not answer at the moment, and why; "" when all do."""
        ...


class RestoreResult(NamedTuple):
    """A finished job: what to start from and its store, or why not; the store is closed then."""

    job: Job
    restored: Restored | None
    store: StateStore | None
    error: PlacetError | None = None


class Restorer:
    """One thread that takes jobs in turn, so that the first task is ready early.

    A job that gets nothing to read, for want of a transaction's end or of a partition's leader, lets the others go
    first: a broker that is away keeps only those waiting whose partitions it leads.

    Args:
        runtime: a clock, and the thread.
        disk: where the stores are.
        make_log: makes the reading side; called in the thread, for each run of jobs and again after it broke. Clients
            that had been kept would go on asking leaders of long ago.
        state_dir: where the stores are: `<state_dir>/<app>/<entity>/<partition>`.
        control: the topic of rules.
        rules_position: how far the loop has read it.
    """

    def __init__(
        self,
        runtime: Runtime,
        disk: Disk,
        make_log: Callable[[], RestoreLog],
        state_dir: Path,
        control: TopicPartition | None = None,
        rules_position: Callable[[], int] = lambda: 0,
    ) -> None:
        self._make_log = make_log
        self._state_dir = state_dir
        self._runtime = runtime
        self._disk = disk
        self._control = control
        self._rules = [control] if control else []
        self._rules_position = rules_position
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._done: deque[RestoreResult] = deque()
        self._pending: dict[TaskId, Job] = {}
        self._lock = Lock()
        self._log: RestoreLog | None = None  # the thread's own
        self._set_aside = SetAside(disk, runtime.monotonic_s)
        self._thread = runtime.spawn("restorer", self._run)

    def submit(self, job: Job) -> None:
        """Queue a job."""
        with self._lock:
            self._pending[job.task_id] = job
        self._jobs.put(job)

    def cancel(self, task_id: TaskId) -> None:
        """Give a job up; its store is closed, unless it was done already."""
        with self._lock:
            job = self._pending.pop(task_id, None)
        if job is not None:
            job.cancelled.set()

    def take_done(self) -> RestoreResult | None:
        """Return the next finished job, None without any; those given up meanwhile are closed here.

        One at a time: whoever fails with it has not taken the others, and can still cancel them.
        """
        while self._done:
            done = self._done.popleft()
            if not done.job.cancelled.is_set():
                with self._lock:
                    self._pending.pop(done.job.task_id, None)
                return done
            if done.store is not None:
                done.store.close()
        return None

    def take_set_aside(self) -> list[Aside]:
        """Return the folders set aside since the last call."""
        return self._set_aside.take()

    def close(self) -> None:
        """Give up everything and end the thread."""
        with self._lock:
            for job in self._pending.values():
                job.cancelled.set()
            self._jobs.put(None)
        self._thread.join(10)
        self.take_done()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                result = RestoreResult(job, *self._restore(job))
                if result.restored is None and self._put_back(result):
                    continue
            except PlacetError as error:
                result = RestoreResult(job, None, None, error)
            except Exception as error:  # noqa: BLE001 - the thread's top: a bug stops this task by name, not all restores
                result = RestoreResult(job, None, None, TaskStopped(job.task_id, f"{type(error).__name__}: {error}"))
            self._done.append(result)
        self._close_log()

    def _next(self) -> Job | None:
        if self._jobs.empty():
            self._close_log()
        return self._jobs.get()

    def _restore(self, job: Job) -> tuple[Restored | None, StateStore | None]:
        if job.cancelled.is_set():
            return None, job.store
        if job.damage:
            self._set_aside.damaged(job.task_id, self._folder(job), job.damage)
            job.damage = ""
        store = job.store or self._open(job)
        while store is not None:
            try:
                self._log = self._log or self._make_log()
                job.waits_for = self._log.unreachable([*job.partitions, *self._rules])
                if job.waits_for:
                    job.cancelled.wait(_LOOK_EVERY_S)
                    return None, store
                return restore(self._restoration(job, store), self._log), store
            except TaskCorrupted as error:
                store.close()
                self._set_aside.foreign(job.task_id, self._folder(job), str(error))
                store = self._open(job)
            except StoreDamaged as error:
                store.close()
                self._set_aside.damaged(job.task_id, self._folder(job), str(error))
                store = self._open(job)
            except LogUnreachable as error:
                job.waits_for = str(error)
                job.cancelled.wait(_RETRY_AFTER_S)
                self._close_log()
                return None, store
            except BaseException:
                store.close()  # or whoever restores this task next waits for its lock
                raise
        return None, None

    def _put_back(self, result: RestoreResult) -> bool:
        """Let a job wait for its next turn, store in hand. False: it was given up."""
        with self._lock:
            if result.job.cancelled.is_set():
                return False
            result.job.store = result.store
            self._jobs.put(result.job)
            return True

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def _restoration(self, job: Job, store: StateStore) -> Restoration:
        moved_at_s = self._runtime.monotonic_s()

        def on_progress(read: int, ahead: int | None) -> bool:
            nonlocal moved_at_s
            job.records += read
            job.ahead = ahead
            if read:
                moved_at_s = self._runtime.monotonic_s()
            stands_still = self._runtime.monotonic_s() - moved_at_s > _PATIENCE_S
            return not job.cancelled.is_set() and (not stands_still or self._jobs.empty())

        def rules_known(end: int) -> bool:
            """Wait for the loop, which follows the rules, but not for ever: what is unknown is named when it is met."""
            deadline_s = self._runtime.monotonic_s() + _RULES_WITHIN_S
            while self._rules_position() < end and self._runtime.monotonic_s() < deadline_s:
                if job.cancelled.wait(_LOOK_EVERY_S):
                    return False
            return True

        kind = job.entity_type
        form = StateFormat(kind.codec, kind.machine.decimal_fields)
        return Restoration(
            job.task_id, kind.topics, kind.topic_ids, kind.partitions, kind.codec, form, store, self._runtime.now_ms(),
            on_progress, self._control, rules_known,
        )  # fmt: skip

    def _folder(self, job: Job) -> Path:
        return self._state_dir / job.entity_type.app / job.task_id.entity / str(job.task_id.partition)

    def _open(self, job: Job) -> StateStore | None:
        """Open the folder; wait for one that another process still holds; set a damaged one aside."""
        folder = self._folder(job)
        is_new = False
        while not job.cancelled.is_set():
            try:
                return self._disk.open_store(folder)
            except StoreDamaged as error:
                if is_new:
                    raise FatalError(f"no store can be made: {error}. Look at the disk, then start again.") from error
                self._set_aside.damaged(job.task_id, folder, str(error))
                is_new = True
            except StoreLocked as error:
                job.waits_for = str(error)
                job.cancelled.wait(_RETRY_AFTER_S if self._jobs.empty() else _LOOK_EVERY_S)
                return None
        return None
