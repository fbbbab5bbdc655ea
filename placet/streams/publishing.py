"""How definitions come onto the control topic: by a gate that starts, and by whoever publishes them by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from placet.processors.machine import compile_machine
from placet.processors.rules import Rules
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.control import Published
from placet.schemas.definition.model import Definition
from placet.schemas.errors import SettingsError
from placet.streams.client_options import producer_options, reader_options
from placet.streams.entity_type import EntityType
from placet.streams.errors import LogUnreachable
from placet.streams.host import Host
from placet.streams.kafka.admin import Admin
from placet.streams.kafka.clients import Clients
from placet.streams.kafka.log_reader import LogReader
from placet.streams.kafka.plain_producer import produce_durably
from placet.streams.kafka.schema_registry import SchemaTexts, wire_of
from placet.streams.live_gates import Answered, LiveGates, check_answers
from placet.streams.loop.namesake import GroupMember
from placet.streams.records import TopicPartition
from placet.streams.recovery.kafka_log import KafkaLog
from placet.streams.rules.control import Control, publication
from placet.streams.rules.publication import Forced, Survey, check_publication, not_overtaken
from placet.streams.rules.rulebook import Rulebook
from placet.streams.rules.survey import count_standing
from placet.streams.settings import Settings
from placet.streams.topics.plan import check_topics
from placet.streams.topology import control_topic, entity_topics, gates_topic

__all__ = [
    "Publisher",
    "control_of",
    "entity_type_of",
    "group_members",
    "log_reader",
    "publisher_of",
    "publishing",
    "read_rulebook",
    "rules_of",
]

ELECTION_S: Final = 20.0
"""How long a start waits for new leaders: they are elected after broker.session.timeout.ms, 9 s by default."""

_ANSWER_S: Final = 12.0
_SESSION_S: Final = 45.0
"""Kafka's default of group.consumer.session.timeout.ms."""
_FORCED_PATIENCE_S: Final = 5.0
Ask = Callable[[Sequence[Published], bool], list[Answered]]


class Publisher:
    """Publishes definitions, once everything is checked that could stand against them.

    Attributes:
        rulebook: what the control topic holds, read to its end.
        survey: counts the entities that stand in statuses.
        answered: what the live gates said last.

    Args:
        control: the topic of rules.
        entity_types: of the definitions, by name; their codecs are taught what was published.
        survey: see above.
        produce: writes key and value to the topic, durably.
        now_ms: a clock.
        ask: asks the live gates whether they can run what is about to be published; not for long where it is forced.
    """

    def __init__(
        self,
        control: Control,
        entity_types: Mapping[str, EntityType],
        survey: Survey,
        produce: Callable[[bytes, bytes], None],
        now_ms: Callable[[], int],
        ask: Ask,
    ) -> None:
        control.read()
        self.rulebook: Rulebook = control.rulebook
        self.survey = survey
        self._control, self._produce, self._now_ms, self._ask = control, produce, now_ms, ask
        self.answered: list[Answered] = []
        self._codecs = {entity: kind.rules.codec for entity, kind in entity_types.items()}
        self.rulebook.teach(self._codecs)

    def check(self, definitions: Iterable[Definition], *, force: bool) -> list[Forced]:
        """Check those that are not overtaken by a higher version, and ask the live gates about them.

        Returns:
            Those that would be forced.

        Raises:
            SettingsError: one does not go with what is in force, or a live gate can't run it.
            LogUnreachable: nobody takes the question.
        """
        return self._checked(not_overtaken(definitions, self.rulebook), force=force)

    def publish(self, definitions: Iterable[Definition], *, force: bool) -> list[Forced]:
        """Publish those that are not overtaken by a higher version; again where another one came in between.

        Returns:
            Those that were forced.

        Raises:
            SettingsError: one does not go with what is in force, or a live gate can't run it; nothing was published.
            LogUnreachable: nobody takes the publication. It may be on the topic all the same: do it again.
            FatalError: the broker refuses it.
        """
        own, forced, done = not_overtaken(definitions, self.rulebook), list[Forced](), False
        while not done:
            forced = self._checked(own, force=force)
            done = self._control.publish(own, self._produce, self._now_ms())
            own = not_overtaken(own, self.rulebook)
        return forced

    def _checked(self, own: Sequence[Definition], *, force: bool) -> list[Forced]:
        forced = check_publication(own, self.rulebook, self.survey, force=force)
        new = [
            publication(one, self._now_ms(), self.rulebook.base_of(one.entity))
            for one in own
            if (one.entity, one.digest) not in self.rulebook.published
        ]
        self.answered = self._ask(new, force) if new else []
        return [*forced, *check_answers(self.answered, force=force)]

    def unread(self) -> list[tuple[Published, str]]:
        """Return the published versions that these definitions can't read, each with the reason."""
        return self.rulebook.teach(self._codecs)


def publisher_of(
    host: Host,
    settings: Settings,
    control: Control,
    entity_types: Mapping[str, EntityType],
    waits_for: Callable[[Sequence[str]], None],
    looked: Callable[[], None],
    own: str = "",
) -> Publisher:
    """Make a publisher.

    Args:
        host: clock and clients.
        settings: complete.
        control: the topic of rules.
        entity_types: of the definitions, by name.
        waits_for: is told which live gates do not say for a while whether they can run it.
        looked: is called again and again while gates are asked or entities are counted.
        own: client id of a gate that starts: who has it in the group is its predecessor.
    """

    def standing(entity: str, statuses: frozenset[str]) -> Mapping[str, int]:
        kind = entity_types[entity]
        reader = log_reader(host, settings, "survey", [kind.topics.changelog])
        log = KafkaLog(reader, Admin(host, settings.librdkafka(), ELECTION_S))
        try:
            return count_standing(
                log, kind.rules.codec, kind.topics.changelog, kind.partitions, statuses, host.monotonic_s, looked
            )
        finally:
            log.close()

    def ask(candidates: Sequence[Published], force: bool) -> list[Answered]:  # noqa: FBT001 - of one call
        return _ask_live_gates(host, settings, candidates, waits_for, looked, own, force=force)

    produce = produce_durably(host, producer_options(settings), control_topic(settings.app))
    return Publisher(control, entity_types, standing, produce, host.now_ms, ask)


