"""`placet doctor`: a table of checks, each fine, to be looked at, or failed, with what to do about it.

A check asks one thing and returns what it found; checks that need a broker are left out when there is none.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import ssl
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple
from urllib.error import HTTPError, URLError

from placet.doctor.rules import Rules, remarks
from placet.processors.machine import compile_machine
from placet.schemas.definition.model import Definition
from placet.schemas.errors import DefinitionError, PlacetError, SettingsError
from placet.streams.kafka.admin import Admin, Cluster, TopicInfo
from placet.streams.records import TopicPartition
from placet.streams.settings import SESSION_MARGIN_MS, Settings, unknown_variables
from placet.streams.state.state_dir import try_folder
from placet.streams.topics.plan import verify
from placet.streams.topology import control_topic, dead_letters_topic, entity_topics

__all__ = ["RESTORED_RECORDS_PER_S", "Check", "Restore", "Status", "cold_restore", "examine", "timeouts"]

RESTORED_RECORDS_PER_S: Final = 80_000
"""The estimate's rate: what one gate reads back from changelog and ledger in a second."""

_FREE_BYTES_MIN: Final = 1 << 30
_SESSION_LONG_MS: Final = 15_000
_CLEANUP_LONG_MS: Final = 2_000
_REGISTRY_TIMEOUT_S: Final = 5.0
_OLDER_THAN_4: Final = ("zookeeper.", "inter.broker.protocol.version")
"""Settings that Kafka 4.0 has removed. No request of the admin client tells a version."""


