"""One task: the single writer of one partition of one entity type. Records in, records of one transaction out.

A task never talks to Kafka: `process` turns a batch into the records of one transaction and stages the state after it;
`committed` puts what was staged into the store once the transaction has committed, `discard` forgets it.

Inputs that a transaction has no room for are left over: the task takes them first the next time, and drops them when it
closes or in `discard`. So code that restores a task, or reads from its positions again, does not handle them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from enum import Enum
from typing import Final

from placet.processors.address import Place, written_key
from placet.processors.ladder import LADDER, Times
from placet.processors.rules import Rules
from placet.processors.windows import windows_kept
from placet.schemas.codec.dead_letter import encode_dead_letter
from placet.schemas.decision import Outcome, Reason
from placet.schemas.errors import UnknownSchema
from placet.schemas.ledger import Commit, Genesis, KeptWindow, Span, Windows
from placet.schemas.messages import Kind
from placet.streams.errors import TaskStopped
from placet.streams.loop.air import come_up_for_air
from placet.streams.loop.asking import Asking
from placet.streams.loop.batch import Batch, DecidedInput
from placet.streams.loop.deciding import AT_ONCE, Deciding
from placet.streams.loop.due_timers import DueTimers
from placet.streams.loop.expiry import Housekeeping
from placet.streams.loop.order import in_log_time_order
from placet.streams.records import ConsumerRecord, ProducerRecord, TopicPartition
from placet.streams.state import layout
from placet.streams.state.store import StateStore
from placet.streams.topology import EntityTopics, TaskId

__all__ = ["Counts", "Phase", "Task"]

Counts = Counter[tuple[Kind, Outcome, Reason]]
"""How many decisions of each kind one batch gave."""

_TIMERS_MAX: Final = 1_000
"""Of one transaction: those of a million that are due at once must not hold up what comes in."""
_BYTES_DO_NOT_DECODE: Final = frozenset({Reason.UNDECODABLE, Reason.UNKNOWN_SCHEMA})


_HOUSEKEEPING: Final = ("", 0)


class Phase(Enum):
    """Where a task is in its life: RESTORING -> RUNNING -> CLOSED."""

    RESTORING = "restoring"
    RUNNING = "running"
    CLOSED = "closed"


class Task:
    """The state machine of one partition: positions, ledger chain, staged state.

    Attributes:
        positions: next position of each input topic behind the last commit.
        left: inputs that were polled and not taken yet, from `positions` on.
        timers: those of its entities that wait.
        asking: whether others have to be asked for a schema before the first of these is decided.
        counts: what the last batch decided.
        oldest_at: log time of the oldest input of the last batch, ms since the epoch; its clock where it had none.
        overdue_ms: of each timer of the last batch, how long it was due.
        cleaned_ms: when its store was last told to clean its disk, ms since the epoch.

    Args:
        task_id: entity type and partition.
        topics: the entity type's topics.
        dead_letters: the topic for bytes that do not decode.
        rules: those that it decides by, until it is given others (`follow`).
        store: the local store; the task is its only owner and closes it.
        partitions: how many partitions each of the topics has.
    """

    def __init__(
        self,
        task_id: TaskId,
        topics: EntityTopics,
        dead_letters: str,
        rules: Rules,
        store: StateStore,
        partitions: int,
    ) -> None:
        self.task_id = task_id
        self.topics = topics
        self.store = store
        self.phase = Phase.RESTORING
        self.positions: dict[str, int] = {}
        self.counts: Counts = Counter()
        self.oldest_at = self.cleaned_ms = 0
        self.overdue_ms: list[int] = []
        self._dead_letters = dead_letters
        self._place = Place(task_id.partition, partitions)
        self._changelog = TopicPartition(topics.changelog, task_id.partition)
        self._kinds = {topics.signals: Kind.SIGNAL, topics.proposals: Kind.PROPOSAL}
        self._housekeeping = Housekeeping(store, topics, task_id.partition)
        self.timers = DueTimers(store, topics.inputs)
        self._genesis: Genesis | None = None
        self._last: Commit | None = None
        self._task_epoch = 0
        self._windows: tuple[KeptWindow, ...] = ()
        self._batch: Batch | None = None
        self._batch_left: list[ConsumerRecord] = []
        self.left: list[ConsumerRecord] = []
        self._holds: tuple[str, int] | None = None
        self._held: tuple[str, int] | None = None
        self.asking = Asking()
        self.follow(rules)

    def follow(self, rules: Rules) -> None:
        """Decide the next transaction by these rules: never between `process` and what ends its transaction."""
        assert self._batch is None, "rules do not change within a transaction"
        self.rules = rules
        self._form = layout.StateFormat(rules.codec, rules.machine.decimal_fields)
        self._housekeeping.keep(rules.machine.horizon_ms)

    def open(self, last: Commit | None, positions: Mapping[str, int], genesis: Genesis | None) -> None:
        """Start running from what the log says.

        Args:
            last: the newest commit in the ledger, or None for a task that never committed. With a genesis: what the
                transactions of a copied changelog are counted on from.
            positions: next position to read of each input topic.
            genesis: the entry to write first, for a task that has none in its ledger.
        """
        self._last, self._genesis = last, genesis
        self._task_epoch = last.task_epoch + 1 if last else 1
        self.positions = dict(positions)
        self.timers.begin()
        self._windows = layout.load_windows(self.store.get(layout.WINDOWS))
        self.phase = Phase.RUNNING

    def process(
        self, records: list[ConsumerRecord], clock_ms: int, idle_ms: int,
        bytes_max: int = sys.maxsize, log_time_max: int = sys.maxsize,
    ) -> list[ProducerRecord]:  # fmt: skip
        """Decide a batch and stage what follows from it.

        Args:
            records: of this task's input partitions; per topic in order, from the task's next positions on. None at
                all, with none left over either, says that the partition is idle, read to its end: its log time moves
                on.
            clock_ms: the machine's clock, read once for the whole batch.
            idle_ms: where log time moves on to without records: no input that is still to come is older.
            bytes_max: no input is begun once the batch has this size; the rest is left over. At least one is taken.
            log_time_max: an input that was appended later than this is left over, with all that is ordered behind it.

        Returns:
            Everything to write in the transaction; the ledger's commit record comes last.

        Raises:
            TaskStopped: nothing else can be taken, and a transaction has proved since that this clock is right.
        """
        assert self.phase is Phase.RUNNING, f"{self.task_id} is {self.phase.value}"
        last = self._last or _BEFORE_THE_FIRST
        sequence, times = last.sequence + 1, Times(last.log_time, max(last.decided_at, clock_ms))
        rules, digest = self.rules, self.rules.machine.digest
        batch = self._batch = Batch(self.store, self._form, last.watermark, self._changelog)
        if rules.machine.windows or self._windows:
            times = self._keep_windows(batch, times, sequence)
        ordered = list(in_log_time_order(self.left + records if self.left else records))
        if not ordered:
            times = times.at_least(idle_ms)
        elif ordered[0].timestamp > log_time_max:
            self._hold(ordered[0], clock_ms, log_time_max)
        if self.timers.armed or rules.machine.arming:
            self.timers.begin_at(clock_ms)
            self.timers.polled(records)
        deciding = Deciding(
            batch, rules, self._kinds, self._place, self.asking, self.timers, times, self._task_epoch, sequence
        )
        deciding.inputs(ordered, bytes_max, log_time_max)
        self._batch_left = left = ordered[deciding.taken :]
        if self.timers.armed:
            read_past = self.timers.read_past
            deciding.timers(min(read_past, left[0].timestamp) if left else read_past, _TIMERS_MAX, bytes_max)
        decided, times, self.overdue_ms = deciding.decided, deciding.times, deciding.overdue_ms
        self.oldest_at = min((record.timestamp for record in ordered[: deciding.taken]), default=clock_ms)
        for begin in range(0, len(decided), AT_ONCE):
            self._send(batch, decided[begin : begin + AT_ONCE])
            come_up_for_air()
        self.counts = Counter(batch.outcomes)
        try:
            self._housekeeping.add_to(batch, times.log_time, self._task_epoch, sequence)
        except UnknownSchema as error:
            self.asking.wait_for_state(_HOUSEKEEPING, error)
        if self._genesis:
            batch.send(self._ledger_record(b"genesis", self._genesis))
        batch.commit = Commit(
            task_epoch=self._task_epoch, sequence=sequence, spans=self._spans(decided),
            log_time=times.log_time, decided_at=times.decided_at, watermark=batch.watermark,
            control_position=rules.position, definition_digest=digest, ladder=LADDER,
            decisions=batch.decisions, changes=batch.changes, digest=batch.digest, previous=last.digest,
        )  # fmt: skip
        batch.send(self._ledger_record(b"commit", batch.commit))
        return batch.records

    def _keep_windows(self, batch: Batch, times: Times, sequence: int) -> Times:
        """Return the times of a batch, with the windows that are kept: others than before begin with it."""
        memory_since = self._genesis.memory_since if self._genesis else 0
        kept = batch.windows = windows_kept(self.rules.machine.windows, self._windows, times.log_time + 1, memory_since)
        if kept != self._windows:
            batch.send(self._ledger_record(b"windows", Windows(kept, self._task_epoch, sequence)))
            batch.put(layout.WINDOWS, layout.dump_windows(kept))
        return Times(times.log_time, times.decided_at, {window.name: window for window in kept})

    def _hold(self, record: ConsumerRecord, clock_ms: int, log_time_max: int) -> None:
        """Hold an input that is ahead of the clock: the next commit proves which of the two clocks is wrong."""
        self._holds = (record.topic, record.offset)
        if self._held == self._holds:
            ahead_s = (record.timestamp - clock_ms) // 1000
            where = f"{record.topic} partition {record.partition} offset {record.offset}"
            raise TaskStopped(
                self.task_id,
                f"{where} was appended {ahead_s} s ahead of this machine's clock, which agrees with the broker's now: "
                "decided, it would make later inputs TOO_LATE. Nothing is lost: the task goes on when that is past.",
                clock_ms + record.timestamp - log_time_max,
            )

    def committed(self, written: Mapping[str, int]) -> None:
        """Store what the committed transaction staged: the only write to the store while running.

        Args:
            written: next position of changelog and ledger, by topic, as far as the transaction wrote to them.
        """
        batch, self._batch = self._batch, None
        self.left, self._batch_left = self._batch_left, []
        assert batch is not None, "committed() follows process()"
        assert batch.commit is not None, "process() gave a commit record"
        self._last, self._genesis, self._windows = batch.commit, None, batch.windows
        self._held, self._holds = self._holds, None
        self.positions.update((span.topic, span.end) for span in batch.commit.spans)
        writes = batch.writes()
        writes.update(layout.position_writes(written))
        if self.topics.changelog in written:
            writes[layout.CHANGED] = layout.dump_log_time(batch.commit.sequence)
        self.store.write(writes)
        self._housekeeping.committed()
        self.timers.committed(batch.armed)

    def discard(self) -> None:
        """Forget what an aborted transaction staged, and what was polled: it is to be read again from `positions`."""
        self._batch = self._held = self._holds = None
        self.left, self._batch_left = [], []
        self.asking.discard()
        self.timers.discard()

    @property
    def goes_on(self) -> bool:
        """Whether it has something to do without new records.

        Inputs that are left over, timers that are due; or a ledger to begin behind a copy of a changelog, which is to
        be known for one before an input comes.
        """
        begins = self._genesis is not None and self._last is not None
        waits = bool(self.left) or self.timers.fires
        return begins or (not self.asking.number and waits and not self.timers.must_wait)

    def goes_on_waiting(self, records: list[ConsumerRecord]) -> bool:
        """Tell whether the next input has to wait still for what is behind these records; they are left over then."""
        if not self.timers.must_wait:
            return False
        self.timers.polled(records)
        if self.timers.must_wait:
            self.left = [*self.left, *records]
        return self.timers.must_wait

    @property
    def next_positions(self) -> dict[str, int]:
        """Next position to poll of each input topic: behind what is left over."""
        return self.positions | {record.topic: record.offset + 1 for record in self.left}

    @property
    def staged_positions(self) -> dict[str, int]:
        """Next position of each input topic once what is staged has committed."""
        assert self._batch is not None and self._batch.commit is not None, "process() gave a commit record"  # noqa: PT018
        return {span.topic: span.end for span in self._batch.commit.spans}

    def needs_housekeeping(self, clock_ms: int) -> bool:
        """Tell whether something expired, if the partition is idle: it needs a transaction without inputs."""
        return self._last is not None and self._housekeeping.is_due(max(self._last.log_time, clock_ms))

    def close(self) -> None:
        """Give the store back."""
        if self.phase is not Phase.CLOSED:
            self.phase = Phase.CLOSED
            self.store.close()

    def _send(self, batch: Batch, decided: list[DecidedInput]) -> None:
        """Encode what was decided: per input what follows from it, then its decision."""
        codec, topics, partition = self.rules.codec, self.topics, self.task_id.partition
        keys = [written_key(one.key) for one in decided]
        followed = iter([output.record(codec, topics, partition) for one in decided for output in one.outputs])
        decisions = [codec.encode_decision(one.decision, one.at) for one in decided]
        for index, one in enumerate(decided):
            decision = one.decision
            for output in one.outputs:
                if output.changes:
                    batch.changes += output.changes
                    batch.send_digested(next(followed))
                else:
                    batch.send(next(followed))
            if decision.reason in _BYTES_DO_NOT_DECODE and one.record is not None:
                letter = encode_dead_letter(one.record, decision, one.at)
                batch.send(ProducerRecord(self._dead_letters, -1, keys[index], letter))
            batch.send_digested(ProducerRecord(topics.decisions, partition, keys[index], decisions[index]))
            batch.outcomes.append((decision.kind, decision.outcome, decision.reason))
        batch.decisions += len(decided)

    def _ledger_record(self, key: bytes, entry: Genesis | Windows | Commit) -> ProducerRecord:
        return ProducerRecord(self.topics.ledger, self.task_id.partition, key, self.rules.codec.encode_ledger(entry))

    def _spans(self, decided: list[DecidedInput]) -> tuple[Span, ...]:
        """What the transaction takes of each input topic: every one of them, even unmoved."""
        ends = dict(self.positions)
        for one in decided:
            if one.record is not None:
                ends[one.record.topic] = one.record.offset + 1
        return tuple(Span(topic, self.positions[topic], ends[topic]) for topic in self.topics.inputs)


_BEFORE_THE_FIRST: Final = Commit(0, 0, (), 0, 0, 0, 0, b"", LADDER, 0, 0, b"", b"")
