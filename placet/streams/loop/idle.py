"""Idle tasks: those whose input partitions are read to their ends, as the brokers say when they are asked now.

A transaction without inputs moves log time on, and log time must never pass an input that waits. The ends that the
consumer knows are no proof: they may be from an earlier ownership. So the brokers are asked, and nobody waits for their
answer: a broker that is away delays the housekeeping of its own partitions, and nothing else.

Nobody can read a record before all replicas in sync have it, and while a follower is away that takes until it is given
up: nine seconds and more. Such a record has its time already. So the leaders are asked for the record appended last
too: they name none that can't be read yet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Set
from concurrent.futures import Future
from typing import Final, NamedTuple, Protocol

from placet.streams.loop.broker_clocks import BrokerClocks
from placet.streams.loop.due_timers import NEVER
from placet.streams.loop.task import Task
from placet.streams.loop.task_calls import needs_housekeeping
from placet.streams.records import TopicPartition
from placet.streams.topology import TaskId

__all__ = ["IdleQuestion", "Leaders"]

_MOMENT_MS: Final = 1_000
_ASK_AGAIN_S: Final = 0.1
_LOOK_AGAIN_MS: Final = 10

Answers = Mapping[TopicPartition, "Future[int]"]


class Leaders(Protocol):
    """Asks partitions' leaders, and returns at once."""

    def ask_starts(self, partitions: Iterable[TopicPartition], /) -> Answers:
        """Ask for first offsets."""
        ...

    def ask_ends(self, partitions: Iterable[TopicPartition], /) -> Answers:
        """Ask for high watermarks."""
        ...

    def ask_newest(self, partitions: Iterable[TopicPartition], /) -> Answers:
        """Ask for the records appended last; -1 for one that can't be read yet, or where there is none."""
        ...


class _Asked(NamedTuple):
    """What was asked of one partition."""

    start: Future[int]
    end: Future[int]
    newest: Future[int]

    def done(self) -> bool:
        return all(answer.done() for answer in self)

    def read_to(self) -> int | None:
        """Return how far it must be read so that nothing waits there; None where something does, or nobody knows."""
        if any(answer.exception() for answer in self):
            return None
        start, end, newest = (answer.result() for answer in self)
        if newest < 0:
            return end if start == end else None
        return max(end, newest + 1)


class _Question(NamedTuple):
    """What was asked of the partitions of one task, and when: how far log time may move on if nothing waits there."""

    at_ms: int
    slack_ms: int
    of: dict[TopicPartition, _Asked]

    def done(self) -> bool:
        return all(asked.done() for asked in self.of.values())


class IdleQuestion:
    """Questions about the ends of the tasks that have something to do without inputs, one at a time for each.

    Args:
        leaders: are asked.
        clocks: theirs.
        monotonic_s: a clock that never goes back, in seconds.
    """

    def __init__(self, leaders: Leaders, clocks: BrokerClocks, monotonic_s: Callable[[], float]) -> None:
        self.clocks = clocks
        self._leaders = leaders
        self._monotonic_s = monotonic_s
        self._asked: dict[TaskId, _Question] = {}
        self._asked_s: dict[TaskId, float] = {}
        self._idle: dict[TaskId, _Question] = {}

    def ask(self, tasks: Collection[Task]) -> None:
        """Ask for the ends of the tasks in which something expires or is due; to be called every few seconds.

        Earlier questions are forgotten.

        Raises:
            TaskCorrupted: a task's store is damaged.
        """
        if any(task.rules.machine.arming for task in tasks):
            self.clocks.look(partition for task in tasks for partition in _positions(task))
        self._asked = {}
        self._asked_s = {task.task_id: self._asked_s.get(task.task_id, 0.0) for task in tasks}
        at_ms = self.clocks.earliest_ms()
        self._ask([task for task in tasks if task.timers.wants_ends(at_ms) or needs_housekeeping(task, at_ms)], at_ms)

    def ask_in_time(self, tasks: Iterable[Task]) -> None:
        """Ask at once where a timer is due, unless that was asked just now. It costs a look at each task."""
        at_ms = self.clocks.earliest_ms()
        due = [task for task in tasks if task.timers.wants_ends(at_ms) and task.task_id not in self._asked]
        if due:
            before_s = self._monotonic_s() - _ASK_AGAIN_S
            self._ask([task for task in due if self._asked_s.get(task.task_id, 0.0) <= before_s], at_ms)

    def _ask(self, tasks: list[Task], at_ms: int) -> None:
        """Ask. What is appended after the answer is not older than a time from before the question."""
        positions = {task.task_id: [*_positions(task)] for task in tasks}
        partitions = [partition for of_task in positions.values() for partition in of_task]
        leaders = self._leaders
        starts, ends = leaders.ask_starts(partitions), leaders.ask_ends(partitions)
        newest = leaders.ask_newest(partitions)
        slack_ms, now_s = self.clocks.slack_ms, self._monotonic_s()
        for task_id, of_task in positions.items():
            asked = {at: _Asked(starts[at], ends[at], newest[at]) for at in of_task}
            self._asked[task_id], self._asked_s[task_id] = _Question(at_ms, slack_ms, asked), now_s

    def wait_ms(self, tasks: Iterable[Task], most_ms: int) -> int:
        """Return how long nothing is to be asked: until the next timer is due, or an answer may be there."""
        next_due = min((task.timers.next_due for task in tasks if task.task_id not in self._asked), default=NEVER)
        if next_due == NEVER:
            return min(most_ms, _LOOK_AGAIN_MS) if self._asked else most_ms
        wait_ms = max(_LOOK_AGAIN_MS, min(most_ms, next_due - self.clocks.earliest_ms() + 1))
        return min(wait_ms, _LOOK_AGAIN_MS) if self._asked else wait_ms

    def take_idle(self, tasks: Iterable[Task], reached: Callable[[TopicPartition, int], int]) -> Set[TaskId]:
        """Return the tasks that are read to the ends asked for, once the leaders of all of their partitions answered.

        Args:
            tasks: those that run.
            reached: tells how far a partition is read, given the position behind its last record.

        Returns:
            The idle tasks. Their log time may move on, see `log_times`.
        """
        self._idle = {}
        for task in tasks if self._asked else ():
            asked = self._asked.get(task.task_id)
            if asked is None or not asked.done():
                continue
            del self._asked[task.task_id]
            positions = _positions(task)
            ends = {partition: one.read_to() for partition, one in asked.of.items()}
            read = [at for at, end in ends.items() if end is not None and reached(at, positions[at]) >= end]
            for partition in read:
                task.timers.read_to_end(partition.topic, asked.at_ms, asked.slack_ms)
            if len(read) == len(positions) and not task.left:
                self._idle[task.task_id] = asked
        return self._idle.keys()

    def log_times(self, clock_ms: int) -> dict[TaskId, int]:
        """Return how far log time may move on in the idle tasks: behind the clock as it was asked, and as it is.

        A clock that was ahead when the leaders were asked, and is set right since, would let it pass inputs to come: a
        transaction that commits only proves that the clock is right now. Where the brokers' clocks are measured, ours
        does not count.
        """
        return {task_id: min(asked.at_ms, clock_ms - asked.slack_ms) for task_id, asked in self._idle.items()}

    def log_time_max(self, clock_ms: int) -> int:
        """Return the latest time at which an input can have been appended.

        This clock may be behind the leader's to which the last commit went, and that one behind the input's leader.
        """
        return clock_ms + 2 * self.clocks.skew_max_ms + _MOMENT_MS


def _positions(task: Task) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, task.task_id.partition): at for topic, at in task.next_positions.items()}
