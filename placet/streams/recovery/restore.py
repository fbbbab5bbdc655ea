"""From the log to a store that a task can run on: changelog first, then the ledger, then the checks.

The order matters: stable `committed()` -> end offsets read uncommitted -> both topics, committed records only, to
those ends -> compare. If the ends were read first, a dead owner's transaction that commits in between would be missed.
Any contradiction stops the task by name; nothing is repaired silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import msgspec

from placet.schemas.codec.codec import Codec
from placet.schemas.errors import DecodeError
from placet.schemas.ledger import AppliedEntry, Commit, Genesis, MemoryEntry
from placet.schemas.messages import Kind
from placet.schemas.state import ABSENT, UNSEEN, Applied, EntityState
from placet.streams.errors import TaskCorrupted, TaskStopped, unreadable
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.state import layout
from placet.streams.state.store import StateStore, Writes
from placet.streams.topology import EntityTopics, TaskId

__all__ = ["Log", "Restoration", "Restored", "restore"]

TOMBSTONES_KEPT_MS: Final = 12 * 3_600_000
"""A store that missed records for longer is rebuilt: tombstones among them may be gone (they stay 24 h by default)."""

Take = Callable[[list[ConsumerRecord], int], bool]


class Log(Protocol):
    """What a restore asks of Kafka."""

    def committed(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int | None] | None:
        """Stable positions of the group, None for none; None as a whole while they are not stable."""
        ...

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """End offsets, uncommitted records included."""
        ...

    def start_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """First offsets still held."""
        ...

    def read(self, partition: TopicPartition, position: int, target: int, take: Take) -> bool:
        """Hand over committed records to the end; False when `take` asked to stop."""
        ...

    def close(self) -> None:
        """Give the connections back."""
        ...


class Restored(NamedTuple):
    """What a task starts from."""

    last: Commit | None
    positions: dict[str, int]
    genesis: Genesis | None
    records: int
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Restoration:
    """One task's restore: what it belongs to, and the store to fill.

    Attributes:
        topic_ids: ids of the entity type's topics, as the cluster knows them now.
        on_progress: called between batches with the records read since the last call and the offsets still ahead, None
            while they are not known; returns False when the task is not ours any more.
        control: the control topic, if there is one; a gate publishes its definition there before it writes states.
        rules_known: waits until the rules are read up to an offset; returns as `on_progress` does.
    """

    task_id: TaskId
    topics: EntityTopics
    topic_ids: Mapping[str, str]
    partitions: int
    codec: Codec
    form: layout.StateFormat
    store: StateStore
    now_ms: int
    on_progress: Callable[[int, int | None], bool] = field(default=lambda _read, _ahead: True)
    control: TopicPartition | None = None
    rules_known: Callable[[int], bool] = field(default=lambda _end: True)

    def partition(self, topic: str) -> TopicPartition:
        """Return this task's partition of a topic."""
        return TopicPartition(topic, self.task_id.partition)


def restore(job: Restoration, log: Log) -> Restored | None:
    """Bring the store up to the log, and check that the log agrees with itself.

    Returns:
        What the task starts from, or None when `on_progress` ended it.

    Raises:
        TaskCorrupted: the store is foreign or ahead of the log: set it aside and call again with an empty one.
        TaskStopped: the log contradicts itself.
    """
    _check_stamp(job)
    inputs = [job.partition(topic) for topic in job.topics.inputs]
    committed = log.committed(inputs)
    while committed is None:  # a transaction of the last owner is still open
        if not job.on_progress(0, None):
            return None
        committed = log.committed(inputs)
    changelog, ledger = job.partition(job.topics.changelog), job.partition(job.topics.ledger)
    targets = log.end_offsets([changelog, ledger, *([job.control] if job.control else [])])
    if job.control and not job.rules_known(targets.pop(job.control)):
        return None
    starts = log.start_offsets([changelog, ledger, *inputs])
    _check_position(job, starts, targets)
    positions = {partition: max(_position(job, partition.topic), starts[partition]) for partition in targets}
    ledgers_part = targets[ledger] - positions[ledger]
    chain = _Chain(job, targets[ledger])
    changelogs_part = targets[changelog] - positions[changelog]
    if not job.on_progress(0, changelogs_part + ledgers_part):
        return None
    with job.store.filling(changelogs_part) as write:
        progress = _Progress(job, targets[changelog] + ledgers_part, write)
        if not log.read(changelog, positions[changelog], targets[changelog], progress.take_changes):
            return None
    if not log.read(ledger, positions[ledger], targets[ledger], chain.take):
        return None
    group = {partition.topic: position for partition, position in committed.items()}
    return _checked(job, chain, group, {at.topic: starts[at] for at in inputs}, progress.records + chain.records)


