"""What must hold after every history, once all is healed and settled."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from placet.processors.dedup import memory_is_live, memory_kept_ms
from placet.processors.machine import compile_machine
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.contracts import contracts
from placet.schemas.codec.control import NO_BASE, decode_control, encode_control
from placet.schemas.ledger import Commit
from placet.schemas.memory import Counts
from placet.schemas.state import ABSENT, EntityState
from placet.simulation.brokers.cluster import SimulatedCluster
from placet.streams.loop.task_calls import TRANSACTION_BYTES_MAX
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.ledger_chain import LedgerChain
from placet.streams.recovery.log import Take
from placet.streams.recovery.steps import Restoration
from placet.streams.rules.control import publication
from placet.streams.rules.rulebook import Rulebook
from placet.streams.settings import Settings
from placet.streams.state import layout
from placet.streams.state.store import MemoryStore
from placet.streams.topology import TaskId, control_topic, dead_letters_topic
from placet.verify.report import TaskReport
from placet.verify.rules import PastRules
from placet.verify.verify import EntityPlace, verify_task
from tests.model.second_checker import History, LoggedRecord, check
from tests.simulation.rules import APP, DEFINITION, NEWER, PARTITIONS, RULES, TOPICS, VERSIONS
from tests.simulation.world import World

__all__ = ["ClusterLog", "broken_invariants", "stops_and_deaths"]

_LATER_MS: Final = 3_600_000
_SKEW_MAX_MS: Final[int] = Settings.model_fields["max_clock_skew_ms"].default


class ClusterLog:
    """The logs of a simulated cluster, read without a client: a `recovery.log.Log`."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster

    def committed(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int | None] | None:
        group = self._cluster.group(APP)
        if any(group.is_unstable(at) for at in partitions):
            return None
        return {at: group.positions.get(at) for at in partitions}

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {at: self._cluster.log(at).high_watermark for at in partitions}

    def start_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {at: self._cluster.log(at).start for at in partitions}

    def records(self, at: TopicPartition, position: int = 0) -> list[ConsumerRecord]:
        entries, _, _ = self._cluster.log(at).read(position, 1_000_000, committed=True)
        return [ConsumerRecord(*at, one.offset, one.timestamp, one.key, one.value, one.headers) for one in entries]

    def read(self, partition: TopicPartition, position: int, target: int, take: Take) -> bool:
        return take(self.records(partition, position), target)

    def close(self) -> None: ...


class _Clock:
    """Long after everything."""

    def __init__(self, world: World) -> None:
        self._ms = world.cluster.network.clock_ms(1) + _LATER_MS

    def now_ms(self) -> int:
        return self._ms

    def monotonic_s(self) -> float:
        return 0.0

    def sleep(self, _seconds: float) -> None:
        raise AssertionError("a transaction never ended")


def past_rules(world: World) -> PastRules:
    """The rules of a world: compiled once for all that have one version."""
    if world.scale.rolls:
        return _compiled(ClusterLog(world.cluster).records(TopicPartition(control_topic(APP), 0)))
    if not _RULES:
        value = encode_control(publication(DEFINITION, 0, NO_BASE))
        _RULES.append(_compiled([ConsumerRecord("control", 0, 0, 0, b"", value)]))
    return _RULES[0]


_RULES: Final[list[PastRules]] = []


def _compiled(published: list[ConsumerRecord]) -> PastRules:
    rulebook = Rulebook("control")
    rulebook.take(published, published[-1].offset + 1)
    return PastRules(DEFINITION.entity, rulebook, None, 1_048_588)


def history_of(world: World) -> History:
    """What the second checker is told: only what lies on the log."""
    topics = {topic: [_logged(world.cluster, (topic, number)) for number in range(PARTITIONS)] for topic in TOPICS}
    dead = dead_letters_topic(APP)
    topics[dead] = [_logged(world.cluster, (dead, 0))]
    ends = {at: log.end for at, log in world.logs.items()}
    others = {each.digest: text for each, text in VERSIONS[1:]}
    return History(
        topics, world.cluster.group(APP).positions, ends, APP, DEFINITION.entity, RULES,
        others if world.scale.rolls else {},
    )  # fmt: skip


def _logged(cluster: SimulatedCluster, at: tuple[str, int]) -> list[LoggedRecord]:
    return [
        LoggedRecord(
            one.offset, one.timestamp, one.key, one.value, tuple(one.headers or ()),
            one.producer_id * 1_000_000 + one.transaction,
        )
        for one in cluster.log(at).history()
    ]  # fmt: skip


_NO_DISK: Final = (
    "PLACET_STATE_DIR: no store can be made|no store can be made: .*Input/output"
    "|can't be (written|set aside).*(space|[Rr]ead-only|Input/output)"
)
_MAY_END: Final = (
    ("ClockSkew: this machine's clock is", "the clock of"),
    (_NO_DISK, "the disk of"),
    ("SettingsError: .* is not published: not every live gate can run it", "is replaced by one of version"),
    ("SettingsError: another gate is called", "another gate of the name"),
    (": (BrokerUnreachable|LogUnreachable): ", "nothing gets from|broker . .* after .* s|falls silent|cut off"),
)
"""What ends a process by its own will, and the fault without which it must not: its clock, its disk, its
name, and at its start a network without a way to any broker."""


