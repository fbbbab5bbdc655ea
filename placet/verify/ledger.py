"""The ledger's part of a check: does each commit link to the one before, and say what its transaction holds? Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Final

from placet.schemas.ledger import Commit, Genesis, Windows
from placet.streams.records import ConsumerRecord
from placet.verify.decisions import RerunStep
from placet.verify.records import RecordedEntry, RecordedTransaction
from placet.verify.report import Check, TaskReport
from placet.verify.values import shown

__all__ = ["Chain", "differing_entries", "wrong_in_commit"]


_KEYS: Final[dict[type, bytes]] = {Genesis: b"genesis", Windows: b"windows", Commit: b"commit"}


class Chain:
    """Follows the commits of one ledger.

    Args:
        report: takes what does not link.
        topic_ids: ids of these topics and of the control topic as they are now; none are compared when it is empty.
        partitions: how many partitions they have.
        uncompacted_since: what was appended from this time on must be there, ms since the epoch.
    """

    def __init__(
        self, report: TaskReport, topic_ids: Mapping[str, str], partitions: int, uncompacted_since: int
    ) -> None:
        self.last: Commit | None = None
        self._last_at = -1
        self._report = report
        self._topic_ids = topic_ids
        self._partitions = partitions
        self._uncompacted_since = uncompacted_since

    def take(self, transaction: RecordedTransaction) -> None:
        """Check the commit of the next transaction against the last one held, and the genesis where it is."""
        commits, begins = [], False
        for record, entry in transaction.entries:
            key = _KEYS.get(type(entry), record.key)
            if record.key != key:
                self._report.find(Check.CHAIN, record, f"its key is {record.key!r:.100}, not {key!r}")
            if isinstance(entry, Genesis):
                begins = entry.memory_since > 0
                self._check_genesis(record, entry)
            elif isinstance(entry, Commit):
                commits.append((record, entry))
        for record, _ in commits[1:]:
            self._report.find(Check.CHAIN, record, f"transaction {transaction} has a second commit")
        if commits:
            self._link(*commits[0], begins=begins)

    def _link(self, record: ConsumerRecord, commit: Commit, *, begins: bool) -> None:
        """Check a commit. `begins`: the ledger begins with its transaction, behind a copy of a changelog maybe."""
        before, held_since = self.last, self._last_at
        self.last, self._last_at = commit, record.timestamp
        if before is None:
            gap, wrong = commit.sequence != 1 and not begins, []
        else:
            gap = commit.sequence != before.sequence + 1
            wrong = list(_wrong_links(before, commit, gap=gap))
        # What is missing is younger than the record before the gap.
        if gap and held_since >= self._uncompacted_since:
            first = before.sequence + 1 if before else 1
            wrong.append(f"commits {first} to {commit.sequence - 1} are missing, and compaction did not take them")
        if wrong:
            self._report.find(Check.CHAIN, record, f"commit {commit.task_epoch}/{commit.sequence}: {'; '.join(wrong)}")

    def _check_genesis(self, record: ConsumerRecord, genesis: Genesis) -> None:
        if self._last_at < 0:
            self._last_at = record.timestamp
        wrong = [
            f"{topic} was created anew: its id is {self._topic_ids[topic]}, the ledger knows {topic_id}"
            for topic, topic_id in genesis.topic_ids.items()
            if self._topic_ids.get(topic, topic_id) != topic_id
        ]
        if genesis.partitions != self._partitions:
            wrong.append(f"the topics have {self._partitions} partitions, the ledger knows {genesis.partitions}")
        for sentence in wrong:
            self._report.find(Check.CHAIN, record, f"genesis: {sentence}")


def _wrong_links(before: Commit, commit: Commit, *, gap: bool) -> Iterator[str]:
    if commit.task_epoch < before.task_epoch:
        yield f"its epoch is below {before.task_epoch}"
    for name in ("log_time", "decided_at", "watermark"):
        if getattr(commit, name) < getattr(before, name):
            yield f"its {name} {getattr(commit, name)} is before {getattr(before, name)}"
    if not gap and commit.previous != before.digest:
        yield f"it follows a commit of digest {commit.previous.hex()}, the one before it has {before.digest.hex()}"
    ends = {span.topic: span.end for span in before.spans}
    for span in commit.spans:
        if span.end < span.start:
            yield f"it takes {span.topic} from {span.start} to {span.end}"
        end = ends.get(span.topic, span.start)
        if span.start < end or (not gap and span.start != end):
            yield f"it takes {span.topic} from {span.start}, the one before it ended at {end}"


def wrong_in_commit(
    commit: Commit,
    steps: Sequence[RerunStep],
    counted: Iterable[tuple[bytes, bytes]] | None,
    watermark: int,
    log_time: int,
) -> Iterator[str]:
    """Say what a commit tells wrong of its transaction.

    Args:
        commit: the ledger's record.
        steps: the decisions that belong to it.
        counted: key and value of what its digest covers, in order; None where compaction may have taken some of it.
        watermark: the re-run's after it.
        log_time: the one before it.
    """
    expected: dict[str, object] = {
        "decisions": len(steps),
        "changes": sum(step.recorded.decision.changed for step in steps),
        "watermark": watermark,
    }
    if counted is not None:
        digest = blake2b(digest_size=16)
        for key, value in counted:
            digest.update(key)
            digest.update(value)
        expected["digest"] = digest.digest()
    ends = {step.recorded.at.topic: step.recorded.at.offset + 1 for step in steps}
    for span in commit.spans:
        if span.end != ends.get(span.topic, span.start):
            yield f"it takes {span.topic} to {span.end}, its decisions reach to {ends.get(span.topic, span.start)}"
    if steps:
        last = steps[-1].recorded.at
        names = ("log_time", "decided_at", "control_position", "definition_digest")
        expected |= {name: getattr(last, name) for name in names}
    elif commit.log_time < log_time:
        yield f"log_time {commit.log_time} is before {log_time}"
    for name, due in expected.items():
        found = getattr(commit, name)
        if found != due:
            yield f"{name} is {shown(found)}, its records give {shown(due)}"


def differing_entries(
    expected: list[tuple[bytes, bytes]], recorded: list[RecordedEntry]
) -> tuple[list[tuple[bytes, bytes]], list[RecordedEntry]]:
    """Compare a transaction's entries besides the commit with what they should be, in order.

    Returns:
        What is missing, and what should not be there.
    """
    missing: list[tuple[bytes, bytes]] = []
    strays: list[RecordedEntry] = []
    position = 0
    for found in recorded:
        pair = (found.record.key or b"", found.record.value or b"")
        try:
            at = expected.index(pair, position)
        except ValueError:
            strays.append(found)
        else:
            missing += expected[position:at]
            position = at + 1
    return missing + expected[position:], strays
