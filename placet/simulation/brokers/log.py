"""One partition's log: records, control markers, aborted transactions, high watermark and last stable offset.

Sources: Kafka's message format v2 (idempotence, control records), KIP-98 (transactions), KIP-101 (leader epochs).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from confluent_kafka import KafkaError

__all__ = ["ABORT", "COMMIT", "Entry", "PartitionLog", "Piece", "ProducerBatch"]

COMMIT: Final = "commit"
ABORT: Final = "abort"
_OFFSET: Final = attrgetter("offset")
_TIME: Final = attrgetter("timestamp")
_BATCHES_KEPT: Final = 5
"""Of each producer: a batch that is sent again is recognised among them."""


class Entry:
    """A record or a marker as it lies on the log.

    Attributes:
        marker: `COMMIT` or `ABORT`; "" for a record.
        aborted: whether the record's transaction was aborted.
        batch: first sequence, count and first offset of the batch that it came in.
        transactional: whether it is part of a transaction.
        transaction: the number of that transaction, of all that its producer had. Checkers see it, no reader does.
    """

    __slots__ = (
        "aborted", "batch", "epoch", "headers", "key", "marker", "offset", "producer_id", "timestamp", "transaction",
        "transactional", "value",
    )  # fmt: skip

    def __init__(
        self,
        offset: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | None,
        producer_id: int,
        epoch: int,
        marker: str = "",
    ) -> None:
        self.offset = offset
        self.timestamp = timestamp
        self.key = key
        self.value = value
        self.headers = headers
        self.producer_id = producer_id
        self.epoch = epoch
        self.marker = marker
        self.aborted = False
        self.transactional = bool(marker)
        self.transaction = 0
        self.batch = (-1, 0, offset)


class Piece(NamedTuple):
    """A record to append: key, value, headers."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] | None


class ProducerBatch(NamedTuple):
    """What a producer appends to one partition at once. `sequence` numbers its first record, -1 without idempotence."""

    producer_id: int
    epoch: int
    sequence: int
    transactional: bool
    pieces: Sequence[Piece]


class _ProducerState:
    """What a partition knows of one producer: its epoch, its last batches, and its open transaction."""

    __slots__ = ("batches", "epoch", "first", "written")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches: list[tuple[int, int, int]] = []  # first sequence, count, offset
        self.first = -1  # offset of its open transaction's first record
        self.written: list[Entry] = []

    def take(self, written: list[Entry]) -> None:
        """Take note of a batch."""
        self.batches = [*self.batches[1 - _BATCHES_KEPT :], written[0].batch]
        if written[0].transactional:
            if self.first < 0:
                self.first = written[0].offset
            self.written += written


