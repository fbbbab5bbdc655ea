"""What a verification found: differences by topic, partition and offset, and from where on it could look."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import NamedTuple

from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.topology import TaskId

__all__ = ["FINDINGS_SHOWN", "Check", "Mismatch", "Report", "Since", "TaskReport"]

FINDINGS_SHOWN = 20
"""How many findings of one task are kept by default; all are counted."""


class Check(StrEnum):
    """What can differ."""

    UNREADABLE = "unreadable record"
    LOST = "lost decision"
    DOUBLED = "doubled decision"
    STRAY = "decision without input"
    ORDER = "illegal order"
    DECISION = "decision differs"
    UNCAUSED = "change without accepted decision"
    MISSING = "missing change"
    VERSION = "version gap"
    CHANGE = "change differs"
    TOMBSTONE = "illegal tombstone"
    STATE = "state differs"
    CHAIN = "broken ledger chain"
    LEDGER = "ledger differs"
    POSITION = "position differs"


class Mismatch(NamedTuple):
    """One difference, and the record at which it shows."""

    check: Check
    topic: str
    partition: int
    offset: int
    text: str

    def __str__(self) -> str:
        return f"{self.check.value} at {self.topic} partition {self.partition} offset {self.offset}: {self.text}"


class Since(NamedTuple):
    """The point from which a task was checked.

    Attributes:
        sequence: of the first transaction checked.
        log_time: ms since the epoch; 0 where it is the beginning.
        why: what is missing before; "" where it is the beginning.
    """

    sequence: int = 1
    log_time: int = 0
    why: str = ""


class TaskReport:
    """What came out for one task. Only the first findings are kept.

    Args:
        task_id: entity type and partition.
        shown: how many findings to keep.
    """

    def __init__(self, task_id: TaskId, shown: int = FINDINGS_SHOWN) -> None:
        self.task_id = task_id
        self.since = Since()
        self.inputs = 0
        self.decisions = 0
        self.changes = 0
        self.findings: list[Mismatch] = []
        self.counts: Counter[Check] = Counter()
        self.warnings: list[str] = []
        self._shown = shown

    @property
    def differences(self) -> int:
        """How many findings there are, those not kept included."""
        return self.counts.total()

    def find(self, check: Check, at: ConsumerRecord, text: str) -> None:
        """Note a difference at a record."""
        self.find_at(check, TopicPartition(at.topic, at.partition), at.offset, text)

    def find_at(self, check: Check, at: TopicPartition, offset: int, text: str) -> None:
        """Note a difference at a place."""
        self.counts[check] += 1
        if len(self.findings) < self._shown:
            self.findings.append(Mismatch(check, *at, offset, text))


class Report(NamedTuple):
    """What came out for all tasks, in the order in which they were checked."""

    tasks: list[TaskReport]

    @property
    def differences(self) -> int:
        """How many findings there are."""
        return sum(task.differences for task in self.tasks)

    @property
    def first(self) -> Mismatch | None:
        """The first difference found."""
        return next((finding for task in self.tasks for finding in task.findings), None)
