"""Records as they were written, brought together again by transaction.

    decisions ─┐
    changelog ─┼─ decode ─ group by transaction ─ merge in order of sequence ──► Transaction, Transaction, …
    ledger    ─┘

A record that stands where its transaction can't be is found here, named, and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, TypeAlias, TypeVar

from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Coordinates, Decision
from placet.schemas.errors import DecodeError
from placet.schemas.ledger import Commit, Genesis, LedgerEntry
from placet.schemas.state import Change
from placet.streams.records import ConsumerRecord
from placet.streams.state.tombstone import tombstone_of
from placet.verify.report import Check, TaskReport

__all__ = ["Lane", "RecordedChange", "RecordedDecision", "RecordedEntry", "RecordedTransaction", "transactions"]

Key: TypeAlias = tuple[int, int]
"""What orders transactions: sequence, task epoch."""

Item = TypeVar("Item")
Group: TypeAlias = tuple[Key, list[Item]]


class RecordedDecision(NamedTuple):
    """A decision as it was read."""

    record: ConsumerRecord
    decision: Decision
    at: Coordinates


class RecordedChange(NamedTuple):
    """A change as it was read; `change` is None for a tombstone. `version` is the entity's last one."""

    record: ConsumerRecord
    change: Change | None
    version: int

    @property
    def entity_id(self) -> str:
        """The entity, by the record's key."""
        return (self.record.key or b"").decode("utf-8", "replace")


class RecordedEntry(NamedTuple):
    """A ledger entry as it was read; `entry` is None where a key was deleted."""

    record: ConsumerRecord
    entry: LedgerEntry | None


@dataclass(slots=True)
class RecordedTransaction:
    """All records of one transaction, topic by topic in the order of the log; `commit` is its record in the ledger."""

    sequence: int
    task_epoch: int
    decisions: list[RecordedDecision] = field(default_factory=list)
    changes: list[RecordedChange] = field(default_factory=list)
    entries: list[RecordedEntry] = field(default_factory=list)
    commit: tuple[ConsumerRecord, Commit] | None = None

    def __str__(self) -> str:
        return f"{self.task_epoch}/{self.sequence}"

    @property
    def newest(self) -> ConsumerRecord:
        """The record that was appended last."""
        records = [found.record for found in self.decisions]
        records += [found.record for found in self.changes]
        records += [found.record for found in self.entries]
        return max(records, key=attrgetter("timestamp"))


class Lane:
    """One input topic, read on from offset to offset. `position` is the next one that nobody asked for."""

    def __init__(self, records: Iterator[ConsumerRecord], position: int = 0) -> None:
        self.position = position
        self._records = records
        self._next = next(records, None)

    @property
    def next_record(self) -> ConsumerRecord | None:
        """The record at `position` or behind it, still to be asked for."""
        return self._next

    def skip_to(self, offset: int) -> Iterator[ConsumerRecord]:
        """Yield the records below an offset: nobody asked for them."""
        while self._next is not None and self._next.offset < offset:
            yield self._pop(self._next)

    def take(self, offset: int) -> ConsumerRecord | None:
        """Return the record at an offset, if that is the next one."""
        if self._next is None or self._next.offset != offset:
            return None
        return self._pop(self._next)

    def _pop(self, record: ConsumerRecord) -> ConsumerRecord:
        self.position = record.offset + 1
        self._next = next(self._records, None)
        return record


