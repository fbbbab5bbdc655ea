"""How definitions come onto the control topic: by a gate that starts, and by whoever publishes them by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from placet.processors.machine import compile_machine
from placet.processors.rules import Rules
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.control import Published
from placet.schemas.definition.model import Definition
from placet.streams.client_options import producer_options, reader_options
from placet.streams.entity_type import EntityType
from placet.streams.host import Host
from placet.streams.kafka.admin import Admin
from placet.streams.kafka.clients import Clients
from placet.streams.kafka.log_reader import LogReader
from placet.streams.kafka.plain_producer import produce_durably
from placet.streams.kafka.schema_registry import SchemaTexts, wire_of
from placet.streams.records import TopicPartition
from placet.streams.recovery.kafka_log import KafkaLog
from placet.streams.rules.control import Control
from placet.streams.rules.publication import Forced, Survey, check_publication, not_overtaken
from placet.streams.rules.rulebook import Rulebook
from placet.streams.rules.survey import count_standing
from placet.streams.settings import Settings
from placet.streams.topics.plan import check_topics
from placet.streams.topology import control_topic, entity_topics

__all__ = ["Publisher", "control_of", "entity_type_of", "log_reader", "publishing", "read_rulebook", "rules_of"]

ELECTION_S: Final = 20.0
"""How long a start waits for new leaders: they are elected after broker.session.timeout.ms, 9 s by default."""


class Publisher:
    """Publishes definitions, once everything is checked that could stand against them.

    Attributes:
        rulebook: what the control topic holds, read to its end.
        survey: counts the entities that stand in statuses.

    Args:
        control: the topic of rules.
        entity_types: of the definitions, by name; their codecs are taught what was published.
        survey: see above.
        produce: writes key and value to the topic, durably.
        now_ms: a clock.
    """

    def __init__(
        self,
        control: Control,
        entity_types: Mapping[str, EntityType],
        survey: Survey,
        produce: Callable[[bytes, bytes], None],
        now_ms: Callable[[], int],
    ) -> None:
        control.read()
        self.rulebook: Rulebook = control.rulebook
        self.survey = survey
        self._control, self._produce, self._now_ms = control, produce, now_ms
        self._codecs = {entity: kind.rules.codec for entity, kind in entity_types.items()}
        self.rulebook.teach(self._codecs)

    def check(self, definitions: Iterable[Definition], *, force: bool) -> list[Forced]:
        """Check those that are not overtaken by a higher version.

        Returns:
            Those that would be forced.

        Raises:
            SettingsError: one does not go with what is in force.
        """
        return check_publication(not_overtaken(definitions, self.rulebook), self.rulebook, self.survey, force=force)

    def publish(self, definitions: Iterable[Definition], *, force: bool) -> list[Forced]:
        """Publish those that are not overtaken by a higher version; again where another one came in between.

        Returns:
            Those that were forced.

        Raises:
            SettingsError: one does not go with what is in force; nothing was published.
            LogUnreachable: nobody takes the publication. It may be on the topic all the same: do it again.
            FatalError: the broker refuses it.
        """
        own, forced, done = not_overtaken(definitions, self.rulebook), list[Forced](), False
        while not done:
            forced = check_publication(own, self.rulebook, self.survey, force=force)
            done = self._control.publish(own, self._produce, self._now_ms())
            own = not_overtaken(own, self.rulebook)
        return forced

    def unread(self) -> list[tuple[Published, str]]:
        """Return the published versions that these definitions can't read, each with the reason."""
        return self.rulebook.teach(self._codecs)


def publisher_of(
    host: Host, settings: Settings, control: Control, entity_types: Mapping[str, EntityType], looked: Callable[[], None]
) -> Publisher:
    """Make a publisher; `looked` is called again and again while entities are counted."""

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

    produce = produce_durably(host, producer_options(settings), control_topic(settings.app))
    return Publisher(control, entity_types, standing, produce, host.now_ms)


@contextmanager
def publishing(host: Host, settings: Settings, definitions: Iterable[Definition]) -> Iterator[Publisher]:
    """Have a publisher for definitions that compile.

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
            yield publisher_of(host, settings, control, kinds, lambda: None)
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