def _ask_live_gates(
    host: Host,
    settings: Settings,
    candidates: Sequence[Published],
    waits_for: Callable[[Sequence[str]], None],
    looked: Callable[[], None],
    own: str,
    *,
    force: bool,
) -> list[Answered]:
    partition = TopicPartition(gates_topic(settings.app), 0)
    with Admin(host, settings.librdkafka(), ELECTION_S) as admin:
        patience_s = _FORCED_PATIENCE_S if force else _patience_s(admin, settings.app)
        reader = log_reader(host, settings, "ask", [partition.topic])
        try:
            live = LiveGates(
                host, reader, partition, admin.latest_offsets([partition])[partition],
                produce_durably(host, producer_options(settings), partition.topic),
                lambda: [member.client_id for member in group_members(reader, admin, settings.app)[1]],
                settings.app, own, waits_for, looked,
            )  # fmt: skip
            return live.ask(candidates, patience_s)
        finally:
            reader.close()


def _patience_s(admin: Admin, app: str) -> float:
    """How long a gate may take to answer: one that was killed is listed until its session ends."""
    try:
        return admin.session_timeout_ms(app) / 1000 + _ANSWER_S
    except SettingsError:  # managed clusters hide it
        return _SESSION_S + _ANSWER_S


def group_members(reader: LogReader, admin: Admin, app: str) -> tuple[int, list[GroupMember]]:
    """Ask who coordinates and who is in the gates' group, if its coordinator answers a harmless question first.

    Where the coordinator goes away amid the question itself, librdkafka 2.16 aborts the process (a use after free, see
    librdkafka #5397).

    Raises:
        LogUnreachable: it does not answer.
    """
    if reader.committed([TopicPartition(control_topic(app), 0)]) is None:
        raise LogUnreachable("the group's coordinator does not answer")
    return admin.coordinator_and_members(app)


@contextmanager
def publishing(
    host: Host, settings: Settings, definitions: Iterable[Definition], waits_for: Callable[[Sequence[str]], None]
) -> Iterator[Publisher]:
    """Have a publisher for definitions that compile; see `publisher_of`.

    Raises:
        SettingsError: the topics are not as they must be.
        BrokerUnreachable, LogUnreachable: the brokers do not answer.
    """
    definitions = tuple(definitions)
    with Admin(host, settings.librdkafka(), ELECTION_S) as admin:
        check_topics(admin, settings, definitions)
        kinds = {definition.entity: entity_type_of(host, settings, admin, definition) for definition in definitions}
        control = control_of(
            host, log_reader(host, settings, "publish", [control_topic(settings.app)]), settings, admin
        )
        try:
            yield publisher_of(host, settings, control, kinds, waits_for, lambda: None)
        finally:
            control.close()


def entity_type_of(
    host: Host, settings: Settings, admin: Admin, definition: Definition, schemas: SchemaTexts | None = None
) -> EntityType:
    """Return an entity type: its compiled definition, and its topics as they are now."""
    topics = entity_topics(settings.app, definition.entity)
    described = admin.describe_topics([*topics, control_topic(settings.app)])
    ids = {topic: info.topic_id for topic, info in described.items()}
    partitions = described[topics.signals].partitions
    return EntityType(settings.app, rules_of(host, settings, definition, schemas), topics, ids, partitions)


def rules_of(host: Host, settings: Settings, definition: Definition, schemas: SchemaTexts | None = None) -> Rules:
    """Compile a definition.

    Args:
        host: clock.
        settings: complete.
        definition: what to compile.
        schemas: of a registry's ids, for a gate: it asks beside its transactions. None asks on the spot.

    Raises:
        DefinitionError, SettingsError: it can't be run here.
        RegistryUnreachable: its schemas are not known, and nobody tells.
    """
    registry = settings.registry.url, settings.registry_options()
    wire = wire_of(host, *registry, settings.app, definition.entity, schemas)
    return Rules(compile_machine(definition), Codec(definition, wire, settings.record_bytes_max))


def control_of(host: Host, reader: LogReader, settings: Settings, admin: Admin) -> Control:
    """Make the reader of the control topic."""
    topic = control_topic(settings.app)
    partition = TopicPartition(topic, 0)
    return Control(
        host,
        reader,
        topic,
        lambda: admin.latest_offsets([partition])[partition],
    )


def read_rulebook(host: Host, settings: Settings, admin: Admin) -> Rulebook:
    """Read the control topic to its end.

    Raises:
        BrokerUnreachable, LogUnreachable: the brokers do not answer.
    """
    control = control_of(host, log_reader(host, settings, "control", [control_topic(settings.app)]), settings, admin)
    try:
        control.read()
        return control.rulebook
    finally:
        control.close()


def log_reader(clients: Clients, settings: Settings, role: str, topics: Iterable[str] = ()) -> LogReader:
    """Make a reader of committed records; `role` tells its client id from the others."""
    return LogReader(clients, reader_options(settings, role), topics)
