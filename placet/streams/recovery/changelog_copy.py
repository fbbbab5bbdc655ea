"""The changelog's part of a restore: its records become the store's values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from placet.schemas.errors import DecodeError
from placet.streams.records import ConsumerRecord
from placet.streams.recovery.steps import Restoration, RestoreStep, unreadable_record
from placet.streams.state import layout
from placet.streams.state.store import Writes
from placet.streams.state.tombstone import tombstone_of

__all__ = ["UNKNOWN", "ChangelogCopy"]

UNKNOWN: Final = (1 << 64) - 1
"""A sequence where the changelog's last record can't be read here."""


class ChangelogCopy:
    """Copies a part of the changelog into the store, undecoded.

    Attributes:
        records: how many were copied.
        changed: the transaction of the last one, 0 without any, `UNKNOWN` where it can't be read.

    Args:
        job: the restore.
        changed: what is in the store of before.
        offsets: the part.
        beyond: so much of the ledger is still to read.
        write: takes values for the store.
    """

    def __init__(
        self, job: Restoration, changed: int, offsets: range, beyond: int, write: Callable[[Writes], None]
    ) -> None:
        self.records = 0
        self.changed = changed
        self._next = 0
        self._write = write
        self._job = job
        self._offsets = offsets
        self._end = offsets.stop + beyond

    def take(self, records: list[ConsumerRecord], position: int) -> RestoreStep:
        """Copy records; `position` is behind them.

        Raises:
            TaskStopped: one of them is no record of a gate.
        """
        job = self._job
        writes: dict[bytes, bytes | None] = {}
        try:
            for record in records:
                entity = record.key or b""
                if record.value is None:
                    writes[b"s" + entity] = None
                    writes[layout.deleted_key(entity)] = None
                else:
                    layout.keep_change(writes, entity, record.value, record.headers or [], record.offset)
        except (IndexError, TypeError) as error:
            raise unreadable_record(job, record, error) from error
        if records:
            self._next = records[-1].offset + 1
            self.changed = self._sequence_of(records[-1])
            writes[layout.CHANGED] = layout.dump_log_time(self.changed)
        writes.update(layout.position_writes({job.topics.changelog: position}))
        self._write(writes)
        self.records += len(records)
        return RestoreStep(len(records), self._end - position)

    @property
    def gap(self) -> bool:
        """Whether more was behind the last record than the marker of its transaction; only of a copy from the start."""
        return self.is_whole and self._offsets.stop > self._next + 1

    @property
    def is_whole(self) -> bool:
        """Whether it is a copy from the start."""
        return self._offsets.start == 0

    def _sequence_of(self, record: ConsumerRecord) -> int:
        try:
            if record.value is None:
                return tombstone_of(record.headers).sequence
            return self._job.codec.decode_change(record.value, record.headers).sequence
        except DecodeError:
            return UNKNOWN  # it is named when somebody needs it
