"""Changes against decisions: each follows from an accepted one, byte for byte, and the last one stands. Pure."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, TypeAlias

from placet.processors.replay import Replay
from placet.schemas.errors import DecodeError
from placet.schemas.state import ABSENT, Change
from placet.streams.records import ConsumerRecord
from placet.verify.decisions import RerunStep
from placet.verify.records import RecordedChange, RecordedTransaction
from placet.verify.report import Check, TaskReport
from placet.verify.rules import PastRules
from placet.verify.scope import VerifyScope
from placet.verify.values import differing

__all__ = ["Changes"]

_ANY_TIME: Final = 2**63

_Cause: TypeAlias = tuple[str, int, str, str]


class Changes:
    """Walks along the changelog.

    Args:
        scope: the task, and what of it is to be looked at.
        rules: the definitions of its entity type.
        replay: the re-run.
        report: takes what is found.
    """

    def __init__(self, scope: VerifyScope, rules: PastRules, replay: Replay, report: TaskReport) -> None:
        self._scope = scope
        self._rules = rules
        self._replay = replay
        self._report = report
        self._wrong_last: dict[str, ConsumerRecord] = {}
        self._missing_last: dict[str, RerunStep] = {}

    def adopt(self, transaction: RecordedTransaction) -> None:
        """Take the changes before the start for granted."""
        for recorded in transaction.changes:
            if recorded.change is None:
                self._replay.forget(recorded.entity_id)
            else:
                self._adopt(recorded.record, recorded.change)
                self._replay.adopt_memory(recorded.change, self._rules.horizon_ms(recorded.change.definition_digest))

    def check(self, transaction: RecordedTransaction, steps: list[RerunStep]) -> list[tuple[bytes, bytes]]:
        """Check a transaction's changes and tombstones.

        Returns:
            What the commit's digest covers: key and value of each change and decision, in the recorded order.
        """
        written = self._by_input(transaction)
        counted: list[tuple[bytes, bytes]] = []
        last_offset = -1
        for step in steps:
            at = step.recorded.at
            cause = _cause(at.topic, at.offset, step.recorded.decision.entity_id, step.recorded.decision.input_id)
            record, change = written.pop(cause, (None, None))
            if record is not None and change is not None:
                if record.offset < last_offset:
                    self._report.find(Check.ORDER, record, "it stands after a change that was decided later")
                last_offset = max(last_offset, record.offset)
                self._compare(record, change, step)
                counted.append((record.key or b"", record.value or b""))
            else:
                self._find_missing(step)
                if step.change is not None:
                    counted.append((step.change.key or b"", step.change.value or b""))
            counted.append((step.recorded.record.key or b"", step.recorded.record.value or b""))
        for record, change in written.values():
            self._uncaused(record, change, f"transaction {transaction} has no decision on its input")
        for recorded in transaction.changes:
            if recorded.change is None:
                self._check_tombstone(transaction, recorded)
                counted.append((recorded.record.key or b"", b""))
        self._report.changes += len(transaction.changes)
        return counted

    def check_last_states(self) -> None:
        """Find the entities whose last record is not what the re-run ends with: what readers of the changelog see."""
        for entity_id, record in self._wrong_last.items():
            self._report.find(Check.STATE, record, f"for readers {entity_id!r} ends with this, which no re-run gives")
        for entity_id, step in self._missing_last.items():
            state = self._replay.state(entity_id)
            if state.status != ABSENT:  # else its tombstone took it away, and went too
                sentence = f"version {state.version} of {entity_id!r} follows from it, and is not in the changelog"
                self._report.find(Check.STATE, step.recorded.record, sentence)

    def _by_input(self, transaction: RecordedTransaction) -> dict[_Cause, tuple[ConsumerRecord, Change]]:
        written: dict[_Cause, tuple[ConsumerRecord, Change]] = {}
        for record, change, _ in transaction.changes:
            if change is None:
                continue
            key = _cause(change.topic, change.offset, change.entity_id, change.input_id)
            if key in written:
                self._uncaused(
                    record, change, f"the decision on its input has another change, at offset {written[key][0].offset}"
                )
            else:
                written[key] = (record, change)
        return written

    def _compare(self, record: ConsumerRecord, change: Change, step: RerunStep) -> None:
        decision = step.recorded.decision
        due = step.change
        self._missing_last.pop(change.entity_id, None)
        if not decision.changed:
            self._uncaused(record, change, f"the decision on its input is {decision.outcome.name}, without a change")
        elif change.state.version != decision.version_after:
            said = f"version {change.state.version}; its decision leads from {decision.version_before}"
            self._differ(Check.VERSION, record, change, f"{said} to {decision.version_after}")
        elif due is not None and (record.key, record.value, record.headers) != (due.key, due.value, due.headers):
            self._differ(Check.CHANGE, record, change, _difference(record, step))
        elif due is None:  # the decision is found already, or could not be run again
            self._adopt(record, change)
        else:
            self._wrong_last.pop(change.entity_id, None)

    def _find_missing(self, step: RerunStep) -> None:
        record, decision, _ = step.recorded
        if not decision.changed:
            return  # that is the decision's fault, and was found there
        if record.timestamp >= self._scope.uncompacted_since:
            sentence = f"version {decision.version_after} of {decision.entity_id!r} is not in the changelog"
            self._report.find(Check.MISSING, record, sentence)
        else:  # compaction may have taken it, if another one came after it
            self._missing_last[decision.entity_id] = step

    def _uncaused(self, record: ConsumerRecord, change: Change, why: str) -> None:
        self._differ(Check.UNCAUSED, record, change, f"version {change.state.version} of {change.entity_id!r}: {why}")

    def _differ(self, check: Check, record: ConsumerRecord, change: Change, text: str) -> None:
        """Note a difference, and go on from what is recorded."""
        self._report.find(check, record, text)
        self._wrong_last[change.entity_id] = record
        self._adopt(record, change)

    def _adopt(self, record: ConsumerRecord, change: Change) -> None:
        own = self._rules.reader(change.definition_digest)
        if own is not self._rules.reader():
            with suppress(DecodeError):  # it names rules that did not write it, and is found as what it is
                change = own.decode_change(record.value or b"", record.headers)
        self._replay.adopt_change(change)

    def _check_tombstone(self, transaction: RecordedTransaction, recorded: RecordedChange) -> None:
        """Check that an entity could be forgotten, and forget it."""
        entity_id, commit = recorded.entity_id, transaction.commit
        log_time = commit[1].log_time if commit else _ANY_TIME
        horizon_ms = self._rules.horizon_ms(commit[1].definition_digest if commit else b"")
        why = self._replay.why_not_forgotten(entity_id, log_time, horizon_ms)
        version = self._replay.state(entity_id).version
        if not why and recorded.version != version:
            why = f"it names version {recorded.version}, the entity is at {version}"
        if why:
            self._report.find(Check.TOMBSTONE, recorded.record, f"{entity_id!r}: {why}")
        self._replay.forget(entity_id)
        self._wrong_last.pop(entity_id, None)
        self._missing_last.pop(entity_id, None)


def _cause(topic: str, offset: int, entity_id: str, input_id: str) -> _Cause:
    """Return what names an input: where it lies; of a timer, which lies nowhere, its entity and its id."""
    return (topic, offset, "", "") if topic else ("", offset, entity_id, input_id)


def _difference(record: ConsumerRecord, step: RerunStep) -> str:
    """Say what differs between a change as written and as it follows, both read by its own definition."""
    assert step.in_force is not None, "what follows from a re-run has rules"
    assert step.rerun is not None, "it has been run"
    change = step.rerun.change
    assert change is not None, "it has changed something"
    try:
        own = step.in_force.codec.decode_change(record.value or b"", record.headers)
    except DecodeError as error:
        return str(error)
    return differing(own, change)