def transactions(
    decisions: Iterable[ConsumerRecord],
    changes: Iterable[ConsumerRecord],
    ledger: Iterable[ConsumerRecord],
    codec: Codec,
    report: TaskReport,
) -> Iterator[RecordedTransaction]:
    """Bring the records of one partition's three output topics together, one transaction at a time.

    Args:
        decisions: in the order of the log, as are
        changes: and
        ledger: each is read only as far as needed.
        codec: reads all of them.
        report: takes what can't be read, and what stands where its transaction can't be.
    """
    streams: tuple[Iterator[Group[Any]], ...] = (
        _in_order(_grouped(_decisions(decisions, codec, report)), _finder(report, Check.DOUBLED, Check.STRAY)),
        _in_order(_grouped(_changes(changes, codec, report)), _finder(report, Check.UNCAUSED, Check.UNCAUSED)),
        _in_order(_grouped(_entries(ledger, codec, report)), _finder(report, Check.CHAIN, Check.CHAIN)),
    )
    tagged = [_tagged(stream, number) for number, stream in enumerate(streams)]
    for (sequence, task_epoch), parts in groupby(merge(*tagged, key=itemgetter(0)), key=itemgetter(0)):
        found = RecordedTransaction(sequence, task_epoch)
        for _, number, items in parts:
            (found.decisions, found.changes, found.entries)[number].extend(items)
        commits = ((record, entry) for record, entry in found.entries if isinstance(entry, Commit))
        found.commit = next(commits, None)
        yield found


def _tagged(stream: Iterator[Group[Any]], number: int) -> Iterator[tuple[Key, int, list[Any]]]:
    return ((key, number, items) for key, items in stream)


def _decisions(
    records: Iterable[ConsumerRecord], codec: Codec, report: TaskReport
) -> Iterator[tuple[Key, RecordedDecision]]:
    for record in records:
        try:
            decision, at = codec.decode_decision(record.value or b"")
        except DecodeError as error:
            report.find(Check.UNREADABLE, record, str(error))
        else:
            yield (at.sequence, at.task_epoch), RecordedDecision(record, decision, at)


def _changes(
    records: Iterable[ConsumerRecord], codec: Codec, report: TaskReport
) -> Iterator[tuple[Key, RecordedChange]]:
    for record in records:
        try:
            if record.value is None:
                yield _tombstone(record)
            else:
                change = codec.decode_change(record.value, record.headers)
                yield (change.sequence, change.task_epoch), RecordedChange(record, change, change.state.version)
        except DecodeError as error:
            report.find(Check.UNREADABLE, record, str(error))


def _tombstone(record: ConsumerRecord) -> tuple[Key, RecordedChange]:
    told = tombstone_of(record.headers)
    return (told.sequence, told.task_epoch), RecordedChange(record, None, told.version)


def _entries(
    records: Iterable[ConsumerRecord], codec: Codec, report: TaskReport
) -> Iterator[tuple[Key, RecordedEntry]]:
    """What names no transaction belongs to that of the record after it: the commit comes last."""
    waiting: list[RecordedEntry] = []
    for record in records:
        try:
            entry = None if record.value is None else codec.decode_ledger(record.value)
        except DecodeError as error:
            report.find(Check.UNREADABLE, record, str(error))
            continue
        waiting.append(RecordedEntry(record, entry))
        if entry is not None and not isinstance(entry, Genesis):
            for found in waiting:
                yield (entry.sequence, entry.task_epoch), found
            waiting = []


def _grouped(items: Iterable[tuple[Key, Item]]) -> Iterator[Group[Item]]:
    for key, group in groupby(items, key=itemgetter(0)):
        yield key, [item for _, item in group]


def _in_order(groups: Iterator[Group[Item]], find: Callable[[list[Item], Key, Key], None]) -> Iterator[Group[Item]]:
    """Pass on groups in rising order; one that steps back, or that jumps ahead of what follows, goes to `find`."""
    key: Key = (0, 0)
    items: list[Item] = []
    current = next(groups, None)
    while current is not None:
        following = next(groups, None)
        jumps = following is not None and key <= following[0] < current[0]
        if current[0] < key or current[0][0] < 1 or jumps:
            find(current[1], current[0], key)
        elif current[0] == key:
            items += current[1]
        else:
            if items:
                yield key, items
            key, items = current
        current = following
    if items:
        yield key, items


def _finder(report: TaskReport, back: Check, ahead: Check) -> Callable[[list[Item], Key, Key], None]:
    def find(items: list[Item], key: Key, last: Key) -> None:
        for item in items:
            record: ConsumerRecord = item[0]  # type: ignore[index]  # all are recorded tuples
            report.find(
                back if key < last else ahead,
                record,
                f"it names transaction {key[1]}/{key[0]}, but stands after a record of {last[1]}/{last[0]}",
            )

    return find
