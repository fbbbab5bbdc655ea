"""The ledger as a restore reads it: memory for the store, and commits that have to follow from each other."""

from __future__ import annotations

from placet.processors.ladder import LADDER
from placet.schemas.errors import DecodeError
from placet.schemas.ledger import Commit, Genesis
from placet.streams.errors import TaskStopped
from placet.streams.records import ConsumerRecord
from placet.streams.recovery.contradictions import other_partitions, was_made_anew
from placet.streams.recovery.remembered import Remembered
from placet.streams.recovery.steps import Restoration, RestoreStep, unreadable_record
from placet.streams.state import layout

__all__ = ["LedgerChain"]


class LedgerChain:
    """Reads the ledger to its end: memory goes into the store, commits are checked link by link.

    What is applied to a state counts only on top of all changes that came before it. So the ledger's position is kept
    last, once changelog and ledger agree (`keep`): a restore that was given up reads its part of the ledger again.

    Attributes:
        last: the newest commit.
        changed: the newest transaction with changes among those that were read here.
        changed_at: when it was decided, ms since the epoch.
        seen_genesis: whether the genesis was met, here or by an earlier restore.
    """

    def __init__(self, job: Restoration, end: int) -> None:
        self.records = 0
        self.changed = self.changed_at = 0
        data = job.store.get(layout.COMMIT)
        self.last: Commit | None = layout.commit_from_bytes(data) if data else None
        self.seen_genesis = self.last is not None
        self._end = end
        self._position = 0
        self._job = job

    def take(self, records: list[ConsumerRecord], position: int) -> RestoreStep:
        """Take the next records; `position` is the next one to read."""
        job = self._job
        remembered = Remembered(job)
        for record in records:
            key = record.key or b""
            if record.value is None:
                remembered.delete(key)
                continue
            try:
                entry = job.codec.decode_ledger(record.value)
            except DecodeError as error:
                raise unreadable_record(job, record, error) from error
            if isinstance(entry, Commit):
                self._link(entry, record.offset)
            elif isinstance(entry, Genesis):
                self._check_genesis(entry)
            else:
                remembered.take(entry, key)
        job.store.write(remembered.writes)
        self.records += len(records)
        self._position = position
        return RestoreStep(len(records), self._end - position)

    def keep(self) -> None:
        """Keep how far the ledger was read. The next restore goes on from there."""
        if self.last and self._position:
            writes = layout.position_writes({self._job.topics.ledger: self._position})
            self._job.store.write({**writes, layout.COMMIT: layout.commit_to_bytes(self.last)})

    def _link(self, entry: Commit, offset: int) -> None:
        if entry.ladder > LADDER:
            raise TaskStopped(
                self._job.task_id,
                f"{self._job.topics.ledger} at offset {offset}: transaction {entry.sequence} was decided by ladder "
                f"{entry.ladder}, this release runs ladder {LADDER}: run the release that wrote it, or a later one",
            )
        last, self.last = self.last, entry
        if entry.changes:
            self.changed, self.changed_at = entry.sequence, entry.decided_at
        if last is None or entry.sequence == last.sequence:
            return
        wrong = ""
        if entry.sequence < last.sequence or entry.task_epoch < last.task_epoch:
            wrong = f"commit {entry.task_epoch}/{entry.sequence} follows {last.task_epoch}/{last.sequence}"
        elif entry.sequence == last.sequence + 1 and (
            entry.previous != last.digest or any(a.end != b.start for a, b in zip(last.spans, entry.spans, strict=True))
        ):
            wrong = f"commit {entry.sequence} does not link to the one before it"
        if wrong:
            raise TaskStopped(self._job.task_id, f"{self._job.topics.ledger} at offset {offset}: {wrong}")

    def _check_genesis(self, entry: Genesis) -> None:
        self.seen_genesis = True
        for topic, topic_id in entry.topic_ids.items():
            now = self._job.topic_ids.get(topic)
            if now != topic_id:
                raise TaskStopped(self._job.task_id, was_made_anew(topic, now, topic_id, "the ledger"))
        if entry.partitions != self._job.partitions:
            wrong = other_partitions("the topics have", self._job.partitions, entry.partitions, "the ledger")
            raise TaskStopped(self._job.task_id, wrong)
