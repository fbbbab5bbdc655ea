"""The checks of `placet doctor` that ask the brokers: version, topics, rules, replicas, timeouts, clock, restores."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from placet.doctor.result import CheckResult, Status
from placet.doctor.rules import ReadRules, remarks
from placet.schemas.definition.model import Definition
from placet.schemas.errors import SettingsError
from placet.streams.kafka.admin import Admin, Cluster, TopicInfo
from placet.streams.records import TopicPartition
from placet.streams.settings import SESSION_MARGIN_MS, Settings
from placet.streams.topics.plan import verify
from placet.streams.topology import control_topic, dead_letters_topic, entity_topics

__all__ = ["CHECKS", "RESTORED_RECORDS_PER_S", "RestoreEstimate", "Subject", "asked", "cold_restore", "timeouts"]

RESTORED_RECORDS_PER_S: Final = 80_000
"""The estimate's rate: what one gate reads back from changelog and ledger in a second."""

_SESSION_LONG_MS: Final = 15_000
_CLEANUP_LONG_MS: Final = 2_000
_OLDER_THAN_4: Final = ("zookeeper.", "inter.broker.protocol.version")
"""Settings that Kafka 4.0 has removed. No request of the admin client tells a version."""


class RestoreEstimate(NamedTuple):
    """What a gate without local state has to read: records at most, and minutes at the measured rate."""

    entity: str
    records: int
    minutes: float


@dataclass(frozen=True, slots=True)
class Subject:
    """A cluster as one gate sees it, asked once for all checks. `broker` is empty where brokers hide their settings."""

    settings: Settings
    definitions: Sequence[Definition]
    admin: Admin
    cluster: Cluster
    topics: Mapping[str, TopicInfo]
    broker: Mapping[str, str]
    read_rules: ReadRules


def asked(settings: Settings, definitions: Sequence[Definition], admin: Admin, read_rules: ReadRules) -> Subject:
    """Ask the cluster what all checks need."""
    cluster = admin.cluster()
    names = [name for definition in definitions for name in entity_topics(settings.app, definition.entity)]
    topics = admin.describe_topics([*names, control_topic(settings.app), dead_letters_topic(settings.app)])
    try:
        broker = admin.broker_configs(min(cluster.brokers))
    except SettingsError:  # managed clusters hide them
        broker = {}
    return Subject(settings, definitions, admin, cluster, topics, broker, read_rules)


def _protocol(subject: Subject) -> Iterator[CheckResult]:
    name, configs = "broker version", subject.broker
    protocols = configs.get("group.coordinator.rebalance.protocols", "consumer")
    if not configs:
        todo = "Make sure that they are Kafka 4.0 or newer."
        yield CheckResult(name, Status.WARN, "the brokers do not show their settings", todo)
    elif any(config.startswith(_OLDER_THAN_4) for config in configs):
        yield CheckResult(name, Status.FAIL, "older than Kafka 4.0", "Upgrade: the gate joins by KIP-848, new in 4.0.")
    elif "consumer" not in protocols:
        todo = "Add `consumer` to group.coordinator.rebalance.protocols on the brokers."
        yield CheckResult(name, Status.FAIL, f"the group protocols are {protocols}", todo)
    else:
        yield CheckResult(name, Status.OK, "4.0 or newer: the consumer group protocol is on")


def _topics(subject: Subject) -> Iterator[CheckResult]:
    settings, name = subject.settings, "topics"
    problems = verify(subject.admin, settings.app, subject.definitions, settings.record_bytes_max)
    for problem in problems:
        yield CheckResult(name, Status.FAIL, f"{problem.topic}: {problem.text}", problem.todo)
    if not problems:
        yield CheckResult(name, Status.OK, f"{len(subject.topics)} topics are as they must be")


def _rules(subject: Subject) -> Iterator[CheckResult]:
    name, topic = "published rules", control_topic(subject.settings.app)
    if topic not in subject.topics or not subject.definitions:
        return  # named by others
    for remark in remarks(subject.definitions, subject.read_rules()):
        yield CheckResult(name, Status(remark.status), remark.found, remark.todo)


def _replicas(subject: Subject) -> Iterator[CheckResult]:
    name, topics = "replicas", {**subject.topics, **_internal_topics(subject.admin)}
    leaderless = [topic for topic, info in topics.items() if info.leaderless]
    behind = [topic for topic, info in topics.items() if info.under_replicated]
    single = [topic for topic, info in topics.items() if info.replication_factor < 3]
    if leaderless:
        found = f"no leader for partitions of {', '.join(leaderless)}"
        yield CheckResult(name, Status.FAIL, found, "Bring brokers back.")
    elif behind:
        yield CheckResult(name, Status.WARN, f"replicas are behind for {', '.join(behind)}", "Look at the brokers.")
    elif single:
        todo = "Fine for development. Else: 3 brokers, and new topics by `placet topics apply --replication-factor 3`."
        found = f"{len(single)} topics have fewer than 3 replicas: {', '.join(single)}"
        yield CheckResult(name, Status.WARN, found, todo)
    elif topics:
        yield CheckResult(name, Status.OK, "3 or more, in sync")


def _internal_topics(admin: Admin) -> Mapping[str, TopicInfo]:
    """Where Kafka keeps positions and transactions: losing them breaks exactly-once as losing ours does."""
    try:
        return admin.describe_topics(["__consumer_offsets", "__transaction_state"])
    except SettingsError:  # hidden, as on managed clusters
        return {}


