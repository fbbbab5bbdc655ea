"""One task's check, transaction by transaction. Pure: records in, findings out.

    inputs, decisions ── Decisions ── one for each, legal order, re-run ─┐
    changelog ────────── Changes ──── what follows from them ────────────┼─ what each commit says of its transaction
    ledger ───────────── Chain ────── commits link ──────────────────────┘

The recorded order is checked to be legal, never to be the only one. After a difference the check goes on from what is
recorded, so that one fault is named once and not by everything that came after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from placet.processors.address import Place
from placet.processors.dedup import memory_is_live, memory_kept_ms
from placet.processors.ladder import LADDERS
from placet.processors.replay import Replay
from placet.processors.rules import Rules
from placet.schemas.errors import SettingsError
from placet.schemas.ledger import CONSEQUENCES, Commit, Counted, Genesis, Windows
from placet.schemas.memory import Memory
from placet.streams.records import ConsumerRecord
from placet.verify.changes import Changes
from placet.verify.decisions import Decisions, RerunStep
from placet.verify.ledger import Chain, differing_entries, wrong_in_commit
from placet.verify.records import RecordedTransaction
from placet.verify.report import Check, Since, TaskReport
from placet.verify.rules import PastRules
from placet.verify.scope import VerifyScope
from placet.verify.timers import Timers
from placet.verify.values import shown

__all__ = ["TaskCheck"]


class TaskCheck:
    """Checks the transactions of one task in order.

    Args:
        scope: the task, and what of it is to be looked at.
        rules: the definitions of its entity type.
        inputs: by topic, committed records from the start's position on.
        report: takes what is found.
    """

    def __init__(
        self, scope: VerifyScope, rules: PastRules, inputs: Mapping[str, Iterator[ConsumerRecord]], report: TaskReport
    ) -> None:
        self._scope = scope
        self._rules = rules
        self._report = report
        self._replay = Replay(Place(scope.task_id.partition, scope.partitions))
        self._timers = Timers(self._replay, report)
        self._decisions = Decisions(scope, rules, self._replay, self._timers, inputs, report)
        self._changes = Changes(scope, rules, self._replay, report)
        self._memories: dict[str, Memory] = {}
        self._counted_at: dict[str, int] = {}
        self._why_kept = {
            "applied": self._why_applied_kept, "memory": self._why_memory_kept, "counted": self._why_counted_kept,
        }  # fmt: skip
        self._chain = Chain(report, scope.topic_ids, scope.partitions, scope.uncompacted_since)
        start = scope.start
        if start.commit is not None:
            self._replay.watermark = start.commit.watermark
            report.since = Since(start.sequence + 1, start.commit.log_time, start.why)

    def check(self, transactions: Iterable[RecordedTransaction]) -> None:
        """Check all of them, then what is left over."""
        for transaction in transactions:
            if self._is_open(transaction):
                continue
            self._chain.take(transaction)
            if transaction.sequence <= self._scope.start.sequence:
                self._adopt(transaction)
            else:
                self._check(transaction)
        self._decisions.check_rest()
        self._timers.check_rest(self._decisions.log_time)
        self._changes.check_last_states()

    def _is_open(self, transaction: RecordedTransaction) -> bool:
        """Tell whether a transaction is younger than the positions: it may be half visible, and is left alone."""
        scope = self._scope
        if transaction.sequence <= scope.covered:
            return False
        if transaction.commit is not None:
            record, commit = transaction.commit
            unmoved = all(span.start == span.end for span in commit.spans) and record.timestamp >= scope.settled_before
            return unmoved or any(span.end > scope.positions.get(span.topic, span.end) for span in commit.spans)
        inputs = [(found.at.topic, found.at.offset) for found in transaction.decisions if found.at.topic]
        inputs += [(one.topic, one.offset) for found in transaction.changes if (one := found.change) and one.topic]
        if inputs:
            return any(offset >= scope.positions.get(topic, 0) for topic, offset in inputs)
        return transaction.newest.timestamp >= scope.settled_before

    def _adopt(self, transaction: RecordedTransaction) -> None:
        """Take what is before the start for granted: it makes the state that the re-run begins with."""
        for _, decision, at in transaction.decisions:
            self._replay.adopt_decision(decision, at, self._rules.horizon_ms(at.definition_digest))
        self._changes.adopt(transaction)
        for _, entry in transaction.entries:
            self._replay.adopt_entry(entry)
        self._note_memories(transaction)

    def _check(self, transaction: RecordedTransaction) -> None:
        """Decide a transaction again, and compare.

        Raises:
            SettingsError: it was decided by a ladder that this release does not know.
        """
        if transaction.commit is not None and transaction.commit[1].ladder not in LADDERS:
            raise SettingsError(
                f"{self._scope.topics.ledger}: transaction {transaction} was decided by ladder "
                f"{transaction.commit[1].ladder}; this release runs ladders {LADDERS[0]} to {LADDERS[-1]}. "
                "Verify with the release that decided it."
            )
        log_time = self._decisions.log_time
        self._keep_windows(transaction, log_time)
        steps = self._decisions.check(transaction)
        counted = self._changes.check(transaction, steps)
        self._check_entries(transaction, steps)
        if transaction.commit is not None:
            record, commit = transaction.commit
            # Older tombstones may be gone, and the digest covers them.
            whole = counted if record.timestamp >= self._scope.uncompacted_since else None
            wrong = list(wrong_in_commit(commit, steps, whole, self._replay.watermark, log_time))
            if wrong:
                self._report.find(Check.LEDGER, record, f"commit {transaction}: {'; '.join(wrong)}")
            self._replay.watermark = commit.watermark
            return
        newest = transaction.newest
        if newest.timestamp >= self._scope.uncompacted_since:
            self._report.find(Check.CHAIN, newest, f"the ledger holds no commit of its transaction {transaction}")

    def _keep_windows(self, transaction: RecordedTransaction, log_time: int) -> None:
        """Compare since when windows are kept; where a transaction before is not known, what is recorded counts."""
        recorded = next((found for found in transaction.entries if isinstance(found.entry, Windows)), None)
        in_force, replay = self._rules_of(transaction), self._replay
        if in_force is None or transaction.sequence != self._decisions.sequence + 1:
            if recorded is not None:
                replay.adopt_entry(recorded.entry)
            elif in_force is not None:
                replay.keep_windows(in_force, log_time + 1, 0)
            return
        since = [found.entry.memory_since for found in transaction.entries if isinstance(found.entry, Genesis)]
        others = replay.keep_windows(in_force, log_time + 1, max([*since, 0]))
        if recorded is not None and isinstance(recorded.entry, Windows):
            if not others or recorded.entry.windows != replay.windows:
                wanted = shown(replay.windows) if others else "nothing, as they are those of before"
                self._report.find(Check.LEDGER, recorded.record, f"windows of {transaction}: it should say {wanted}")
                replay.adopt_entry(recorded.entry)
        elif others and transaction.commit is not None and self._is_held(transaction.commit[0]):
            self._report.find(Check.LEDGER, transaction.commit[0], f"windows of {transaction} are missing")

    def _rules_of(self, transaction: RecordedTransaction) -> Rules | None:
        """Return the rules that a transaction was decided by: its commit names them, and each decision."""
        if transaction.commit is not None:
            record, commit = transaction.commit
            digest, position = commit.definition_digest, commit.control_position
        elif transaction.decisions:
            record, _, at = transaction.decisions[0]
            digest, position = at.definition_digest, at.control_position
        else:
            return None
        return self._rules.in_force(digest, position, (record.value or b"\xc3")[0])

    def _is_held(self, record: ConsumerRecord) -> bool:
        """Tell whether compaction can't have taken anything of a record's transaction."""
        return record.timestamp >= self._scope.uncompacted_since

    def _check_entries(self, transaction: RecordedTransaction, steps: list[RerunStep]) -> None:
        """Compare the memory that no change carries, and what the ledger deletes."""
        ledger = self._scope.topics.ledger
        due = [(one.key or b"", one.value or b"") for step in steps for one in step.follows if one.topic == ledger]
        written = [found for found in transaction.entries if isinstance(found.entry, CONSEQUENCES)]
        missing, strays = differing_entries(due, written)
        for record, _ in strays:
            self._report.find(Check.LEDGER, record, f"{_name(record.key)}: no input of {transaction} leads to it")
        if transaction.commit is not None and self._is_held(transaction.commit[0]):
            for key, _ in missing:
                self._report.find(Check.LEDGER, transaction.commit[0], f"{_name(key)} of {transaction} is missing")
        self._note_memories(transaction)
        for record, entry in transaction.entries:
            if entry is None:
                why = self._why_not_deleted(record, transaction)
                if why:
                    self._report.find(Check.TOMBSTONE, record, f"{_name(record.key)}: {why}")

    def _note_memories(self, transaction: RecordedTransaction) -> None:
        for record, entry in transaction.entries:
            if isinstance(entry, CONSEQUENCES) and entry.memory is not None:
                self._memories[_name(record.key)] = entry.memory
            elif isinstance(entry, Counted):
                self._counted_at[_name(record.key)] = entry.log_time

    def _why_not_deleted(self, record: ConsumerRecord, transaction: RecordedTransaction) -> str:
        """Say why a ledger's key may not be deleted yet; "" when it may, or when that is not known any more."""
        if transaction.commit is None or record.timestamp < self._scope.uncompacted_since:
            return ""
        key = _name(record.key)
        why_kept = self._why_kept.get(key.partition("/")[0])
        return why_kept(key, transaction.commit[1]) if why_kept else ""

    def _why_applied_kept(self, key: str, _commit: Commit) -> str:
        entity_id, _, name = key.partition("/")[2].rpartition("/")
        return "the entity is not forgotten" if name in self._replay.state(entity_id).applied else ""

    def _why_counted_kept(self, key: str, commit: Commit) -> str:
        counted_at = self._counted_at.pop(key, None)
        keep_ms = memory_kept_ms(self._rules.horizon_ms(commit.definition_digest))
        live = counted_at is not None and commit.log_time - counted_at <= keep_ms
        return "it may still count in a window" if live else ""

    def _why_memory_kept(self, key: str, commit: Commit) -> str:
        memory = self._memories.pop(key, None)
        horizon_ms = self._rules.horizon_ms(commit.definition_digest)
        live = memory is not None and memory_is_live(memory, commit.log_time, horizon_ms)
        return "the memory still counts" if live else ""


def _name(key: bytes | None) -> str:
    return (key or b"").decode("utf-8", "replace")