def stops_and_deaths(world: World) -> Iterator[str]:
    """Say which tasks stopped by name, and what gates died of: known before a history has come to its end."""
    yield from (f"a task stopped by name: {told}" for told in world.stopped)
    yield from (f"a gate died of a bug: {told}" for told in world.bugs)


def broken_invariants(world: World) -> Iterator[str]:
    """Say what does not hold."""
    cluster, log = world.cluster, ClusterLog(world.cluster)
    yield from (
        f"second checker: {said}" for said in check(history_of(world), settled=True, now_ms=world.due_before_ms)
    )
    yield from stops_and_deaths(world)
    yield from (f"left behind: {name}" for name in world.left)
    yield from (f"a gate ended without need: {told}" for told in world.ends if not _may_end(world, told))
    sizes: Counter[tuple[int, int]] = Counter()
    for topic in (TOPICS.changelog, TOPICS.decisions, TOPICS.ledger):
        for number in range(PARTITIONS):
            for entry in cluster.log((topic, number)).history():
                sizes[entry.producer_id, entry.transaction] += len(entry.value or b"")
    yield from (f"a transaction of {size:,} bytes" for size in sizes.values() if size > 2 * TRANSACTION_BYTES_MAX)
    yield from _wrong_stores(world)
    yield from _wrong_clocks_and_rules(world)
    ids = {topic: cluster.topics[topic].topic_id for topic in (*TOPICS, control_topic(APP))}
    lag_ms = int(cluster.topics[TOPICS.ledger].configs["min.compaction.lag.ms"])
    place = EntityPlace(TOPICS, ids, PARTITIONS, lag_ms)
    for number in range(PARTITIONS):
        report = TaskReport(TaskId(DEFINITION.entity, number))
        verify_task(cast("Any", _Clock(world)), log, past_rules(world), place, report)
        yield from (f"verify: {finding}" for finding in report.findings)
        inputs = sum(len(cluster.log((topic, number)).history()) for topic in TOPICS.inputs)
        decided = [
            _CODEC.decode_decision(one.value or b"") for one in cluster.log((TOPICS.decisions, number)).history()
        ]
        decisions = sum(at.topic != "" for _, at in decided)
        if inputs != decisions:
            yield f"{inputs} inputs and {decisions} decisions in partition {number}"
        for topic in TOPICS:
            found = cluster.log((topic, number))
            if found.last_stable_offset != found.end:
                yield f"a transaction is open for ever in {topic}-{number} at {found.last_stable_offset}"


def _wrong_clocks_and_rules(world: World) -> Iterator[str]:
    """No commit was decided by a clock that is too far ahead of the broker's, or by rules that nobody had checked."""
    checked = _checked_in_time(world)
    for number in range(PARTITIONS):
        decided_at = 0
        for entry in world.cluster.log((TOPICS.ledger, number)).history():
            if entry.key != b"commit":
                continue
            commit = cast("Commit", _CODEC.decode_ledger(entry.value or b""))
            what = f"commit {commit.sequence} of partition {number}"
            ahead_ms = commit.decided_at - entry.timestamp
            if commit.decided_at > decided_at and ahead_ms > _SKEW_MAX_MS:  # else it is the time of the one before
                yield f"clock: {what} was decided {ahead_ms} ms ahead of its broker's clock"
            decided_at = commit.decided_at
            if commit.definition_digest not in checked:
                yield f"rules: {what} was decided by a version that was not checked against the one then in force"


def _checked_in_time(world: World) -> set[bytes]:
    """Return the versions whose base was in force when they came onto the topic of rules: the highest until then."""
    checked: dict[bytes, int] = {NO_BASE: 0}
    for record in ClusterLog(world.cluster).records(TopicPartition(control_topic(APP), 0)):
        entry = decode_control(record.value or b"")
        if entry.base == max(checked, key=lambda digest: checked[digest]):
            checked.setdefault(entry.digest, entry.version)
    return set(checked)


def _may_end(world: World, told: str) -> bool:
    return told.endswith(": 0") or any(
        re.search(end, told) and any(re.search(fault, one) for one in world.faults) for end, fault in _MAY_END
    )


_MACHINE: Final = compile_machine(DEFINITION)
_CODEC: Final = Codec(NEWER)
"""Reads what gates of both versions wrote."""
for _schema in contracts(DEFINITION):
    _CODEC.learn(_schema)
_DISARMED: Final = layout.ledger_index_key(b"disarmed/")
_FORM: Final = layout.StateFormat(_CODEC, _MACHINE.decimal_fields)


