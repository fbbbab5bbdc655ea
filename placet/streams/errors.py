"""Errors of the loop, named by the reaction that they call for.

PlacetError
├── TransactionAborted   nothing was committed, or nobody knows: adopt what the log says, go on
├── LogUnreachable       the brokers can't be asked at the moment: ask again
├── TaskMigrated         another member owns our partitions: drop the tasks, join again
│   └── ProducerFenced   a newer producer has our name: see who it is, then as above
├── TaskCorrupted        one task's local state is unusable: set it aside, restore from the changelog
├── TaskStopped          one task can't go on: take it out, name it, let the others go on
│   └── LogBehind        one topic lacks what another one knows of: ask again for a while, then as above
├── ClockSkew            our clock is off the broker's: stop before anything is committed
└── FatalError           the process can't go on: stop, say why
"""

from __future__ import annotations

from math import inf

from placet.schemas.errors import DecodeError, PlacetError, UnknownSchema
from placet.streams.records import TopicPartition
from placet.streams.topology import TaskId

__all__ = [
    "ClockSkew",
    "FatalError",
    "LogBehind",
    "LogUnreachable",
    "ProducerFenced",
    "TaskCorrupted",
    "TaskMigrated",
    "TaskStopped",
    "TransactionAborted",
    "unreadable",
]


class TransactionAborted(PlacetError):
    """The transaction did not commit, or its outcome is unknown.

    Reaction: throw the producer away, make a new one (its start fences or completes what the old one left), restore
    the tail of every task from the log, and read again from there. Nothing is reprocessed from memory.
    """


class LogUnreachable(PlacetError):
    """The brokers did not answer while something was read. Reaction: ask again a little later."""


class TaskMigrated(PlacetError):
    """The group moved on without us: our member epoch or our producer epoch is not the newest.

    Reaction: drop every task, throw consumer and producer away, join the group anew.
    """


class ProducerFenced(TaskMigrated):
    """Kafka takes our transactional id for a newer producer's: our own transaction took too long, or it is another's.

    Reaction: as above, but first look whether another gate of our name is in the group: then one of the two must go.
    """


class TaskCorrupted(PlacetError):
    """The local store can't be used: damaged, foreign, or ahead of the log.

    Reaction: move its folder aside, restore from changelog and ledger. Operator action: none; look at the disk.
    """

    def __init__(self, task: TaskId, why: str) -> None:
        self.task = task
        super().__init__(f"{task}: {why}")


class TaskStopped(PlacetError):
    """One task can't go on, because what is on the log contradicts itself or our code raised.

    Reaction: abort, take the task out (its partitions are paused), let the others go on. Nothing is repaired silently.
    Operator action: read the reason; run `placet verify`; start again when the cause is gone.

    Attributes:
        goes_on_ms: the time of this machine's clock at which it is begun again by itself, ms since the epoch.
    """

    def __init__(self, task: TaskId, why: str, goes_on_ms: float = inf) -> None:
        self.task = task
        self.goes_on_ms = goes_on_ms
        super().__init__(f"{task}: {why}")


class LogBehind(TaskStopped):
    """One topic lacks what another one knows of. A leader that was deposed, and has not heard of it, tells such ends.

    Reaction: ask again for a while; then as for any contradiction.
    """


class ClockSkew(PlacetError):
    """The machine's clock differs from the broker's by more than the limit.

    Reaction: abort before anything is committed and leave, so that a member with a good clock takes over: one fast
    clock must not poison a partition. Operator action: set the clock (NTP), start again.
    """


class FatalError(PlacetError):
    """The process can't go on. Reaction: stop with the reason. Operator action: mend what it names."""


def unreadable(place: TopicPartition, what: str, why: Exception | str) -> DecodeError:
    """Return the error for something on a log that this gate can't read: where it lies, what it is, what to do."""
    said = (
        f"{place.topic} partition {place.partition}: {what} can't be read: {why}. Other rules, a later release or "
        "something else wrote it: run those rules, or look at it with `placet verify`"
    )
    return why.told_as(said) if isinstance(why, UnknownSchema) else DecodeError(said)