class Status(StrEnum):
    """How a check ended. Only FAIL keeps a gate from working as promised."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(NamedTuple):
    """What one check found, and what to do about it."""

    name: str
    status: Status
    found: str
    todo: str = ""


class Restore(NamedTuple):
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
    read_rules: Rules


def examine(
    settings: Settings,
    definitions: Sequence[Definition],
    admin: Admin,
    environment: Mapping[str, str] = os.environ,
    read_rules: Rules = tuple,
) -> Iterator[Check]:
    """Run all checks; each is given as soon as it is known. `read_rules` reads what is published."""
    yield _python()
    yield _variables(settings, environment)
    yield _definitions(definitions)
    yield _state_dir(settings.state_dir)
    yield _registry(settings)
    try:
        subject = _asked(settings, definitions, admin, read_rules)
    except PlacetError as error:
        yield Check("brokers", Status.FAIL, str(error), "Nothing else can be checked without a broker.")
        return
    yield Check(
        "brokers", Status.OK, f"cluster {subject.cluster.cluster_id}: {', '.join(subject.cluster.brokers.values())}"
    )
    for name, look in _WITH_BROKER.items():
        try:
            yield from look(subject)
        except PlacetError as error:
            yield Check(name, Status.FAIL, str(error))


def _asked(settings: Settings, definitions: Sequence[Definition], admin: Admin, read_rules: Rules) -> Subject:
    cluster = admin.cluster()
    names = [name for definition in definitions for name in entity_topics(settings.app, definition.entity)]
    topics = admin.describe_topics([*names, control_topic(settings.app), dead_letters_topic(settings.app)])
    try:
        broker = admin.broker_configs(min(cluster.brokers))
    except SettingsError:  # managed clusters hide them
        broker = {}
    return Subject(settings, definitions, admin, cluster, topics, broker, read_rules)


def _python() -> Check:
    name, found = "python", f"{sys.version.split()[0]}"
    if sys.flags.optimize:
        return Check(name, Status.FAIL, f"{found} with -O", "Leave out -O and PYTHONOPTIMIZE: assertions are kept on.")
    return Check(name, Status.OK, found)


def _variables(settings: Settings, environment: Mapping[str, str]) -> Check:
    unknown = unknown_variables(environment)
    if not unknown:
        given = f", instance {settings.instance}" if "instance" in settings.model_fields_set else ""
        return Check("settings", Status.OK, f"app {settings.app}{given}")
    meant = [f"{name} (meant is {near}?)" if near else name for name, near in unknown.items()]
    return Check("settings", Status.WARN, f"not settings: {', '.join(meant)}", "Mend the names, or ignore this.")


def _definitions(definitions: Sequence[Definition]) -> Check:
    try:
        for definition in definitions:
            compile_machine(definition)
    except DefinitionError as error:
        return Check("definitions", Status.FAIL, str(error), "Mend the line that it names.")
    known = [f"{d.entity} v{d.version} ({d.digest.hex()[:8]})" for d in definitions]
    if not known:
        return Check("definitions", Status.WARN, "none given", "Give --definition FILE: most checks need it.")
    return Check("definitions", Status.OK, ", ".join(known))


def _state_dir(folder: Path) -> Check:
    name = "state dir"
    try:
        try_folder(folder)
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        todo = "Give PLACET_STATE_DIR a folder that this user may write to."
        return Check(name, Status.FAIL, f"{folder}: {error.strerror}", todo)
    if free_bytes < _FREE_BYTES_MIN:
        return Check(name, Status.WARN, f"{folder}: {_mib(free_bytes)} free", "Make room: a full disk stops the gate.")
    return Check(name, Status.OK, f"{folder}: {_mib(free_bytes)} free")


def _mib(size_bytes: int) -> str:
    return f"{size_bytes >> 20:,} MiB"


def _registry(settings: Settings) -> Check:
    name, url = "registry", settings.registry.url
    if url is None:
        return Check(name, Status.OK, "none: records carry their schema's fingerprint (Avro single-object encoding)")
    options = settings.registry_options()
    subjects = url.split(",")[0].rstrip("/") + "/subjects"
    request = urllib.request.Request(subjects, headers=_authorization(options))  # noqa: S310 - settings allow http(s) only
    try:
        context = ssl.create_default_context(cafile=options.get("ssl.ca.location"))
        with urllib.request.urlopen(request, timeout=_REGISTRY_TIMEOUT_S, context=context):  # noqa: S310
            return Check(name, Status.OK, f"{url} answers")
    except HTTPError as error:
        todo = "Look at PLACET_REGISTRY__OPTIONS__BASIC_AUTH_USER_INFO and the registry's rights."
        return Check(name, Status.FAIL, f"{url} answers {error.code} {error.reason}", todo)
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Check(name, Status.FAIL, f"{url}: {reason}", "Start it, or mend PLACET_REGISTRY__URL.")


def _authorization(options: Mapping[str, str]) -> dict[str, str]:
    user_info = options.get("basic.auth.user.info")
    return {"Authorization": "Basic " + base64.b64encode(user_info.encode()).decode()} if user_info else {}


def _protocol(subject: Subject) -> Iterator[Check]:
    name, configs = "broker version", subject.broker
    protocols = configs.get("group.coordinator.rebalance.protocols", "consumer")
    if not configs:
        todo = "Make sure that they are Kafka 4.0 or newer."
        yield Check(name, Status.WARN, "the brokers do not show their settings", todo)
    elif any(config.startswith(_OLDER_THAN_4) for config in configs):
        yield Check(name, Status.FAIL, "older than Kafka 4.0", "Upgrade: the gate joins by KIP-848, new in 4.0.")
    elif "consumer" not in protocols:
        todo = "Add `consumer` to group.coordinator.rebalance.protocols on the brokers."
        yield Check(name, Status.FAIL, f"the group protocols are {protocols}", todo)
    else:
        yield Check(name, Status.OK, "4.0 or newer: the consumer group protocol is on")


def _topics(subject: Subject) -> Iterator[Check]:
    settings, name = subject.settings, "topics"
    problems = verify(subject.admin, settings.app, subject.definitions, settings.record_bytes_max)
    for problem in problems:
        yield Check(name, Status.FAIL, f"{problem.topic}: {problem.text}", problem.todo)
    if not problems:
        yield Check(name, Status.OK, f"{len(subject.topics)} topics are as they must be")


def _rules(subject: Subject) -> Iterator[Check]:
    name, topic = "published rules", control_topic(subject.settings.app)
    if topic not in subject.topics or not subject.definitions:
        return  # named by others
    for remark in remarks(subject.definitions, subject.read_rules()):
        yield Check(name, Status(remark.status), remark.found, remark.todo)


def _replicas(subject: Subject) -> Iterator[Check]:
    name, topics = "replicas", {**subject.topics, **_internal_topics(subject.admin)}
    leaderless = [topic for topic, info in topics.items() if info.leaderless]
    behind = [topic for topic, info in topics.items() if info.under_replicated]
    single = [topic for topic, info in topics.items() if info.replication_factor < 3]
    if leaderless:
        yield Check(name, Status.FAIL, f"no leader for partitions of {', '.join(leaderless)}", "Bring brokers back.")
    elif behind:
        yield Check(name, Status.WARN, f"replicas are behind for {', '.join(behind)}", "Look at the brokers.")
    elif single:
        todo = "Fine for development. Else: 3 brokers, and new topics by `placet topics apply --replication-factor 3`."
        yield Check(name, Status.WARN, f"{len(single)} topics have fewer than 3 replicas: {', '.join(single)}", todo)
    elif topics:
        yield Check(name, Status.OK, "3 or more, in sync")


def _internal_topics(admin: Admin) -> Mapping[str, TopicInfo]:
    """Where Kafka keeps positions and transactions: losing them breaks exactly-once as losing ours does."""
    try:
        return admin.describe_topics(["__consumer_offsets", "__transaction_state"])
    except SettingsError:  # hidden, as on managed clusters
        return {}


def _timeouts(subject: Subject) -> Iterator[Check]:
    session_timeout_ms = subject.admin.session_timeout_ms(subject.settings.app)
    yield from timeouts(subject.settings, session_timeout_ms, subject.broker)


def timeouts(settings: Settings, session_timeout_ms: int, broker: Mapping[str, str]) -> Iterator[Check]:
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
        yield Check(name, Status.FAIL, relation, todo)
    elif own_ms > longest_ms:
        todo = f"Set PLACET_TRANSACTION_TIMEOUT_MS to at most {longest_ms}."
        yield Check(name, Status.FAIL, f"{relation}; the brokers allow transactions of {longest_ms} ms", todo)
    else:
        yield Check(name, Status.OK, relation)
    if session_timeout_ms > _SESSION_LONG_MS:
        found = f"a killed gate's partitions stand still for {session_timeout_ms / 1000:g} s"
        todo = "Set group.consumer.session.timeout.ms (and its min) on the brokers to 10000, or live with it."
        yield Check("session timeout", Status.WARN, found, todo)
    if cleanup_ms > _CLEANUP_LONG_MS:
        found = f"a killed gate's transaction stays open for up to {(own_ms + cleanup_ms) / 1000:g} s"
        yield Check("abort interval", Status.WARN, found, f"Set {cleanup} on the brokers to 1000, or live with it.")


def _clock(subject: Subject) -> Iterator[Check]:
    topic, allowed_ms = dead_letters_topic(subject.settings.app), subject.settings.max_clock_skew_ms
    if topic not in subject.topics:
        yield Check("clock", Status.WARN, f"not measured: {topic} is missing", "Run `placet topics apply`.")
        return
    reading = subject.admin.measure_clock(topic, f"{subject.settings.app}.doctor.{secrets.token_hex(4)}")
    where = "behind" if reading.ahead_ms > 0 else "ahead of"
    found = f"ours is {abs(reading.ahead_ms):.0f} ms {where} the broker's (± {reading.uncertainty_ms:.0f} ms)"
    todo = "Set the clocks by NTP: a gate stops when they differ by more than PLACET_MAX_CLOCK_SKEW_MS."
    off_ms = abs(reading.ahead_ms) - reading.uncertainty_ms
    if off_ms > allowed_ms:
        yield Check("clock", Status.FAIL, f"{found}; at most {allowed_ms}", todo)
    elif off_ms > allowed_ms / 2:
        yield Check("clock", Status.WARN, f"{found}; at most {allowed_ms}", todo)
    else:
        yield Check("clock", Status.OK, found)
    yield Check("transactions", Status.OK, "one was begun and aborted")


def _restores(subject: Subject) -> Iterator[Check]:
    for restore in cold_restore(subject.admin, subject.settings.app, subject.definitions, subject.topics):
        found = f"{restore.entity}: at most {restore.records:,} records, {restore.minutes:.1f} min in one gate"
        yield Check("cold restore", Status.OK, found)


def cold_restore(
    admin: Admin, app: str, definitions: Sequence[Definition], topics: Mapping[str, TopicInfo]
) -> list[Restore]:
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
        restores.append(Restore(definition.entity, records, records / RESTORED_RECORDS_PER_S / 60))
    return restores


_WITH_BROKER: dict[str, Callable[[Subject], Iterator[Check]]] = {
    "broker version": _protocol,
    "topics": _topics,
    "published rules": _rules,
    "replicas": _replicas,
    "timeouts": _timeouts,
    "clock": _clock,
    "cold restore": _restores,
}