def _stamp(job: Restoration) -> bytes:
    ids = {topic: job.topic_ids[topic] for topic in sorted(job.topics)}
    return msgspec.json.encode({"format": 1, "task": str(job.task_id), "topic_ids": ids})


def _check_stamp(job: Restoration) -> None:
    found, expected = job.store.get(layout.STAMP), _stamp(job)
    if found is None:
        job.store.write({layout.STAMP: expected})
    elif found != expected:
        raise TaskCorrupted(job.task_id, "the folder belongs to other topics, another cluster or another format")


def _position(job: Restoration, topic: str) -> int:
    data = job.store.get(layout.position_key(topic))
    return layout.log_time_of(data) if data else 0


def _check_position(
    job: Restoration, starts: Mapping[TopicPartition, int], targets: Mapping[TopicPartition, int]
) -> None:
    """A store may be behind the log, never ahead of it, and not so far behind that tombstones are gone."""
    last = job.store.get(layout.COMMIT)
    for partition, target in targets.items():
        position = _position(job, partition.topic)
        if position > target:
            raise TaskCorrupted(job.task_id, f"the store is at {position} of {partition.topic}, its end is {target}")
        if 0 < position < starts[partition]:
            raise TaskCorrupted(job.task_id, f"the store is at {position} of {partition.topic}, which begins later")
        # One record ahead is the marker of our own last transaction.
        if last and target > position + 1:
            age_ms = job.now_ms - layout.commit_from_bytes(last).decided_at
            if age_ms > TOMBSTONES_KEPT_MS:
                raise TaskCorrupted(job.task_id, f"the store missed {age_ms // 3_600_000} h: tombstones may be gone")


class _Progress:
    """Copies the changelog into the store, undecoded. What lies ahead of a position is `end` minus that position."""

    def __init__(self, job: Restoration, end: int, write: Callable[[Writes], None]) -> None:
        self.records = 0
        self._write = write
        self._job = job
        self._end = end

    def take_changes(self, records: list[ConsumerRecord], position: int) -> bool:
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
            raise _unreadable(job, record, error) from error
        writes.update(layout.position_writes({job.topics.changelog: position}))
        self._write(writes)
        self.records += len(records)
        return job.on_progress(len(records), self._end - position)


