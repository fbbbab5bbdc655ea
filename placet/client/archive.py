"""Reads the topics for tools: the history of an entity, the decisions, and the input of each. Blocking."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from time import monotonic, sleep
from typing import Final, NamedTuple, Protocol, Self

from placet.client.armed import ArmedTimer, has_timers, timers_of
from placet.client.connect import connect, empty_rulebook, read_rulebook, reader_options
from placet.client.explain_text import Case
from placet.client.link import Link
from placet.client.snapshot import Snapshot, snapshot_of
from placet.processors.address import partition_of
from placet.schemas.codec.codec import Remarks
from placet.schemas.codec.dead_letter import DeadLetter, decode_dead_letter
from placet.schemas.decision import Coordinates, Decision
from placet.schemas.definition.model import Definition, parse_definition
from placet.schemas.errors import DecodeError, DefinitionError, SettingsError, UnknownSchema
from placet.schemas.ledger import Disarmed
from placet.schemas.messages import Kind
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from placet.streams.kafka.log_reader import LogReader
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.settings import Settings
from placet.streams.topology import dead_letters_topic

__all__ = ["Archive", "ArchivedDecision", "Placed", "place_of", "sole_entity"]

_FIRED: Final = b"disarmed/"
_PLACE: Final = re.compile(r".+-\d+@\d+")
_WAIT_MS: Final = 200
_LOOK_AGAIN_S: Final = 0.25
_FIRST_GATE_WITHIN_S: Final = 10.0


class ArchivedDecision(NamedTuple):
    """A decision, and where and when it was taken."""

    decision: Decision
    at: Coordinates


class Placed(Protocol):
    """What lies somewhere on a topic."""

    @property
    def topic(self) -> str:
        """The topic."""
        ...

    @property
    def partition(self) -> int:
        """The partition."""
        ...

    @property
    def offset(self) -> int:
        """The offset."""
        ...


def place_of(at: Placed) -> str:
    """Return where an input lies, as text: what is said of one whose id could not be read."""
    return f"{at.topic}-{at.partition}@{at.offset}"


def sole_entity(settings: Settings) -> str:
    """Return the entity type of an app that has only one. Where topics exist and no definition yet, wait for a gate.

    Raises:
        SettingsError: it has none, or several.
        LogUnreachable: no broker answered.
    """
    rulebook, deadline_s = empty_rulebook(settings), monotonic() + _FIRST_GATE_WITHIN_S
    with Admin(LocalHost(), settings.librdkafka()) as admin:
        there = bool(admin.describe_topics([rulebook.topic]))
        while there and not rulebook.published and monotonic() < deadline_s:
            read_rulebook(settings, admin, rulebook)
            if not rulebook.published:
                sleep(_LOOK_AGAIN_S)
    known = rulebook.entities()
    if len(known) != 1:
        found = f"has {', '.join(known)}" if known else "has none yet"
        raise SettingsError(
            f"Say which entity type: --entity NAME or --definition FILE. The app `{settings.app}` {found}."
        )
    return known[0]


class Archive:
    """Reads one entity type's logs from end to end, committed records only.

    Args:
        settings: where Kafka is.
        wanted: the definition, or the entity type's name.

    Raises:
        SettingsError: no such topics or rules.
        LogUnreachable: no broker answered.
    """

    def __init__(self, settings: Settings, wanted: Definition | str) -> None:
        self._settings = settings
        self._app = settings.app
        self._admin = Admin(LocalHost(), settings.librdkafka())
        self.link: Link = connect(settings, self._admin, wanted, 0.0, lambda _: True)
        self._reader = LogReader(LocalHost(), reader_options(settings, "archive"), self.link.topics)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self._admin.__exit__()

    def history(self, entity_id: str) -> list[Snapshot]:
        """Return an entity's states on the log: at least one horizon of changes, and always the latest state."""
        key = entity_id.encode()
        partition = TopicPartition(self.link.topics.changelog, partition_of(key, self.link.partitions))
        found: list[Snapshot] = []

        def keep(record: ConsumerRecord) -> None:
            if record.key == key:
                found.append(self._snapshot(record))

        self._scan(partition, keep)
        return found

    def armed_timers(self, entity_id: str | None = None) -> list[ArmedTimer]:
        """Return the timers that wait, of all entities or of one, the first that is due first."""
        if entity_id is not None:
            return self.timers_of(self.history(entity_id)[-1:])
        newest = [state for number in range(self.link.partitions) for state in self._states_with_timers(number)]
        return self.timers_of(newest)

    def _states_with_timers(self, number: int) -> list[Snapshot]:
        newest: dict[bytes | None, ConsumerRecord] = {}

        def keep(record: ConsumerRecord) -> None:
            if has_timers(record):
                newest[record.key] = record
            else:
                newest.pop(record.key, None)

        self._scan(TopicPartition(self.link.topics.changelog, number), keep)
        return [self._snapshot(record) for record in newest.values()]

    def timers_of(self, newest: Sequence[Snapshot]) -> list[ArmedTimer]:
        """Return the timers of some entities that wait, the first that is due first.

        Args:
            newest: their newest states.
        """
        armed = [state for state in newest if state.state.armed]
        partitions = {partition_of(state.entity_id.encode(), self.link.partitions) for state in armed}
        fired: dict[tuple[str, str], Disarmed] = {}
        for number in sorted(partitions):
            fired.update(self._fired(number))
        return sorted(timer for state in armed for timer in timers_of(state, fired))

    def _fired(self, number: int) -> dict[tuple[str, str], Disarmed]:
        """What a ledger says last of timers that fired and changed nothing, by entity and name."""
        fired: dict[tuple[str, str], Disarmed] = {}

        def keep(record: ConsumerRecord) -> None:
            if (record.key or b"").startswith(_FIRED) and record.value is not None:  # deleted ones are of older states
                entry = self.link.codec.decode_ledger(record.value)
                if isinstance(entry, Disarmed):
                    fired[entry.entity_id, entry.name] = entry

        self._scan(TopicPartition(self.link.topics.ledger, number), keep)
        return fired

    def _snapshot(self, record: ConsumerRecord) -> Snapshot:
        try:
            return snapshot_of(self.link.codec, record)
        except UnknownSchema:  # its rules were published since the control topic was read
            read_rulebook(self._settings, self._admin, self.link.rulebook)
            return snapshot_of(self.link.codec, record)

    def decisions_on(self, input_id: str) -> list[ArchivedDecision]:
        """Return all decisions on inputs or timers of this id, the latest one last."""
        needle = input_id.encode()
        return self._decisions(lambda decided: decided.decision.input_id == input_id, needle)

    def decisions_at(self, place: str) -> list[ArchivedDecision]:
        """Return the decision on the input at a place such as `placet.order.signals-2@17`; none for other texts."""
        return self._decisions(lambda decided: place_of(decided.at) == place, b"") if _PLACE.fullmatch(place) else []

    def dead_letters(self, count: int) -> list[DeadLetter]:
        """Return the last `count` dead letters of this entity type's inputs, the latest one last.

        Raises:
            SettingsError: the app has no topic of dead letters.
        """
        topic = dead_letters_topic(self._app)
        described = self._admin.describe_topics([topic])
        if topic not in described:
            raise SettingsError(f"There is no topic {topic}: run `placet topics apply`. Is the app `{self._app}`?")
        found: list[DeadLetter] = []
        for number in range(described[topic].partitions):
            kept: deque[DeadLetter] = deque(maxlen=count)

            def keep(record: ConsumerRecord, kept: deque[DeadLetter] = kept) -> None:
                with suppress(DecodeError):  # of a later release
                    letter = decode_dead_letter(record.value or b"")
                    if letter.topic in self.link.topics.inputs:
                        kept.append(letter)

            self._scan(TopicPartition(topic, number), keep)
            found += kept
        return sorted(found, key=lambda letter: (letter.log_time, place_of(letter)))[-count:] if count else []

    def latest_decisions(self, count: int, wanted: Callable[[ArchivedDecision], bool]) -> list[ArchivedDecision]:
        """Return the last `count` decisions for which `wanted` is true, over all partitions, the latest one last."""
        return list(self._decisions(wanted, b"", count))[-count:] if count else []

    def ends_of_decisions(self) -> dict[TopicPartition, int]:
        """Return the end positions of the decisions topic."""
        topic, numbers = self.link.topics.decisions, range(self.link.partitions)
        return self._admin.latest_offsets([TopicPartition(topic, number) for number in numbers], read_uncommitted=False)

    def follow_decisions(
        self, positions: Mapping[TopicPartition, int], wanted: Callable[[ArchivedDecision], bool]
    ) -> Iterator[ArchivedDecision]:
        """Yield decisions from these positions on, as they are committed, without end."""
        self._reader.follow_also(positions)
        while True:
            records, _ = self._reader.take(_WAIT_MS)
            for record in records:
                decided = self._decided(record)
                if decided is not None and wanted(decided):
                    yield decided

    def case_of(self, decided: ArchivedDecision) -> Case:
        """Return a decision with its input, the proposer's remarks, its definition, and the entity's history."""
        decision, at = decided
        value = self._input_of(at) if decision.timer is None else None
        message, remarks = None, Remarks()
        with suppress(DecodeError):  # of an input that does not decode the decision says all that is known
            if value is not None:
                message = self.link.codec.decode(decision.kind, value)
                remarks = self.link.codec.remarks(value) if decision.kind is Kind.PROPOSAL else remarks
        in_force = self._in_force()
        # What can be read now and could not be read then is refused by its version alone.
        decision.by_other_rules = (
            message is not None and in_force is not None and in_force.digest != at.definition_digest
        )
        rules, history = self._rules_of(at.definition_digest), self.history(decision.entity_id)
        return Case(decision, at, message, rules, remarks, history, in_force)

    def _in_force(self) -> Definition | None:
        link = self.link
        is_known = (link.definition.entity, link.definition.digest) in link.rulebook.published
        return link.definition if is_known and not link.beyond else None

    def _input_of(self, at: Coordinates) -> bytes | None:
        """Return the input that was decided; None if it is no longer on the log."""
        partition = TopicPartition(at.topic, at.partition)
        if at.offset < self._admin.earliest_offsets([partition])[partition]:
            return None
        found: list[ConsumerRecord] = []

        def take(records: list[ConsumerRecord], _position: int) -> bool:
            found.extend(records[:1])
            return not found

        self._reader.read(partition, at.offset, at.offset + 1, take, 1)
        return found[0].value if found and found[0].offset == at.offset else None

    def _rules_of(self, digest: bytes) -> Definition | None:
        """Return the definition of a digest, as it stands on the control topic."""
        published = self.link.rulebook.published.get((self.link.definition.entity, digest))
        try:
            return None if published is None else parse_definition(published.document)
        except DefinitionError:  # of a later release
            return None

    def _decisions(
        self, wanted: Callable[[ArchivedDecision], bool], needle: bytes, count: int | None = None
    ) -> list[ArchivedDecision]:
        """Return decisions, the last `count` of each partition; only bytes with the needle in them are decoded."""
        found: list[ArchivedDecision] = []
        for number in range(self.link.partitions):
            kept: deque[ArchivedDecision] = deque(maxlen=count)

            def keep(record: ConsumerRecord, kept: deque[ArchivedDecision] = kept) -> None:
                decided = self._decided(record) if needle in (record.value or b"") else None
                if decided is not None and wanted(decided):
                    kept.append(decided)

            self._scan(TopicPartition(self.link.topics.decisions, number), keep)
            found += kept
        return sorted(found, key=lambda decided: (decided.at.decided_at, decided.at.sequence, decided.at.index))

    def _scan(self, partition: TopicPartition, keep: Callable[[ConsumerRecord], None]) -> None:
        """Call `keep` with every record that the partition holds now."""

        def take(records: list[ConsumerRecord], _position: int) -> bool:
            for record in records:
                keep(record)
            return True

        begin = self._admin.earliest_offsets([partition])[partition]
        target = self._admin.latest_offsets([partition], read_uncommitted=False)[partition]
        self._reader.read(partition, begin, target, take)

    def _decided(self, record: ConsumerRecord) -> ArchivedDecision | None:
        try:
            return ArchivedDecision(*self.link.codec.decode_decision(record.value or b""))
        except DecodeError:  # of a later release
            return None
