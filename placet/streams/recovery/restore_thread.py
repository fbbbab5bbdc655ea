"""Restores tasks beside the loop, several at a time: a thread of its own, so that running tasks and polling go on.

A store belongs to one owner at a time: the job hands it over, the result hands it back. A damaged or foreign folder is
set aside, never deleted, and rebuilt from the log; one that is damaged again soon after stops its task by name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from placet.schemas.errors import PlacetError
from placet.streams.entity_type import EntityType
from placet.streams.errors import FatalError, LogBehind, LogUnreachable, TaskCorrupted, TaskStopped
from placet.streams.records import TopicPartition
from placet.streams.recovery.log import RestoreLog
from placet.streams.recovery.restore import WAITS_FOR_ROOM, restore
from placet.streams.recovery.set_aside import Aside, SetAside
from placet.streams.recovery.steps import Restoration, Restored, RestoreStep, Steps
from placet.streams.runtime import Inbox, Runtime
from placet.streams.state.disk import Disk
from placet.streams.state.layout import StateFormat
from placet.streams.state.store import StateStore, StoreDamaged, StoreLocked
from placet.streams.topology import TaskId

__all__ = ["RESTORE_CALL_TIMEOUT_S", "Job", "RestoreResult", "Restorer"]

RESTORE_CALL_TIMEOUT_S: Final = 2.0
"""Within this time each question of a restore is answered, or has to be asked again."""
_READING_MAX: Final = 4
"""How many restores read at a time: each fills lists in memory. Those that only ask or wait are not counted."""
_TICK_S: Final = 0.005
_LOOK_EVERY_S: Final = 60.0  # for folders that no task uses, where there is nothing to restore
_RETRY_AFTER_S: Final = 0.5
_BEHIND_S: Final = 10.0  # for a deposed leader to hear of it, or for clients to hear of its successor
_RULES_WITHIN_S: Final = 5.0  # the loop looks at the rules once a second
_PATIENCE_S: Final = 2.0  # with a restore that gets nothing to read, while others wait for its room


class Job:
    """A task to restore. `store` is handed over when the task had one already.

    `damage` says what was wrong with the store that the task has just closed: its folder is set aside first.
    """

    def __init__(
        self, task_id: TaskId, entity_type: EntityType, store: StateStore | None = None, damage: str = ""
    ) -> None:
        self.task_id = task_id
        self.entity_type = entity_type
        self.store = store
        self.damage = damage
        self.cancelled = False
        self.records = 0
        self.ahead: int | None = None  # offsets still to go; None while nobody knows
        self.waits_for = ""
        self.not_before_s = 0.0  # when the next step is due

    def take_note(self, progress: RestoreStep, now_s: float) -> None:
        """Take note of a step, for those who look on."""
        self.records += progress.read
        self.ahead = self.ahead if progress.ahead is None else progress.ahead
        self.waits_for = progress.waits_for or ""
        self.not_before_s = now_s + progress.pause_s

    def cancel(self) -> None:
        """Give it up; its store is closed, unless the result was taken already."""
        self.cancelled = True


class RestoreResult(NamedTuple):
    """A finished job: what to start from and its store, or why not; the store is closed then."""

    job: Job
    restored: Restored | None
    store: StateStore | None
    error: PlacetError | None = None


class Restorer:
    """A thread that takes a step of each job in turn: what keeps one of them waiting keeps no other one.

    Args:
        runtime: clocks, and the thread.
        disk: where the stores are.
        make_log: makes the reading side; called in the thread, for each run of jobs and again after it broke. Clients
            that had been kept would go on asking leaders of long ago.
        state_dir: the folder of all stores: `<state_dir>/<app>/<entity>/<partition>`.
        control: the topic of rules.
        rules_position: how far the loop has read it.
        remove_unused: removes folders that no task uses, where that is due, and returns them; called in the thread.
    """

    def __init__(
        self,
        runtime: Runtime,
        disk: Disk,
        make_log: Callable[[], RestoreLog],
        state_dir: Path,
        control: TopicPartition | None = None,
        rules_position: Callable[[], int] = lambda: 0,
        remove_unused: Callable[[], list[Aside]] = list,
    ) -> None:
        self._runtime = runtime
        self._disk = disk
        self._make_log = make_log
        self._state_dir = state_dir
        self._control = control
        self._rules_position = rules_position
        self._remove_unused = remove_unused
        self._inbox: Inbox[Job | str] = runtime.inbox()
        self._done: deque[RestoreResult] = deque()
        self._set_aside = SetAside(disk, runtime.monotonic_s)
        self._log: RestoreLog | None = None  # this and what follows is the thread's own
        self._reading: set[TaskId] = set()
        self._crowded = False  # somebody waits for room to read
        self._thread = runtime.spawn("restorer", self._run)

    def submit(self, job: Job) -> None:
        """Queue a job."""
        if self._thread.is_alive():
            self._inbox.put(job)
        else:
            self._done.append(RestoreResult(job, None, None, _no_thread("it has ended")))

    def take_done(self) -> RestoreResult | None:
        """Return the next finished job, None without any; those given up meanwhile are closed here.

        One at a time: whoever fails with it has not taken the others, and can still cancel them.
        """
        while self._done:
            done = self._done.popleft()
            if not done.job.cancelled:
                return done
            if done.store is not None:
                done.store.close()
        return None

    def take_set_aside(self) -> list[Aside]:
        """Return the folders set aside or removed since the last call."""
        return self._set_aside.take()

    def close(self) -> None:
        """Give up everything and end the thread."""
        self._inbox.put("close")
        self._thread.join(10.0)
        while (done := self.take_done()) is not None:
            if done.store is not None:
                done.store.close()

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        jobs: dict[Job, Steps[RestoreResult]] = {}
        try:
            self._take_turns(jobs)
        except Exception as error:
            failure = _no_thread(f"{type(error).__name__}: {error}")
            self._done.extend(RestoreResult(job, None, None, failure) for job in jobs)
            raise
        for job, steps in jobs.items():
            job.cancel()
            self._step(job, steps)
        self._close_log()

    def _take_turns(self, jobs: dict[Job, Steps[RestoreResult]]) -> None:
        """Step jobs, those given and those that come, until told to close."""
        while True:
            self._set_aside.add(self._remove_unused())
            order = self._inbox.get(0.0 if jobs else _LOOK_EVERY_S)
            while isinstance(order, Job):
                jobs[order] = self._steps(order)
                order = self._inbox.get(0.0)
            if order is not None:
                return
            moved = self._step_each(jobs)
            if not jobs or (self._log is not None and self._log.broken):
                self._close_log()
            if self._log is not None:
                self._log.poll()
            if jobs and not moved:
                self._runtime.sleep(_TICK_S)

    def _step_each(self, jobs: dict[Job, Steps[RestoreResult]]) -> bool:
        """Take a step of each job, in the order in which they came; return whether one of them moved."""
        moved, self._crowded = False, any(job.waits_for == WAITS_FOR_ROOM for job in jobs)
        for job, steps in list(jobs.items()):
            now_s = self._runtime.monotonic_s()
            if now_s < job.not_before_s and not job.cancelled:
                continue
            progress = self._step(job, steps)
            if progress is None:
                del jobs[job]
            else:
                job.take_note(progress, now_s)
            moved = moved or progress is None or progress.waits_for is None
        return moved

    def _step(self, job: Job, steps: Steps[RestoreResult]) -> RestoreStep | None:
        """Take one step; None when the job has ended: its result is among those done, unless it was cancelled."""
        result = None
        try:
            if not job.cancelled:
                return next(steps)
            steps.close()
            if job.store is not None:  # not begun
                job.store.close()
        except StopIteration as done:
            result = done.value
        except PlacetError as error:
            result = RestoreResult(job, None, None, error)
        except Exception as error:  # noqa: BLE001 - the thread's top: a bug stops this task by name, not all restores
            result = RestoreResult(job, None, None, TaskStopped(job.task_id, f"{type(error).__name__}: {error}"))
        if result is not None:
            self._done.append(result)
        return None

    def _steps(self, job: Job) -> Steps[RestoreResult]:
        """All of a job: open the store, restore, and begin again as often as the log or the store calls for it."""
        if job.damage:
            self._set_aside.damaged(job.task_id, self._folder(job), job.damage)
        store, job.store = job.store, None
        while True:
            store = store or (yield from self._open(job))
            try:
                return RestoreResult(job, (yield from self._restore(job, store)), store)
            except (TaskCorrupted, StoreDamaged) as error:
                store.close()
                if job.cancelled:
                    raise
                self._put_aside(job, error)
                store = None
            except BaseException:
                store.close()  # or whoever restores this task next waits for its lock
                raise

    def _restore(self, job: Job, store: StateStore) -> Steps[Restored]:
        """Restore, again and again until the log can be read."""
        behind_since_s = None
        while True:
            try:
                return (yield from self._restore_once(job, store))
            except LogUnreachable as error:
                why = str(error)
            except LogBehind as error:
                now_s = self._runtime.monotonic_s()
                behind_since_s = behind_since_s or now_s
                if now_s - behind_since_s > _BEHIND_S:
                    raise
                why = str(error)
            yield RestoreStep(waits_for=why, pause_s=_RETRY_AFTER_S)

    def _restore_once(self, job: Job, store: StateStore) -> Steps[Restored]:
        """Restore from the log of this moment.

        Raises:
            LogUnreachable: it can't be asked or read, or gives nothing to read while others wait for the room.
        """
        log = self._log = self._log or self._make_log()
        steps, moved_at_s = restore(self._restoration(job, store), log), self._runtime.monotonic_s()
        try:
            while True:
                if self._log is not log:  # closed, with the questions that wait: nobody answers them any more
                    raise LogUnreachable("what it was read with broke")
                progress = next(steps)
                now_s = self._runtime.monotonic_s()
                if progress.waits_for is None or job.task_id not in self._reading:
                    moved_at_s = now_s
                elif self._crowded and now_s - moved_at_s > _PATIENCE_S:
                    raise LogUnreachable(f"nothing to read came in {_PATIENCE_S:g} s, and other restores go first")
                yield progress
        except StopIteration as done:
            restored: Restored = done.value
            return restored
        finally:
            steps.close()
            self._reading.discard(job.task_id)

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def _restoration(self, job: Job, store: StateStore) -> Restoration:
        rules_until_s = 0.0

        def may_read() -> bool:
            if len(self._reading) >= _READING_MAX:
                return False
            self._reading.add(job.task_id)
            return True

        def rules_known(end: int) -> bool:
            """Wait for the loop, which follows the rules, but not for ever: what is unknown is named when it is met."""
            nonlocal rules_until_s
            now_s = self._runtime.monotonic_s()
            rules_until_s = rules_until_s or now_s + _RULES_WITHIN_S
            return self._rules_position() >= end or now_s > rules_until_s

        kind = job.entity_type
        codec = kind.rules.codec
        form = StateFormat(codec, kind.rules.machine.decimal_fields)
        return Restoration(
            job.task_id, kind.topics, kind.topic_ids, kind.partitions, codec, form, store, self._runtime.now_ms(),
            may_read, self._control, rules_known, lambda position: self._rules_position() >= position,
            self._runtime.now_ms,
        )  # fmt: skip

    def _folder(self, job: Job) -> Path:
        return self._state_dir / job.entity_type.app / job.task_id.entity / str(job.task_id.partition)

    def _put_aside(self, job: Job, error: TaskCorrupted | StoreDamaged) -> None:
        put_aside = self._set_aside.foreign if isinstance(error, TaskCorrupted) else self._set_aside.damaged
        put_aside(job.task_id, self._folder(job), str(error))

    def _open(self, job: Job) -> Steps[StateStore]:
        """Open the folder; wait for one that another process still holds; set a damaged one aside."""
        is_new = False
        while True:
            try:
                return self._disk.open_store(self._folder(job))
            except StoreDamaged as error:
                if is_new:
                    raise FatalError(f"no store can be made: {error}. Look at the disk, then start again.") from error
                self._put_aside(job, error)
                is_new = True
            except StoreLocked as error:
                yield RestoreStep(waits_for=str(error), pause_s=_RETRY_AFTER_S)


def _no_thread(why: str) -> FatalError:
    return FatalError(f"a bug ended the thread that restores: {why}. Start again; meanwhile others take over.")
