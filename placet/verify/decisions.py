"""Decisions against inputs: one for each, in a legal order, and byte for byte what the rules say. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from placet.processors.address import written_key
from placet.processors.judge import unknown_schema
from placet.processors.replay import Replay, Rerun
from placet.processors.rules import Rules
from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Decision, Fired, Reason
from placet.schemas.ledger import Commit, Span
from placet.schemas.messages import Kind
from placet.schemas.state import Change
from placet.streams.records import ConsumerRecord, ProducerRecord
from placet.streams.state.outputs import outputs_of
from placet.verify.records import Lane, RecordedDecision, RecordedTransaction
from placet.verify.report import Check, TaskReport
from placet.verify.rules import PastRules
from placet.verify.scope import VerifyScope
from placet.verify.timers import Timers
from placet.verify.values import differing

__all__ = ["Decisions", "RerunStep"]

_CONFLUENT: Final = b"\x00"
_CONSTANT: Final = ("decided_at", "definition_digest", "control_position")
_RUNG_1: Final = 100


class RerunStep(NamedTuple):
    """One decision that belongs to its transaction, and what the re-run made of it, where there was one.

    `follows` are the records that should follow from it.
    """

    recorded: RecordedDecision
    in_force: Rules | None = None
    rerun: Rerun | None = None
    follows: Sequence[ProducerRecord] = ()

    @property
    def change(self) -> ProducerRecord | None:
        """The record of the change among what should follow."""
        entries = self.rerun.entries if self.rerun else []
        pairs = zip(entries, self.follows, strict=True)
        return next((record for entry, record in pairs if isinstance(entry, Change)), None)


class Decisions:
    """Walks along inputs and decisions.

    Args:
        scope: the task, and what of it is to be looked at.
        rules: the definitions of its entity type.
        replay: the re-run.
        timers: when they fired.
        inputs: by topic, committed records from the start's position on.
        report: takes what is found.
    """

    def __init__(
        self,
        scope: VerifyScope,
        rules: PastRules,
        replay: Replay,
        timers: Timers,
        inputs: Mapping[str, Iterator[ConsumerRecord]],
        report: TaskReport,
    ) -> None:
        commit = scope.start.commit
        starts = {span.topic: span.end for span in commit.spans} if commit else {}
        self.sequence = commit.sequence if commit else 0
        self.log_time = commit.log_time if commit else 0
        self._decided_at = commit.decided_at if commit else 0
        self._scope = scope
        self._rules = rules
        self._replay = replay
        self._timers = timers
        self._report = report
        self._lanes = {topic: Lane(records, starts.get(topic, 0)) for topic, records in inputs.items()}
        self._passed: dict[tuple[str, int], ConsumerRecord] = {}
        self._kinds = {scope.topics.signals: Kind.SIGNAL, scope.topics.proposals: Kind.PROPOSAL}

    def check(self, transaction: RecordedTransaction) -> list[RerunStep]:
        """Check a transaction's decisions; return those that belong to it, in the recorded order."""
        steps: list[RerunStep] = []
        commit = transaction.commit
        spans = {span.topic: span for span in commit[1].spans} if commit else {}
        # What an idle transaction, of which nothing is left, did to the log time is not known.
        exact = transaction.sequence == self.sequence + 1
        self._passed.clear()
        for recorded in transaction.decisions:
            if recorded.decision.timer is not None:
                self._take_timer(recorded, recorded.decision.timer, steps)
                continue
            source = self._source(recorded, spans.get(recorded.at.topic), transaction)
            if source is not None:
                wrong = list(self._illegal(recorded, source.timestamp, steps, exact=exact or bool(steps)))
                wrong += self._timers.wrong_with(recorded.decision, source)
                if wrong:
                    self._report.find(Check.ORDER, recorded.record, "; ".join(wrong))
                self.log_time = recorded.at.log_time
                steps.append(self._step(recorded, source))
        if commit and exact and not any(step.recorded.at.topic for step in steps):
            self._check_idle(*commit)
        self._stand_after(transaction, steps, commit[1] if commit else None)
        return steps

    def _take_timer(self, recorded: RecordedDecision, fired: Fired, steps: list[RerunStep]) -> None:
        record, decision, at = recorded
        timer = self._replay.armed(decision.entity_id, decision.name, fired)
        if timer is None or at.partition != record.partition or at.topic:
            named = f"timer {decision.name} of {decision.entity_id!r}, armed by version {fired.armed}"
            self._report.find(Check.STRAY, record, f"it is on {named}, which is not armed")
            return
        wrong = list(self._illegal(recorded, timer.due, steps, exact=False))
        if wrong:
            self._report.find(Check.ORDER, record, "; ".join(wrong))
        self.log_time = at.log_time
        self._timers.fired(decision.entity_id, timer.due)
        in_force = self._in_force(recorded)
        if in_force is None:
            steps.append(RerunStep(recorded))
            return
        rerun = self._replay.rerun_timer(in_force, decision.entity_id, decision.name, at)
        steps.append(self._rerun_step(recorded, in_force, rerun, decision.entity_id.encode()))

    def check_rest(self) -> None:
        """Find the inputs below the group's position that no decision named."""
        for topic, lane in self._lanes.items():
            for record in lane.skip_to(self._scope.positions[topic]):
                self._find_lost(record)

    def _stand_after(self, transaction: RecordedTransaction, steps: list[RerunStep], commit: Commit | None) -> None:
        self.sequence = transaction.sequence
        if commit is not None:
            self.log_time, self._decided_at = commit.log_time, commit.decided_at
        elif steps:
            self._decided_at = steps[-1].recorded.at.decided_at
        self._report.decisions += len(steps)

    def _check_idle(self, record: ConsumerRecord, commit: Commit) -> None:
        """A transaction without inputs may move log time on, but never past an input that waits."""
        if commit.log_time <= self.log_time:
            return
        for span in commit.spans:
            lane = self._lanes.get(span.topic)
            waiting = lane.next_record if lane else None
            if waiting is not None and waiting.offset >= span.end and waiting.timestamp < commit.log_time:
                self._report.find(
                    Check.ORDER,
                    record,
                    f"without inputs, log_time moved on to {commit.log_time}, past the input {span.topic} offset "
                    f"{waiting.offset}, appended at {waiting.timestamp}",
                )

    def _source(
        self, recorded: RecordedDecision, span: Span | None, transaction: RecordedTransaction
    ) -> ConsumerRecord | None:
        """Return the input that a decision is on, the next of its topic; say what it is instead."""
        record, _, at = recorded
        lane = self._lanes.get(at.topic)
        named = f"input {at.topic} partition {at.partition} offset {at.offset}"
        if lane is None or at.partition != record.partition:
            self._report.find(Check.STRAY, record, f"it is on {named}, which is not of this task")
            return None
        if at.offset < lane.position:
            passed = self._passed.pop((at.topic, at.offset), None)
            if passed is None:
                self._report.find(Check.DOUBLED, record, f"a second decision on {named}")
            else:
                self._report.find(Check.ORDER, record, f"{named} was taken after a later one of its topic")
            return passed
        if span is not None and not span.start <= at.offset < span.end:
            self._report.find(
                Check.STRAY, record, f"it is on {named}; its transaction took {span.start} to {span.end - 1}"
            )
            return None
        others: set[tuple[str, int]] = set()
        for skipped in lane.skip_to(at.offset):
            others = others or {(other.at.topic, other.at.offset) for other in transaction.decisions}
            if (at.topic, skipped.offset) in others:
                self._passed[at.topic, skipped.offset] = skipped
            else:
                self._find_lost(skipped)
        source = lane.take(at.offset)
        if source is None:
            self._report.find(Check.STRAY, record, f"it is on {named}, where there is no input")
        else:
            self._report.inputs += 1
        return source

    def _find_lost(self, record: ConsumerRecord) -> None:
        self._report.inputs += 1
        self._report.find(Check.LOST, record, "no decision on this input, though the group's position is beyond it")

    def _illegal(
        self, recorded: RecordedDecision, own_ms: int, steps: list[RerunStep], *, exact: bool
    ) -> Iterator[str]:
        """Say how a decision's place and times can't be.

        Args:
            recorded: the decision.
            own_ms: when its input was appended, or its timer due.
            steps: of the transaction before it.
            exact: whether log time does not move on by itself, and the one before is known.
        """
        at = recorded.at
        if at.index != len(steps):
            yield f"index {at.index} stands at place {len(steps)} of its transaction"
        lowest = max(self.log_time, own_ms)
        if at.log_time < lowest or (exact and at.log_time != lowest):
            yield f"log_time is {at.log_time}; with the input's own time and the one before it is {lowest}"
        if at.decided_at < self._decided_at:
            yield f"decided_at {at.decided_at} is before that of an earlier transaction, {self._decided_at}"
        if steps:
            first = steps[0].recorded.at
            for name in _CONSTANT:
                if getattr(at, name) != getattr(first, name):
                    yield f"{name} differs from that of the transaction's first decision"

    def _step(self, recorded: RecordedDecision, source: ConsumerRecord) -> RerunStep:
        """Run one input again, and compare the decision."""
        _, decision, at = recorded
        in_force = self._in_force(recorded)
        if in_force is None:
            return RerunStep(recorded)
        if decision.reason is Reason.UNKNOWN_SCHEMA and (source.value or b"").startswith(_CONFLUENT):
            # When a registry came to know a schema is written nowhere; all else follows from that it did not.
            wanted = unknown_schema(self._kinds[at.topic], decision.detail, source.key)
            self._compare(recorded, wanted, source.key, in_force.codec)
            return RerunStep(recorded)
        self._forget_as_recorded(recorded, in_force)
        rerun = self._replay.rerun(in_force, self._kinds[at.topic], source.key, source.value, at)
        return self._rerun_step(recorded, in_force, rerun, source.key)

    def _in_force(self, recorded: RecordedDecision) -> Rules | None:
        record, _, at = recorded
        found = self._rules.in_force(at.definition_digest, at.control_position, (record.value or b"\xc3")[0])
        if found is None:
            name = at.definition_digest.hex()
            self._report.find(Check.DECISION, record, f"the control topic holds no definition of digest {name}")
        return found

    def _rerun_step(self, recorded: RecordedDecision, in_force: Rules, rerun: Rerun, key: bytes | None) -> RerunStep:
        codec, partition = in_force.codec, recorded.record.partition
        self._compare(recorded, rerun.decision, key, codec)
        outputs = outputs_of(rerun.entries, rerun.after, key or b"")
        follows = [output.record(codec, self._scope.topics, partition) for output in outputs]
        return RerunStep(recorded, in_force, rerun, follows)

    def _compare(self, recorded: RecordedDecision, wanted: Decision, key: bytes | None, codec: Codec) -> None:
        record, decision, at = recorded
        if codec.encode_decision(wanted, at) != record.value:
            self._report.find(Check.DECISION, record, differing(decision, wanted))
        elif record.key != written_key(key):
            self._report.find(Check.DECISION, record, f"its key is {record.key!r:.100}, the input's {key!r:.100}")

    def _forget_as_recorded(self, recorded: RecordedDecision, in_force: Rules) -> None:
        """A tombstone that compaction took away shows in the decisions after it: they begin anew at version 0."""
        _, decision, at = recorded
        if decision.version_before > 0 or decision.reason // _RUNG_1 == 1:
            return
        if self._replay.state(decision.entity_id).version == 0:
            return
        before = min(at.log_time, self._scope.uncompacted_since)  # a later one would be held
        if not self._replay.why_not_forgotten(decision.entity_id, before, in_force.machine.horizon_ms):
            self._replay.forget(decision.entity_id)