def _timeouts(subject: Subject) -> Iterator[CheckResult]:
    session_timeout_ms = subject.admin.session_timeout_ms(subject.settings.app)
    yield from timeouts(subject.settings, session_timeout_ms, subject.broker)


def timeouts(settings: Settings, session_timeout_ms: int, broker: Mapping[str, str]) -> Iterator[CheckResult]:
    """Compare what waits for what. Pure.

    Args:
        settings: the gate's.
        session_timeout_ms: the group's.
        broker: a broker's settings; what it does not show is not checked.
    """
    name, own_ms = "timeouts", settings.transaction_timeout_ms
    longest_ms = int(broker.get("transaction.max.timeout.ms", own_ms))
    cleanup = "transaction.abort.timed.out.transaction.cleanup.interval.ms"
    cleanup_ms = int(broker.get(cleanup, 0))
    relation = f"transaction {own_ms} ms, session {session_timeout_ms} ms"
    if own_ms > session_timeout_ms - SESSION_MARGIN_MS:
        todo = f"Set PLACET_TRANSACTION_TIMEOUT_MS to at most {session_timeout_ms - SESSION_MARGIN_MS}."
        yield CheckResult(name, Status.FAIL, relation, todo)
    elif own_ms > longest_ms:
        todo = f"Set PLACET_TRANSACTION_TIMEOUT_MS to at most {longest_ms}."
        yield CheckResult(name, Status.FAIL, f"{relation}; the brokers allow transactions of {longest_ms} ms", todo)
    else:
        yield CheckResult(name, Status.OK, relation)
    if session_timeout_ms > _SESSION_LONG_MS:
        found = f"a killed gate's partitions stand still for {session_timeout_ms / 1000:g} s"
        todo = "Set group.consumer.session.timeout.ms (and its min) on the brokers to 10000, or live with it."
        yield CheckResult("session timeout", Status.WARN, found, todo)
    if cleanup_ms > _CLEANUP_LONG_MS:
        found = f"a killed gate's transaction stays open for up to {(own_ms + cleanup_ms) / 1000:g} s"
        todo = f"Set {cleanup} on the brokers to 1000, or live with it."
        yield CheckResult("abort interval", Status.WARN, found, todo)


def _clock(subject: Subject) -> Iterator[CheckResult]:
    topic, allowed_ms = dead_letters_topic(subject.settings.app), subject.settings.max_clock_skew_ms
    if topic not in subject.topics:
        yield CheckResult("clock", Status.WARN, f"not measured: {topic} is missing", "Run `placet topics apply`.")
        return
    reading = subject.admin.measure_clock(topic, f"{subject.settings.app}.doctor.{secrets.token_hex(4)}")
    where = "behind" if reading.ahead_ms > 0 else "ahead of"
    found = f"ours is {abs(reading.ahead_ms):.0f} ms {where} the broker's (± {reading.uncertainty_ms:.0f} ms)"
    todo = "Set the clocks by NTP: a gate stops when they differ by more than PLACET_MAX_CLOCK_SKEW_MS."
    off_ms = abs(reading.ahead_ms) - reading.uncertainty_ms
    if off_ms > allowed_ms:
        yield CheckResult("clock", Status.FAIL, f"{found}; at most {allowed_ms}", todo)
    elif off_ms > allowed_ms / 2:
        yield CheckResult("clock", Status.WARN, f"{found}; at most {allowed_ms}", todo)
    else:
        yield CheckResult("clock", Status.OK, found)
    yield CheckResult("transactions", Status.OK, "one was begun and aborted")


def _restores(subject: Subject) -> Iterator[CheckResult]:
    for restore in cold_restore(subject.admin, subject.settings.app, subject.definitions, subject.topics):
        found = f"{restore.entity}: at most {restore.records:,} records, {restore.minutes:.1f} min in one gate"
        yield CheckResult("cold restore", Status.OK, found)


def cold_restore(
    admin: Admin, app: str, definitions: Sequence[Definition], topics: Mapping[str, TopicInfo]
) -> list[RestoreEstimate]:
    """Estimate what gates without local state would have to read, for each entity type.

    Offsets are counted, so that what compaction removed and the markers of transactions count as records: the true
    number is lower. Several gates share the work.

    Args:
        admin: the cluster.
        app: prefix of the topics.
        definitions: the entity types.
        topics: what there is, by name.
    """
    restores = []
    for definition in definitions:
        names = entity_topics(app, definition.entity)
        logs = [
            TopicPartition(name, partition)
            for name in (names.changelog, names.ledger)
            if name in topics
            for partition in range(topics[name].partitions)
        ]
        ends, starts = admin.latest_offsets(logs), admin.earliest_offsets(logs)
        records = sum(ends[log] - starts[log] for log in logs)
        restores.append(RestoreEstimate(definition.entity, records, records / RESTORED_RECORDS_PER_S / 60))
    return restores


CHECKS: Final[dict[str, Callable[[Subject], Iterator[CheckResult]]]] = {
    "broker version": _protocol,
    "topics": _topics,
    "published rules": _rules,
    "replicas": _replicas,
    "timeouts": _timeouts,
    "clock": _clock,
    "cold restore": _restores,
}
