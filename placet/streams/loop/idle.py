"""Idle tasks: those whose input partitions are read to their ends, as the brokers say when they are asked now.

A transaction without inputs moves log time on, and log time must never pass an input that waits. The ends that the
consumer knows are no proof: they may be from an earlier ownership. So the brokers are asked, and nobody waits for their
answer: a broker that is away delays the housekeeping of its own partitions, and nothing else.

Nobody can read a record before all replicas in sync have it, and while a follower is away that takes until it is given
up: nine seconds and more. Such a record has its time already. So the leaders are asked for the record appended last
too: they name none that can't be read yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Final, NamedTuple, Protocol

from placet.streams.loop.due_timers import NEVER
from placet.streams.loop.task import Task
from placet.streams.loop.task_calls import needs_housekeeping
from placet.streams.records import TopicPartition
from placet.streams.topology import TaskId

__all__ = ["IdleQuestion", "Leaders"]

_MOMENT_MS: Final = 1_000
_ASK_AGAIN_MS: Final = 100
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


class IdleQuestion:
    """One question at a time about the ends of the tasks that have something to do without inputs.

    Args:
        leaders: are asked.
        clock: the machine's clock, ms since the epoch.
        clock_skew_max_ms: how far it may be off the brokers'.
    """

    def __init__(self, leaders: Leaders, clock: Callable[[], int], clock_skew_max_ms: int) -> None:
        self._log_time = 0
        self._leaders = leaders
        self._clock = clock
        self._clock_skew_max_ms = clock_skew_max_ms
        self._asked: dict[TopicPartition, _Asked] = {}
        self._asked_ms = self._at_ms = 0

    def ask(self, tasks: Iterable[Task]) -> None:
        """Ask for the ends of the tasks in which something expires or is due. An earlier question is forgotten.

        Raises:
            TaskCorrupted: a task's store is damaged.
        """
        # Before the question: what is appended after the answer is not older, by the clock of any broker.
        now_ms = self._clock()
        self._at_ms, self._asked_ms = now_ms, now_ms - self._clock_skew_max_ms
        at_ms = self._asked_ms
        due = [task for task in tasks if task.timers.wants_ends(at_ms) or needs_housekeeping(task, at_ms)]
        partitions = [partition for task in due for partition in _positions(task)]
        leaders = self._leaders
        starts, ends = leaders.ask_starts(partitions), leaders.ask_ends(partitions)
        newest = leaders.ask_newest(partitions)
        self._asked = {at: _Asked(starts[at], ends[at], newest[at]) for at in partitions}

    def ask_in_time(self, tasks: Iterable[Task]) -> None:
        """Ask at once where a timer is due, unless that was asked just now. It costs a look at each task."""
        now_ms = self._clock()
        at_ms, since_ms = now_ms - self._clock_skew_max_ms, now_ms - self._at_ms
        if not self._asked and not 0 <= since_ms < _ASK_AGAIN_MS:
            due = [task for task in tasks if task.timers.wants_ends(at_ms)]
            if due:
                self.ask(due)

    def wait_ms(self, tasks: Iterable[Task], most_ms: int) -> int:
        """Return how long nothing is to be asked: until the next timer is due, or an answer may be there."""
        if self._asked:
            return min(most_ms, _LOOK_AGAIN_MS)
        next_due = min((task.timers.next_due for task in tasks), default=NEVER)
        return max(_LOOK_AGAIN_MS, min(most_ms, next_due + self._clock_skew_max_ms - self._clock() + 1))

    def take_idle(self, tasks: Iterable[Task], reached: Callable[[TopicPartition, int], int]) -> set[TaskId]:
        """Return the tasks that are read to the ends asked for, once all brokers have answered; none until then.

        Args:
            tasks: those that run.
            reached: tells how far a partition is read, given the position behind its last record.

        Returns:
            The idle tasks. Their log time may move on, see `log_time`.
        """
        if not self._asked or not all(asked.done() for asked in self._asked.values()):
            return set()
        asked, self._asked, self._log_time = self._asked, {}, self._asked_ms
        ends = {partition: end for partition, one in asked.items() if (end := one.read_to()) is not None}
        idle = set()
        for task in tasks:
            read = {at for at, position in _positions(task).items() if at in ends and reached(at, position) >= ends[at]}
            for partition in read:
                task.timers.read_to_end(partition.topic, self._asked_ms)
            if len(read) == len(task.positions) and not task.left:
                idle.add(task.task_id)
        return idle

    def log_time(self, clock_ms: int) -> int:
        """Return how far log time may move on in idle tasks: behind the clock as it was asked, and as it is.

        A clock that was ahead when the leaders were asked, and is set right since, would let it pass inputs to come: a
        transaction that commits only proves that the clock is right now.
        """
        return min(self._log_time, clock_ms - self._clock_skew_max_ms)

    def log_time_max(self, clock_ms: int) -> int:
        """Return the latest time at which an input can have been appended.

        This clock may be behind the leader's to which the last commit went, and that one behind the input's leader.
        """
        return clock_ms + 2 * self._clock_skew_max_ms + _MOMENT_MS


def _positions(task: Task) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, task.task_id.partition): at for topic, at in task.next_positions.items()}
