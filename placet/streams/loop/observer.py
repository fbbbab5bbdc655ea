"""Who is told what a gate does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from placet.streams.loop.task import Counts
from placet.streams.topology import TaskId

__all__ = ["Observer", "SchemaWait"]


class SchemaWait(NamedTuple):
    """What the next input of a task waits for, though it was asked for.

    Attributes:
        schema: a registry's id, or a fingerprint.
        since_ms: ms since the epoch.
        why: who does not answer, or with what.
    """

    schema: str
    since_ms: int
    why: str


class Observer(Protocol):
    """Who is told what happens: metrics and log. Called once per batch or less, never per record."""

    def decided(
        self, entity: str, partition: int, counts: Counts, end_to_end_s: float, overdue_ms: Sequence[int]
    ) -> None:
        """A task's batch was committed; `overdue_ms`: of each timer among it, how long it was due."""

    def transaction(self, result: str, duration_s: float) -> None:
        """A transaction ended: committed, aborted or migrated."""

    def tasks(self, phases: dict[str, str]) -> None:
        """The tasks of this instance and their phases changed."""

    def schema_waits(self, waits: Mapping[str, SchemaWait]) -> None:
        """These tasks wait for a schema to which no answer comes; all others don't."""

    def restored(self, task: str, records: int, duration_s: float, warning: str) -> None:
        """A task was restored."""

    def restoring(self, progress: dict[str, tuple[int, int | None]], waits_for: dict[str, str]) -> None:
        """Of each task that is restored: records read so far, offsets still ahead (None: not known yet), and what it
        waits for, "" for nothing that is known."""

    def lag(self, records: Mapping[tuple[str, int], int]) -> None:
        """How many inputs wait, by topic and partition."""

    def next_due(self, at_ms: Mapping[TaskId, int]) -> None:
        """When the next timer is due, ms since the epoch, of each task that has any."""

    def event(self, name: str, **details: object) -> None:
        """Something that an operator wants to read about. From any thread."""

    def looped(self) -> None:
        """The loop came around."""

    def awake(self) -> None:
        """Something takes its time before the loop runs, and goes on."""

    def rules(self, entity: str, version: int, digest: bytes) -> None:
        """The gate decides an entity type by another version of its definition from the next transaction on."""

    def can_not_run(self, why: Mapping[str, str], *, outside: bool) -> None:
        """These entity types, each with the reason, are left to others: their rules in force can't be run here. Where
        that leaves none, the gate waits outside the group."""

    def unfit_topics(self, faults: Mapping[str, int]) -> None:
        """So many settings of these topics are not as a start demands them; all other topics are as they must be."""

    def partitions(self, entity: str, count: int) -> None:
        """The topics of this entity type have so many partitions."""