class PartitionLog:
    """A partition as its leader has it. All of it is replicated as soon as the high watermark says so.

    Attributes:
        entries: records and markers in the order of their offsets, which may have holes where the cleaner was.
        start: the first offset that is held.
        end: the next offset to give.
        high_watermark: what all replicas in sync have lies below it.
        changed: is called when there may be more to read, once.
        removed: what retention and the cleaner took. Checkers see it, no reader does.
        losses: counts new leaders that had less than the one before.
    """

    def __init__(self, topic: str, number: int) -> None:
        self.topic = topic
        self.number = number
        self.entries: list[Entry] = []
        self.start = 0
        self.end = 0
        self.high_watermark = 0
        self.changed: list[Callable[[], None]] = []
        self.removed: list[Entry] = []
        self.losses = 0
        self._producers: dict[int, _ProducerState] = {}
        self._held: list[int] = []  # from where on nothing is stable yet
        self._unreplicated: list[int] = []  # first offsets of transactions whose markers not all replicas have

    # -- writing -------------------------------------------------------------------------------------------------------

    def append(self, batch: ProducerBatch, timestamp: int, transaction: int = 0) -> int:
        """Append a batch, or recognise one that lies here already.

        Returns:
            The first record's offset; where the batch is refused, the code of Kafka's error, which is above zero,
            as a negative number less one.
        """
        if batch.producer_id < 0:
            return self._write(batch, timestamp, 0)[0].offset
        state = self._producers.get(batch.producer_id)
        if state is None:
            state = self._producers[batch.producer_id] = _ProducerState(batch.epoch)
        if batch.epoch < state.epoch:
            return -1 - int(KafkaError.INVALID_PRODUCER_EPOCH)
        if batch.epoch > state.epoch:
            state.epoch, state.batches = batch.epoch, []
        for sequence, count, offset in state.batches:
            if (sequence, count) == (batch.sequence, len(batch.pieces)):
                return offset
        expected = state.batches[-1][0] + state.batches[-1][1] if state.batches else 0
        if batch.sequence != expected:
            return -1 - int(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
        written = self._write(batch, timestamp, transaction)
        state.take(written)
        return written[0].offset

    def has_open(self, producer_id: int) -> bool:
        """Tell whether a producer has a transaction open here."""
        state = self._producers.get(producer_id)
        return state is not None and state.first >= 0

    def mark(self, producer_id: int, epoch: int, marker: str, timestamp: int) -> int:
        """Append a marker: the transaction that a producer has open here has ended. It fences the epochs below.

        Returns:
            The marker's offset.
        """
        first = self._producers[producer_id].first if producer_id in self._producers else -1
        entry = Entry(self._take_offset(), timestamp, None, None, None, producer_id, epoch, marker)
        self.entries.append(entry)
        if first >= 0:
            self._unreplicated.append(first)
        self._know_end(entry)
        return entry.offset

    def replicate(self) -> None:
        """Let all replicas in sync have everything."""
        if self.high_watermark != self.end:
            self.high_watermark = self.end
            self._unreplicated.clear()
            self._tell_of_change()

    def hold(self) -> None:
        """Keep what comes from now on from readers of committed records, as an open transaction does."""
        self._held = self._held or [self.end]

    def release(self) -> None:
        """Let them read it."""
        self._held.clear()
        self._tell_of_change()

    def lose_unreplicated(self) -> None:
        """Go on as a new leader that has nothing beyond the high watermark."""
        kept = [entry for entry in self.entries if entry.offset < self.high_watermark]
        self.entries, self.end = [], self.high_watermark
        self.losses += 1
        self._producers.clear()
        self._unreplicated.clear()
        # What the cleaner took is known from snapshots of the producers' states.
        for entry in sorted([*self.removed, *kept], key=_OFFSET):
            if entry.marker:
                self._know_end(entry)
            elif entry.producer_id >= 0:
                entry.aborted = False
                self._know_record(entry)
        self.entries = kept

    def _tell_of_change(self) -> None:
        changed, self.changed = self.changed, []
        for call in changed:
            call()

    def _know_record(self, entry: Entry) -> None:
        state = self._producers.setdefault(entry.producer_id, _ProducerState(entry.epoch))
        if entry.epoch > state.epoch:
            state.epoch, state.batches = entry.epoch, []
        if not state.batches or state.batches[-1] != entry.batch:
            state.take([entry])
        elif state.first >= 0:
            state.written.append(entry)

    def _know_end(self, marker: Entry) -> None:
        state = self._producers.setdefault(marker.producer_id, _ProducerState(marker.epoch))
        if marker.epoch > state.epoch:
            state.epoch, state.batches = marker.epoch, []
        for entry in state.written:
            entry.aborted = marker.marker == ABORT
        state.first, state.written = -1, []

    def _write(self, batch: ProducerBatch, timestamp: int, transaction: int) -> list[Entry]:
        written = [
            Entry(self._take_offset(), timestamp, piece.key, piece.value, piece.headers, batch.producer_id, batch.epoch)
            for piece in batch.pieces
        ]
        for entry in written:
            entry.batch = (batch.sequence, len(written), written[0].offset)
            entry.transactional, entry.transaction = batch.transactional, transaction
        self.entries += written
        return written

    def _take_offset(self) -> int:
        self.end += 1
        return self.end - 1

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def last_stable_offset(self) -> int:
        """Below it every transaction has ended, and that is replicated."""
        open_at = [state.first for state in self._producers.values() if state.first >= 0]
        return min([self.high_watermark, *open_at, *self._unreplicated, *self._held])

    def history(self) -> list[Entry]:
        """Return all records that were ever committed, those that were removed since among them."""
        everything = sorted([*self.removed, *self.entries], key=_OFFSET) if self.removed else self.entries
        stable = self.last_stable_offset
        return [entry for entry in everything if not _is_dead(entry) and entry.offset < stable]

    def read(self, position: int, count: int, *, committed: bool) -> tuple[list[Entry], int, bool]:
        """Read records from a position on.

        Args:
            position: the first offset.
            count: most records.
            committed: leave out what is not committed, as far as that is known.

        Returns:
            The records, where to read on, and whether that is the end.
        """
        limit = self.last_stable_offset if committed else self.high_watermark
        found: list[Entry] = []
        index = bisect_left(self.entries, position, key=_OFFSET)
        while index < len(self.entries) and len(found) < count:
            entry = self.entries[index]
            if entry.offset >= limit:
                break
            if not entry.marker and not (committed and entry.aborted):
                found.append(entry)
            position = entry.offset + 1
            index += 1
        if index >= len(self.entries) or self.entries[index].offset >= limit:
            position = max(position, limit)
        return found, position, position >= limit

    def newest(self) -> int:
        """Return the offset of the first record or marker with the latest time, -1 without any (KIP-734)."""
        return max(self.entries, key=_TIME).offset if self.entries else -1

    # -- what time does ------------------------------------------------------------------------------------------------

    def cut_start(self, to: int) -> None:
        """Remove everything below an offset, as retention does, or a person."""
        self.start = max(self.start, min(to, self.high_watermark))
        count = bisect_left(self.entries, self.start, key=_OFFSET)
        self.removed += self.entries[:count]
        del self.entries[:count]

    def forget_producers(self) -> None:
        """Forget producers that wrote nothing for long, `producer.id.expiration.ms`: all without a transaction."""
        self._producers = {number: state for number, state in self._producers.items() if state.first >= 0}

    def compact(self, *, before_ms: int, tombstones_before_ms: int) -> None:
        """Let the cleaner pass: of each key only the last record stays. Nothing that is not stable is touched.

        Args:
            before_ms: what was appended later is too young, `min.compaction.lag.ms`.
            tombstones_before_ms: older tombstones go, `delete.retention.ms`.
        """
        stable = self.last_stable_offset
        old = [entry for entry in self.entries if entry.offset < stable and entry.timestamp < before_ms]
        # What was written last lies in a segment that is still open, which no cleaner touches, committed or not.
        limit = min(old[-1].offset + 1, self._last_written()) if old else 0
        last = {entry.key: entry.offset for entry in self.entries if entry.offset < limit and not _is_dead(entry)}
        kept: list[Entry] = []
        for entry in self.entries:
            stays = entry.offset >= limit or (not _is_dead(entry) and last[entry.key] == entry.offset)
            if entry.offset < limit and entry.value is None and entry.timestamp < tombstones_before_ms:
                stays = False
            (kept if stays else self.removed).append(entry)
        self.entries = kept

    def _last_written(self) -> int:
        """Return the first offset of what was appended last: a batch, or a transaction with its marker."""
        if not self.entries:
            return 0
        last = self.entries[-1]
        first = last.offset
        for entry in reversed(self.entries[:-1]):
            if entry.producer_id != last.producer_id or entry.marker or not last.marker:
                break
            first = entry.offset
        return first


def _is_dead(entry: Entry) -> bool:
    return entry.aborted or bool(entry.marker)