def _wrong_stores(world: World) -> Iterator[str]:
    """A store that is brought up to the log holds what the log holds: a running task's does without anything more.

    What is wrong in it may never be met: few inputs come after the last fault, and not to each entity.
    """
    for gate in world.gates:
        for folder in gate.disk.folders():
            found = gate.disk.snapshot(folder)
            if folder.suffix or found.calls_to_damage is not None:
                continue
            found.recover(world.choices)
            values = found.safe
            if str(TaskId(DEFINITION.entity, int(folder.name))).encode() not in values.get(layout.STAMP, b""):
                continue  # not opened since it was put in another one's place
            for topic in (TOPICS.changelog, TOPICS.ledger):
                position, end = _position_in(values, topic), world.cluster.log((topic, int(folder.name))).end
                if position > end:
                    yield f"store: {folder} of {gate.name} is at {position} of {topic}, which ends at {end}"
            values = _brought_up(world.cluster, int(folder.name), values)
            expected = _brought_up(world.cluster, int(folder.name), {})
            commit = values.get(layout.COMMIT)
            log_time = layout.commit_from_bytes(commit).log_time if commit else 0
            live_at = max(log_time, world.compacted_before_ms + memory_kept_ms(_MACHINE.horizon_ms))
            wrong = {
                key
                for key in values.keys() | expected.keys()
                if (key[:1] in b"sdu" or key == layout.WINDOWS)
                and _meaning(key, values, live_at) != _meaning(key, expected, live_at)
            }
            wrong |= {armed for key in values if key[:1] == b"s" for armed in _not_found(key, values)}
            reminded = {
                (at[:9], key)
                for at, others in values.items()
                if at[:1] == b"t"
                for key in layout.expiring_keys(at, others)
            }
            latest = {key: at for at, key in sorted(reminded)}
            wrong |= {key for key, value in values.items() if _never_expires(values, latest, key, value)}
            if wrong:
                yield f"store: {folder} of {gate.name} differs from the log in {sorted(wrong)}"


def _position_in(values: Mapping[bytes, bytes], topic: str) -> int:
    position = values.get(layout.position_key(topic))
    return layout.log_time_of(position) if position else 0


def _brought_up(cluster: SimulatedCluster, number: int, values: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return what a restore makes of a store, or of none, and of the log from its positions on."""
    store, left = MemoryStore(), {}
    store.write(values)
    for topic in (TOPICS.changelog, TOPICS.ledger):
        position = _position_in(values, topic)
        left[topic] = [
            ConsumerRecord(topic, number, one.offset, one.timestamp, one.key, one.value, one.headers)
            for one in cluster.log((topic, number)).history()
            if one.offset >= position and one.key not in (b"commit", b"genesis")
        ]
    writes: dict[bytes, bytes | None] = {}
    for record in left[TOPICS.changelog]:
        entity = record.key or b""
        if record.value is None:
            writes[layout.state_key(entity)] = writes[layout.deleted_key(entity)] = None
        else:
            layout.keep_change(writes, entity, record.value, record.headers or [], record.offset)
    store.write(writes)
    job = Restoration(TaskId(DEFINITION.entity, number), TOPICS, {}, PARTITIONS, _CODEC, _FORM, store, 0)
    LedgerChain(job, 0).take(left[TOPICS.ledger], 0)
    return dict(store.scan(b"", b"", 1_000_000))


def _not_found(key: bytes, values: Mapping[bytes, bytes]) -> set[bytes]:
    """Return the keys that are missing under which an entity's armed timers are found when they are due."""
    return layout.armed_keys(_FORM.load(values[key]), key[1:]) - values.keys()


def _meaning(key: bytes, values: Mapping[bytes, bytes], log_time: int) -> object:
    """Return what a gate would make of a value: memory that counts no more is none."""
    value = values.get(key)
    if key.startswith(_DISARMED):  # one that no state needs any more may go, or stay
        state = values.get(layout.state_key(key[len(_DISARMED) :].rpartition(b"/")[0]))
        return value is not None and state is not None and layout.is_needed(value, _FORM.load(state))
    if value is None:
        return None
    if key[:1] == b"s":
        return _counting_still(_FORM.load(value), log_time - memory_kept_ms(_MACHINE.horizon_ms))
    if key[:1] == b"u" or key == layout.WINDOWS:
        return value
    memory = layout.load_memory(value)
    return memory if memory_is_live(memory, log_time, _MACHINE.horizon_ms) else None


def _counting_still(state: EntityState, begin: int) -> EntityState:
    """Return a state without what has left all windows: it goes with the next change, or with its ledger entry."""
    counts: Counts = {}
    for what, by in (state.counts or {}).items():
        for proposer, entries in by.items():
            gone = sum(2 for time in entries[::2] if time < begin)
            if entries[gone:]:
                counts.setdefault(what, {})[proposer] = entries[gone:]
    return state.counting(counts or None)


def _never_expires(values: Mapping[bytes, bytes], reminded: Mapping[bytes, bytes], key: bytes, value: bytes) -> bool:
    """Tell whether nothing reminds of what has to go one day."""
    if key[:1] == b"s":
        return _FORM.load(value).status == ABSENT and layout.deleted_key(key[1:]) not in values
    return key[:1] in b"dux" and reminded.get(key, b"") < b"t" + value[:8]
