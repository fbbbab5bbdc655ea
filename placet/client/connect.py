"""What a client needs before it can read or send: topics, partitions, and the definitions on the control topic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic

from placet.client.link import Link, link_of
from placet.schemas.definition.model import Definition
from placet.schemas.errors import SettingsError
from placet.streams.errors import LogUnreachable
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from placet.streams.kafka.log_reader import LogReader
from placet.streams.librdkafka_options import COMMITTED_RECORDS
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.rules.rulebook import EVERYTHING, Rulebook
from placet.streams.settings import Settings
from placet.streams.telemetry.log import client_logger
from placet.streams.topics.configs import output_bytes_max
from placet.streams.topology import control_topic, entity_topics

__all__ = ["connect", "empty_rulebook", "producer_options", "read_rulebook", "reader_options"]

_LOOK_AGAIN_S = 0.25
_READ_WITHIN_S = 10.0


def connect(
    settings: Settings,
    admin: Admin,
    wanted: Definition | str,
    timeout_s: float,
    wait: Callable[[float], bool],
) -> Link:
    """Find an entity type's topics and rules; wait for them, as a client may start before the gate.

    Args:
        settings: where Kafka is.
        admin: looks up topics.
        wanted: the entity type's name, or a definition for the time until one is in force.
        timeout_s: how long to wait for topics and definition.
        wait: waits for so many seconds; returns True to end the wait for topics and definition.

    Raises:
        SettingsError: no such topics, or no gate has published a definition of this entity type.
        LogUnreachable: no broker answered.
    """
    entity = wanted if isinstance(wanted, str) else wanted.entity
    topics, rulebook = entity_topics(settings.app, entity), empty_rulebook(settings)
    deadline_s = monotonic() + timeout_s
    while True:
        described = admin.describe_topics([*topics, rulebook.topic])
        missing = {*topics, rulebook.topic} - described.keys()
        if not missing:
            read_rulebook(settings, admin, rulebook)
            link = link_of(settings, wanted, topics, described[topics.signals].partitions, rulebook)
            if link is not None:
                return link
        if monotonic() > deadline_s or wait(_LOOK_AGAIN_S):
            raise SettingsError(_why_not(entity, settings.app, missing, rulebook))


def empty_rulebook(settings: Settings) -> Rulebook:
    """Make the rulebook of a client: what it can't read is told to whoever meets it, and ends nothing."""
    return Rulebook(control_topic(settings.app), EVERYTHING)


def read_rulebook(settings: Settings, admin: Admin, rulebook: Rulebook) -> None:
    """Read the control topic to its end.

    Raises:
        LogUnreachable: no broker answered, or its leader gives nothing to read.
    """
    partition, deadline_s = TopicPartition(rulebook.topic, 0), monotonic() + _READ_WITHIN_S

    def take(records: list[ConsumerRecord], position: int) -> bool:
        rulebook.take(records, position)
        return monotonic() < deadline_s

    reader = LogReader(LocalHost(), reader_options(settings, "rules"), [rulebook.topic])
    try:
        end = admin.latest_offsets([partition])[partition]
        if not reader.read(partition, rulebook.position, end, take):
            raise LogUnreachable(f"{rulebook.topic} could not be read to its end in {_READ_WITHIN_S:g} s")
    finally:
        reader.close()


def _why_not(entity: str, app: str, missing: set[str], rulebook: Rulebook) -> str:
    if missing:
        return f"There is no topic {', '.join(sorted(missing))}: run `placet topics apply`. Is the app `{app}`?"
    beyond = rulebook.in_force(entity).beyond.partition("\n")[0]
    if beyond:
        return f"The rules in force of `{entity}` can't be used here: {beyond}. A later release of Placet can."
    known = ", ".join(rulebook.entities()) or "none"
    return f"No gate has published a definition of `{entity}` on {rulebook.topic} yet; it has {known}."


def reader_options(settings: Settings, role: str, **more: object) -> Mapping[str, object]:
    """Return librdkafka's options of a client's reader: committed records only, from given positions."""
    return (
        settings.consumer_options()
        | {
            "client.id": f"{settings.app}.client.{role}",
            "logger": client_logger(),
            "group.id": f"{settings.app}.client",  # librdkafka wants one; nothing is ever committed in it
            **COMMITTED_RECORDS,
            "allow.auto.create.topics": False,
            # An empty fetch is answered after this: the end of a partition is what a reader waits for.
            "fetch.wait.max.ms": 50,
            # A topic that is followed for the first time is asked for, and tried again: by default for a second.
            "topic.metadata.refresh.fast.interval.ms": 20,
            "fetch.error.backoff.ms": 20,
        }
        | more
    )


def producer_options(settings: Settings) -> Mapping[str, object]:
    """Return librdkafka's options of a client's producer: idempotent, all replicas, Java's partitioner."""
    return settings.producer_options() | {
        "client.id": f"{settings.app}.client",
        "logger": client_logger(),
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "message.max.bytes": output_bytes_max(settings.record_bytes_max),
        "message.timeout.ms": 30_000,
        "linger.ms": 2,
        "compression.type": "lz4",
        "allow.auto.create.topics": False,
    }
