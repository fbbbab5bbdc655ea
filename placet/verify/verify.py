"""`placet verify`: reads what there is, and says where it differs from what the rules make of the inputs.

    control ── definitions by digest                           settings, topics as they are
    per task: stable positions ─► ends ─► ledger once: where to start ─► all of it: TaskCheck ─► positions again

The order matters while a gate runs: inputs below the positions taken first have their decisions, and all that belongs
to these lies below the ends taken after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from placet.schemas.codec.codec import Codec
from placet.schemas.errors import DecodeError, SettingsError
from placet.schemas.ledger import Commit
from placet.streams.errors import LogUnreachable
from placet.streams.kafka.admin import Admin
from placet.streams.kafka.schema_registry import Registry
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.log import Log
from placet.streams.rules.rulebook import Rulebook
from placet.streams.runtime import Runtime
from placet.streams.settings import Settings
from placet.streams.topology import EntityTopics, TaskId, control_topic, entity_topics
from placet.verify.check import TaskCheck
from placet.verify.records import transactions
from placet.verify.report import FINDINGS_SHOWN, Check, Report, TaskReport
from placet.verify.rules import PastRules
from placet.verify.scope import VerifyScope
from placet.verify.start import LogStart, StartSearch

__all__ = ["EntityPlace", "Progress", "past_rules", "verify", "verify_task"]

_PORTION_RECORDS: Final = 20_000
_PORTION_BYTES: Final = 32 << 20
_SETTLED_MS: Final = 60_000
"""Longer than any transaction lives: its time limit lies below that of the group session."""
_CLEANER_LEEWAY_MS: Final = 60_000
_STABLE_WITHIN_S: Final = 60.0
_ASK_AGAIN_S: Final = 0.2

Progress = Callable[[TaskId, int, int], None]
"""Is told a task, how many records of it were read since the last call, and about how many there are in all."""


def _untold(_task_id: TaskId, _read: int, _all: int) -> None:
    """Tell nobody."""


class EntityPlace(NamedTuple):
    """One entity type's topics as the cluster has them.

    Attributes:
        topics: their names.
        topic_ids: ids of theirs and of the control topic; none are compared when it is empty.
        partitions: how many partitions each has.
        compaction_lag_ms: how long changelog and ledger keep everything.
    """

    topics: EntityTopics
    topic_ids: Mapping[str, str]
    partitions: int
    compaction_lag_ms: int


def verify(
    runtime: Runtime,
    settings: Settings,
    admin: Admin,
    log: Log,
    *,
    entities: Iterable[str] = (),
    findings_max: int = FINDINGS_SHOWN,
    progress: Progress = _untold,
) -> Report:
    """Verify an app, task after task.

    Args:
        runtime: clocks.
        settings: app and brokers, and the gates' limit of a record.
        admin: the cluster.
        log: reads committed records; its group is the app's.
        entities: entity types to look at; all that the control topic knows when there are none.
        findings_max: how many findings of one task are kept; all are counted.
        progress: is told how far it is.

    Raises:
        SettingsError: topics are missing, or definitions can't be run again on this machine.
        BrokerUnreachable, LogUnreachable: the brokers do not answer.
    """
    books = past_rules(runtime, settings, admin, log)
    wanted = tuple(entities) or tuple(books)
    for entity in wanted:
        if entity not in books:
            known = ", ".join(books) or "none"
            raise SettingsError(f"{control_topic(settings.app)} knows no entity type `{entity}`; it knows {known}.")
    places = {entity: _place(settings, admin, entity) for entity in wanted}
    return Report(
        [
            verify_task(runtime, log, books[entity], place, TaskReport(TaskId(entity, number), findings_max), progress)
            for entity, place in places.items()
            for number in range(place.partitions)
        ]
    )


def past_rules(runtime: Runtime, settings: Settings, admin: Admin, log: Log) -> dict[str, PastRules]:
    """Read the control topic: the definitions of each entity type, in order of their names.

    Raises:
        SettingsError: there is no such topic.
    """
    partition = TopicPartition(control_topic(settings.app), 0)
    if partition.topic not in admin.describe_topics([partition.topic]):
        raise SettingsError(
            f"There is no topic {partition.topic}: no gate ran as --app {settings.app} on this cluster."
        )
    rulebook = Rulebook(partition.topic)
    start, end = log.start_offsets([partition])[partition], log.end_offsets([partition])[partition]
    for portion in _portions(log, partition, start, end):
        rulebook.take(portion, end)
    url, options = settings.registry.url, settings.registry_options()
    registry = Registry(runtime, url, options) if url else None
    return {
        entity: PastRules(
            entity, rulebook, registry.wire(settings.app, entity) if registry else None, settings.record_bytes_max
        )
        for entity in rulebook.entities()
    }


def verify_task(
    runtime: Runtime,
    log: Log,
    rules: PastRules,
    place: EntityPlace,
    report: TaskReport,
    progress: Progress = _untold,
) -> TaskReport:
    """Verify one partition of one entity type; see the module for the order of things.

    Args:
        runtime: clocks.
        log: reads committed records and the group's positions.
        rules: the entity type's definitions.
        place: its topics.
        report: empty, names the task.
        progress: is told how far it is.

    Returns:
        The report, filled.
    """
    held, now_ms = _Partition(runtime, log, place, report.task_id, progress), runtime.now_ms()
    positions = held.positions()
    held.look()
    codec, uncompacted_since = rules.reader(), now_ms - place.compaction_lag_ms + _CLEANER_LEEWAY_MS
    search = StartSearch(held.held(codec, uncompacted_since), rules.horizon_ms(), positions)
    for record in held.read(place.topics.ledger):
        with suppress(DecodeError):  # found when it is read again
            if record.value is not None:
                search.take(record, codec.decode_ledger(record.value))
    _check_positions(report, positions, search.last, held.positions())
    start = search.start()
    begins = {span.topic: span.end for span in start.commit.spans} if start.commit else {}
    scope = VerifyScope(
        report.task_id, place.topics, place.topic_ids, place.partitions, search.positions(),
        search.covered, start, uncompacted_since, now_ms - _SETTLED_MS,
    )  # fmt: skip
    inputs = {topic: held.read(topic, begins.get(topic), scope.positions[topic]) for topic in place.topics.inputs}
    _signals, _proposals, changelog, decisions, ledger = map(held.read, place.topics)
    TaskCheck(scope, rules, inputs, report).check(transactions(decisions, changelog, ledger, codec, report))
    return report


class _Partition:
    """What the log holds of one task."""

    def __init__(self, runtime: Runtime, log: Log, place: EntityPlace, task_id: TaskId, progress: Progress) -> None:
        self._runtime = runtime
        self._log = log
        self._topics = place.topics
        self._task_id = task_id
        self._progress = progress
        self._starts: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._records = 0

    def positions(self) -> dict[str, int | None]:
        """Return the group's positions by input topic, once no transaction that moves them is open.

        Raises:
            LogUnreachable: one was open all the time.
        """
        asked = [self._of(topic) for topic in self._topics.inputs]
        deadline_s = self._runtime.monotonic_s() + _STABLE_WITHIN_S
        while (found := self._log.committed(asked)) is None:
            if self._runtime.monotonic_s() > deadline_s:
                raise LogUnreachable(
                    f"the group's positions of {self._task_id} were not stable in {_STABLE_WITHIN_S} s"
                )
            self._runtime.sleep(_ASK_AGAIN_S)
        return {partition.topic: position for partition, position in found.items()}

    def look(self) -> None:
        """Take note of where each topic begins and ends."""
        asked = [self._of(topic) for topic in self._topics]
        self._ends = self._log.end_offsets(asked)
        self._starts = self._log.start_offsets(asked)
        self._records = sum(end - self._starts[partition] for partition, end in self._ends.items())

    def held(self, codec: Codec, uncompacted_since: int) -> LogStart:
        """Return what retention and compaction left."""
        begins = {partition.topic: offset for partition, offset in self._starts.items()}
        since = None
        for record in self.read(self._topics.decisions) if begins[self._topics.decisions] else ():
            with suppress(DecodeError):
                since = codec.decode_decision(record.value or b"")[1].log_time
                break
        inputs = {topic: begins[topic] for topic in self._topics.inputs}
        return LogStart(inputs, begins[self._topics.decisions], since, uncompacted_since)

    def read(self, topic: str, position: int | None = None, end: int | None = None) -> Iterator[ConsumerRecord]:
        """Read a topic from its first record, or from a position, to its end, or to a position."""
        partition = self._of(topic)
        start = max(self._starts[partition], position or 0)
        for portion in _portions(self._log, partition, start, self._ends[partition] if end is None else end):
            self._progress(self._task_id, len(portion), self._records)
            yield from portion

    def _of(self, topic: str) -> TopicPartition:
        return TopicPartition(topic, self._task_id.partition)


def _portions(log: Log, partition: TopicPartition, position: int, end: int) -> Iterator[list[ConsumerRecord]]:
    """Read a partition bit by bit: several topics are read side by side, and none of them fits into memory."""
    done = position >= end
    while not done:
        portion = _Portion(position, end)
        done = log.read(partition, position, end, portion.take) or portion.position >= end
        position = portion.position
        yield portion.records


class _Portion:
    """Takes records until it is full or the end is reached."""

    def __init__(self, position: int, end: int) -> None:
        self.records: list[ConsumerRecord] = []
        self.position = position
        self._end = end
        self._bytes = 0

    def take(self, records: list[ConsumerRecord], position: int) -> bool:
        """See `placet.streams.recovery.log.Take`."""
        self.records += records
        self.position = position
        self._bytes += sum(len(record.value or b"") for record in records)
        full = len(self.records) >= _PORTION_RECORDS or self._bytes >= _PORTION_BYTES
        return not full and position < self._end


def _check_positions(
    report: TaskReport, before: Mapping[str, int | None], last: Commit | None, after: Mapping[str, int | None]
) -> None:
    """Compare the ledger's end with the group's positions, as they were before and after it was read."""
    ends = {span.topic: span.end for span in last.spans} if last else {}
    for topic, low in before.items():
        high, end = after[topic], ends.get(topic)
        if low is None or high is None:
            if last is not None:
                report.warnings.append(f"the group has no position of {topic} any more; the ledger's {end} counts")
        elif end is None or not low <= end <= high:
            said = "is empty" if end is None else f"leads to {end}"
            place = TopicPartition(topic, report.task_id.partition)
            report.find_at(Check.POSITION, place, low, f"the group's position is {high}, the ledger {said}")


def _place(settings: Settings, admin: Admin, entity: str) -> EntityPlace:
    topics = entity_topics(settings.app, entity)
    found = admin.describe_topics([*topics, control_topic(settings.app)])
    missing = [topic for topic in topics if topic not in found]
    if missing:
        raise SettingsError(f"Of entity type `{entity}` these topics are missing: {', '.join(missing)}.")
    lags = [int(found[topic].configs.get("min.compaction.lag.ms", 0)) for topic in (topics.changelog, topics.ledger)]
    ids = {topic: info.topic_id for topic, info in found.items()}
    return EntityPlace(topics, ids, found[topics.signals].partitions, min(lags))