class _Chain:
    """Reads the ledger to its end: memory goes into the store, commits are checked link by link."""

    def __init__(self, job: Restoration, end: int) -> None:
        self.records = 0
        self._end = end
        self.genesis: Genesis | None = None
        data = job.store.get(layout.COMMIT)
        self.last: Commit | None = layout.commit_from_bytes(data) if data else None
        self.seen_genesis = self.last is not None
        self._job = job

    def take(self, records: list[ConsumerRecord], position: int) -> bool:
        job = self._job
        writes: dict[bytes, bytes | None] = {}
        for record in records:
            key = record.key or b""
            if record.value is None:
                writes[layout.ledger_index_key(key)] = None
                self._forget(key, writes)
                continue
            try:
                entry = job.codec.decode_ledger(record.value)
            except DecodeError as error:
                raise _unreadable(job, record, error) from error
            if isinstance(entry, Commit):
                self._link(entry, record.offset)
            elif isinstance(entry, Genesis):
                self._check_genesis(entry)
            elif isinstance(entry, MemoryEntry):
                self._remember(entry, key, writes)
            elif isinstance(entry, AppliedEntry):
                self._apply(entry, writes)
        if self.last:
            writes[layout.COMMIT] = layout.commit_to_bytes(self.last)
        writes.update(layout.position_writes({job.topics.ledger: position}))
        job.store.write(writes)
        self.records += len(records)
        return job.on_progress(len(records), self._end - position)

    def _link(self, entry: Commit, offset: int) -> None:
        last, self.last = self.last, entry
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
                raise TaskStopped(self._job.task_id, f"{topic} was created anew: id {now}, the ledger knows {topic_id}")
        if entry.partitions != self._job.partitions:
            raise TaskStopped(
                self._job.task_id,
                f"the topics have {self._job.partitions} partitions, the ledger knows {entry.partitions}",
            )

    def _remember(self, entry: MemoryEntry, ledger_key: bytes, writes: dict[bytes, bytes | None]) -> None:
        """The later one counts: a change that renewed the occasion after the horizon was read before."""
        key = layout.memory_key(Kind(entry.kind), entry.entity_id.encode(), entry.dedup_key)
        known = writes.get(key) or self._job.store.get(key)
        if not known or layout.log_time_of(known) <= entry.memory.log_time:
            layout.remember(writes, key, layout.dump_memory(entry.memory))
        layout.remember(writes, layout.ledger_index_key(ledger_key), layout.dump_log_time(entry.memory.log_time))

    def _apply(self, entry: AppliedEntry, writes: dict[bytes, bytes | None]) -> None:
        entity = entry.entity_id.encode()
        state = self._state(entity, writes)
        known = state.applied.get(entry.name)
        if state.incarnation != entry.incarnation or (known and _age(known) > _age(entry.applied)):
            return
        after = msgspec.structs.replace(state, applied={**state.applied, entry.name: entry.applied})
        writes[layout.state_key(entity)] = self._job.form.dump(after)
        if state.status == ABSENT and not state.deleted_at:
            layout.remember(writes, layout.deleted_key(entity), layout.dump_log_time(entry.applied.log_time))

    def _forget(self, ledger_key: bytes, writes: dict[bytes, bytes | None]) -> None:
        """An entity's tombstone takes with it what it remembered by name: also what the ledger brought back."""
        role, _, rest = ledger_key.partition(b"/")
        entity = rest.rpartition(b"/")[0]
        if role == b"applied" and self._state(entity, writes).version == 0:
            writes[layout.state_key(entity)] = writes[layout.deleted_key(entity)] = None

    def _state(self, entity: bytes, writes: dict[bytes, bytes | None]) -> EntityState:
        key = layout.state_key(entity)
        data = writes[key] if key in writes else self._job.store.get(key)
        try:
            return self._job.form.load(data) if data else UNSEEN
        except DecodeError as error:
            place, name = self._job.partition(self._job.topics.changelog), repr(entity.decode("utf-8", "replace"))
            raise TaskStopped(self._job.task_id, str(unreadable(place, name, error))) from error


def _unreadable(job: Restoration, record: ConsumerRecord, why: Exception) -> TaskStopped:
    place, key = TopicPartition(record.topic, record.partition), (record.key or b"").decode("utf-8", "replace")
    return TaskStopped(job.task_id, str(unreadable(place, f"the record {key!r} at offset {record.offset}", why)))


def _age(applied: Applied) -> tuple[int, int, int]:
    """What orders two applied inputs of one name: the later of two of the same time counts."""
    return applied.event_time, applied.log_time, applied.version


def _checked(
    job: Restoration,
    chain: _Chain,
    committed: Mapping[str, int | None],
    starts: Mapping[str, int],
    records: int,
) -> Restored:
    last = chain.last
    if last is None:
        strays = {topic: position for topic, position in committed.items() if position is not None}
        if strays:
            raise TaskStopped(
                job.task_id,
                f"the group has positions {strays} but the ledger is empty: was it deleted? Nothing was read.",
            )
        genesis = Genesis(
            dict(job.topic_ids), job.partitions, 0 if not any(starts.values()) else job.now_ms, job.now_ms
        )
        return Restored(None, dict(starts), genesis, records)
    if not chain.seen_genesis:
        raise TaskStopped(job.task_id, f"{job.topics.ledger} holds commits but no genesis: it is not whole")
    positions = {span.topic: span.end for span in last.spans}
    warning = ""
    for topic, position in positions.items():
        group = committed.get(topic)
        if group is None:
            warning = f"the group has no position for {topic} any more; the ledger's {position} counts"
        elif group != position:
            raise TaskStopped(
                job.task_id,
                f"the group's position of {topic} is {group}, the ledger's {position}: someone else moved it",
            )
        if starts[topic] > position:
            raise TaskStopped(
                job.task_id, f"{topic}: offsets {position} to {starts[topic] - 1} were removed before they were decided"
            )
    return Restored(last, positions, None, records, warning)
