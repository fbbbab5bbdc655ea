"""Idle tasks: those whose input partitions are read to their ends, as the brokers say when they are asked now.

A transaction without inputs moves log time on, and log time must never pass an input that waits. The ends that the
consumer knows are no proof: they may be from an earlier ownership. So the brokers are asked, and nobody waits for their
answer: a broker that is away delays the housekeeping of its own partitions, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future

from placet.streams.loop.task import Task
from placet.streams.loop.task_calls import needs_housekeeping
from placet.streams.records import TopicPartition
from placet.streams.topology import TaskId

__all__ = ["AskEnds", "IdleQuestion"]

AskEnds = Callable[[Iterable[TopicPartition]], Mapping[TopicPartition, "Future[int]"]]
"""Asks for the high watermarks of partitions, and returns at once."""


class IdleQuestion:
    """One question at a time about the ends of the tasks that have something to do without inputs.

    Args:
        ask_ends: sends it.
        clock: the machine's clock, ms since the epoch.
        clock_skew_max_ms: how far it may be off the brokers'.
    """

    def __init__(self, ask_ends: AskEnds, clock: Callable[[], int], clock_skew_max_ms: int) -> None:
        self.log_time = 0
        self._ask_ends = ask_ends
        self._clock = clock
        self._clock_skew_max_ms = clock_skew_max_ms
        self._asked: Mapping[TopicPartition, Future[int]] = {}
        self._asked_ms = 0

    def ask(self, tasks: Iterable[Task]) -> None:
        """Ask for the ends of the tasks in which something expires. An earlier question is forgotten.

        Raises:
            TaskCorrupted: a task's store is damaged.
        """
        # Before the question: what is appended after the answer is not older, by the clock of any broker.
        self._asked_ms = self._clock() - self._clock_skew_max_ms
        due = [task for task in tasks if needs_housekeeping(task, self._asked_ms)]
        self._asked = self._ask_ends([partition for task in due for partition in _positions(task)])

    def take_idle(self, tasks: Iterable[Task], reached: Callable[[TopicPartition, int], int]) -> list[TaskId]:
        """Return the tasks that are read to the ends asked for, once all brokers have answered; none until then.

        Args:
            tasks: those that run.
            reached: tells how far a partition is read, given the position behind its last record.

        Returns:
            The idle tasks. Their log time may move on to `log_time`.
        """
        if not self._asked or not all(answer.done() for answer in self._asked.values()):
            return []
        asked, self._asked, self.log_time = self._asked, {}, self._asked_ms
        ends = {partition: answer.result() for partition, answer in asked.items() if answer.exception() is None}
        return [
            task.task_id
            for task in tasks
            if all(at in ends and reached(at, position) >= ends[at] for at, position in _positions(task).items())
        ]


def _positions(task: Task) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, task.task_id.partition): at for topic, at in task.positions.items()}
