"""One transaction's inputs on their way through the ladder: records in log-time order, and timers that are due.

An input is preceded by the timers of its entity that were due before it was appended. A timer fires only when nothing
can come any more that was appended before it was due: see `DueTimers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

from placet.processors.address import Place
from placet.processors.dedup import CheckedInput
from placet.processors.judge import Verdict, check_input, consequences, decide_input, fire
from placet.processors.ladder import Times
from placet.processors.rules import Rules
from placet.processors.timers import first_due
from placet.schemas.decision import Coordinates, Outcome
from placet.schemas.errors import UnknownSchema
from placet.schemas.messages import Kind
from placet.streams.loop.air import come_up_for_air
from placet.streams.loop.asking import Asking
from placet.streams.loop.batch import Batch, DecidedInput
from placet.streams.loop.due_timers import DueTimers
from placet.streams.records import ConsumerRecord
from placet.streams.state.outputs import Output, outputs_of

__all__ = ["AT_ONCE", "Deciding"]

AT_ONCE: Final = 512
"""Inputs go through one stage so many at once, for the processor's caches; then other threads may go first. Not all are
read before the first is decided: there may be room for a few only."""
_ACCEPTED: Final = Outcome.ACCEPTED  # looked up once: in Python 3.11 naming a member of an enum is slow
_SWEEP: Final = ("", -1)


@final
class Deciding:
    """Decides in order, until there is no room or an input has to wait.

    Attributes:
        decided: what was decided, timers among it.
        taken: how many records.
        times: as they are after the last one.
        overdue_ms: of each timer that fired, how long it was due by the gate's clock.

    Args:
        batch: of the transaction.
        rules: in force.
        kinds: by input topic.
        place: the task's partition.
        asking: the task's.
        timers: the task's.
        times: before the first input.
        task_epoch: the task's.
        sequence: the transaction's.
    """

    def __init__(
        self,
        batch: Batch,
        rules: Rules,
        kinds: Mapping[str, Kind],
        place: Place,
        asking: Asking,
        timers: DueTimers,
        times: Times,
        task_epoch: int,
        sequence: int,
    ) -> None:
        self.decided: list[DecidedInput] = []
        self.taken = 0
        self.times = times
        self.overdue_ms: list[int] = []
        self._batch = batch
        self._rules = rules
        self._kinds = kinds
        self._place = place
        self._asking = asking
        self._timers = timers
        self._task_epoch = task_epoch
        self._sequence = sequence

    def inputs(self, ordered: list[ConsumerRecord], bytes_max: int, log_time_max: int) -> None:
        """Decide records, in this order.

        Args:
            ordered: by log time.
            bytes_max: no input is begun once the batch has this size, but for the first one.
            log_time_max: none is taken that was appended later.
        """
        batch, timers = self._batch, self._timers
        for begin in range(0, len(ordered), AT_ONCE):
            for record, checked in self._checked(ordered[begin : begin + AT_ONCE]):
                if record.timestamp > log_time_max or (self.taken and batch.size_bytes >= bytes_max):
                    return
                then = self.times.at_least(record.timestamp)
                if isinstance(checked, Verdict):
                    if self._asking.must_wait(record, checked):
                        self._checked(ordered[begin + AT_ONCE :])  # so that what else is unknown is asked for with it
                        return
                    self._refuse(record, checked, then)
                else:
                    try:
                        if (timers.armed or batch.armed) and self._must_wait(checked, record):
                            return
                        self._decide(record, checked, then)
                    except UnknownSchema as error:
                        self._asking.wait_for_state((record.topic, record.offset), error)
                        return
                self.taken += 1
                self.times = then
            come_up_for_air()

    def timers(self, due_before: int, most: int, bytes_max: int) -> None:
        """Fire the timers that are due earlier than a time, some of them.

        Args:
            due_before: nothing can come any more that was appended before it: log time moves on to it.
            most: of them.
            bytes_max: none is begun once the batch has this size, but for the first one.
        """
        for key, due, entity in self._timers.due(due_before, most):
            if self.decided and self._batch.size_bytes >= bytes_max:
                return
            entity_id = entity.decode()
            try:
                while (timer := first_due(self._batch.state(entity_id), due + 1)) is not None:
                    self.times = self.times.at_least(due_before)
                    self._fire(entity_id, entity, timer[0], timer[1])
            except UnknownSchema as error:
                self._asking.wait_for_state(_SWEEP, error)
                return
            self._batch.put(key, None)  # one that a restore left behind is of no timer
            self._timers.went_past(key)

    def _must_wait(self, checked: CheckedInput, record: ConsumerRecord) -> bool:
        """Fire what was due before an input; tell whether one of it can't fire yet."""
        entity_id = checked.message.entity_id
        due = first_due(self._batch.state(entity_id), record.timestamp)
        while due is not None:
            if not self._timers.is_past(due[0]):
                return True
            # What is read in all partitions may be less than the input's time: log time passes none that waits there.
            self.times = self.times.at_least(min(self._timers.read_past, record.timestamp))
            self._fire(entity_id, entity_id.encode(), due[0], due[1])
            due = first_due(self._batch.state(entity_id), record.timestamp)
        return False

    def _fire(self, entity_id: str, entity: bytes, due: int, name: str) -> None:
        self.overdue_ms.append(max(0, self.times.decided_at - due))
        at = self._coordinates("", -1, self.times)
        verdict = fire(self._rules, self._batch, entity_id, name, self.times)
        outputs = outputs_of(consequences(verdict, at), verdict.after, entity)
        self._stage(verdict, outputs, entity, at)
        self.decided.append(DecidedInput(None, entity, at, verdict.decision, outputs))

    def _checked(self, records: list[ConsumerRecord]) -> list[tuple[ConsumerRecord, CheckedInput | Verdict]]:
        rules, kinds, place = self._rules, self._kinds, self._place
        return [
            (record, check_input(rules, kinds[record.topic], record.key, record.value, place)) for record in records
        ]

    def _refuse(self, record: ConsumerRecord, checked: Verdict, times: Times) -> None:
        """Take an input that was refused before its entity's state was looked at."""
        key = record.key
        self._batch.size_bytes += len(key or b"") + len(record.value or b"")  # it may become a dead letter
        at = self._coordinates(record.topic, record.offset, times)
        self.decided.append(DecidedInput(record, key, at, checked.decision))

    def _decide(self, record: ConsumerRecord, checked: CheckedInput, times: Times) -> None:
        batch, key = self._batch, record.key
        at = self._coordinates(record.topic, record.offset, times)
        verdict = decide_input(self._rules, batch, checked, key, self._place, times)
        if verdict.decision.outcome is not _ACCEPTED:
            self.decided.append(DecidedInput(record, key, at, verdict.decision))
            return
        entity = key or b""
        outputs = outputs_of(consequences(verdict, at), verdict.after, entity)
        self._stage(verdict, outputs, entity, at)
        self.decided.append(DecidedInput(record, key, at, verdict.decision, outputs))

    def _coordinates(self, topic: str, offset: int, times: Times) -> Coordinates:
        rules = self._rules
        return Coordinates(
            topic, self._place.partition, offset, times.log_time, times.decided_at,
            self._task_epoch, self._sequence, len(self.decided), rules.machine.digest, rules.position,
        )  # fmt: skip

    def _stage(self, verdict: Verdict, outputs: list[Output], entity: bytes, at: Coordinates) -> None:
        """Let the next input see what this one did."""
        batch = self._batch
        if verdict.after is not verdict.before:
            batch.put_state(entity, verdict.after)
        if verdict.message is not None and verdict.decision.outcome is _ACCEPTED:
            batch.watermark = max(batch.watermark, min(verdict.message.event_time, at.log_time))
        for output in outputs:
            for key, value in output.kept:
                batch.remember(key, value)
