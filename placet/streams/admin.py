"""What an operator asks a cluster: topics, offsets, settings, clocks. The only user of Kafka's AdminClient.

Every call has a time limit. A broker that does not answer is `BrokerUnreachable`, with the address that was tried and
the last thing that librdkafka saw; what the broker refuses is a `SettingsError` with its own words.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, NamedTuple, Self, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, Message, Producer, TopicCollection
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but without __all__
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from placet.schemas.errors import PlacetError, SettingsError
from placet.streams.errors import LogUnreachable
from placet.streams.records import TopicPartition

__all__ = ["Admin", "BrokerUnreachable", "ClockReading", "Cluster", "TopicInfo"]

Result = TypeVar("Result")

_CALL_TIMEOUT_S: Final = 10.0
_GRACE_S: Final = 2.0
_LOG_APPEND_TIME: Final = 2
_SILENT: Final = logging.Logger("librdkafka of the admin client", logging.CRITICAL + 1)
_UNREACHABLE: Final = frozenset({
    KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE,
    KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._WAIT_COORD, KafkaError.REQUEST_TIMED_OUT,
    KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_CONTROLLER, KafkaError.BROKER_NOT_AVAILABLE,
    # A partition's leader is being elected, or was, and the next metadata tells (_NOENT: "no leaders found").
    KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._NOENT,
    KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.OFFSET_NOT_AVAILABLE,
})  # fmt: skip
_ABSENT: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_ID})
_TOO_OLD: Final = frozenset(
    {KafkaError.INVALID_REQUEST, KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE}
)
_FORBIDDEN: Final = frozenset({
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
})  # fmt: skip


class BrokerUnreachable(LogUnreachable):
    """No broker answered in time. Reaction: a command ends; the operator starts it, or mends address or rights."""


class Cluster(NamedTuple):
    """A cluster as one of its brokers describes it: broker ids with their `host:port`."""

    cluster_id: str
    brokers: dict[int, str]


class TopicInfo(NamedTuple):
    """One topic as it is. `replication_factor` is the smallest of its partitions.

    Attributes:
        topic_id: Kafka's own id: a topic that was deleted and made anew has another one.
        configs: every setting, with the broker's defaults where the topic has none of its own.
        leaderless: how many partitions have no leader.
        under_replicated: how many partitions have fewer replicas in sync than they should.
    """

    topic_id: str
    partitions: int
    replication_factor: int
    configs: dict[str, str]
    leaderless: int = 0
    under_replicated: int = 0


class ClockReading(NamedTuple):
    """How far the broker's clock is ahead of ours, in ms, and how wrong that may be."""

    ahead_ms: float
    uncertainty_ms: float


class Admin:
    """A cluster's front desk.

    Args:
        options: librdkafka's options, `Settings.librdkafka()`.
        timeout_s: limit of each single call, in seconds.

    Raises:
        SettingsError: librdkafka refuses an option.
    """

    def __init__(self, options: Mapping[str, str], timeout_s: float = _CALL_TIMEOUT_S) -> None:
        self._options = dict(options)
        self._timeout_s = timeout_s
        self._seen: list[str] = []
        self._client = _made(AdminClient, {**options, "error_cb": self._note})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.__exit__(None, None, None)

    def cluster(self) -> Cluster:
        """Return the cluster's id and its brokers."""
        found = self._result(self._client.describe_cluster(request_timeout=self._timeout_s), "describe the cluster")
        return Cluster(found.cluster_id or "", {node.id: f"{node.host}:{node.port}" for node in found.nodes})

    def cluster_id(self) -> str:
        """Return the id that the cluster was formatted with."""
        return self.cluster().cluster_id

    def describe_topics(self, names: Iterable[str]) -> dict[str, TopicInfo]:
        """Return what there is of these topics; a missing one is left out."""
        asked = list(dict.fromkeys(names))
        if not asked:
            return {}
        found = {}
        futures = self._client.describe_topics(TopicCollection(asked), request_timeout=self._timeout_s)
        for name, future in futures.items():
            description = self._result_or_none(future, f"describe topic {name}", _ABSENT)
            if description is not None:
                found[name] = description
        configs = self._configs(ResourceType.TOPIC, found)
        return {name: _topic_info(found[name].topic_id, found[name].partitions, configs[name]) for name in configs}

    def create_topic(
        self, name: str, partitions: int, *, replication_factor: int = -1, configs: Mapping[str, str] | None = None
    ) -> bool:
        """Create a topic. Returns False when it is there already; -1 replicas means as many as the broker's default."""
        topic = NewTopic(name, partitions, replication_factor, config=dict(configs or {}))
        limits = {"operation_timeout": self._timeout_s, "request_timeout": self._timeout_s + _GRACE_S}
        future = self._client.create_topics([topic], **limits)[name]
        try:
            self._raw_result(future)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            raise self._translated(error, f"create topic {name}") from error
        return True

    def alter_configs(self, topic: str, changes: Mapping[str, str]) -> None:
        """Set these settings of a topic; the others stay as they are."""
        self._alter(ResourceType.TOPIC, topic, changes)

    def alter_group_configs(self, group: str, changes: Mapping[str, str]) -> None:
        """Set settings of a consumer group (KIP-848), such as `consumer.session.timeout.ms`."""
        self._alter(ResourceType.GROUP, group, changes)

    def broker_configs(self, broker_id: int) -> dict[str, str]:
        """Return a broker's settings; what is secret or unset is left out."""
        return self._configs(ResourceType.BROKER, [str(broker_id)])[str(broker_id)]

    def group_configs(self, group: str) -> dict[str, str]:
        """Return a consumer group's settings (KIP-848), the broker's defaults included; the group need not exist.

        Brokers older than 4.0 know of none and give an empty answer.
        """
        return self._configs(ResourceType.GROUP, [group], _TOO_OLD).get(group, {})

    def session_timeout_ms(self, group: str) -> int:
        """Return after how long without a heartbeat a member of the group is given up.

        Raises:
            SettingsError: the brokers know no settings of groups: they are older than Kafka 4.0, or forbid the look.
        """
        found = self.group_configs(group).get("consumer.session.timeout.ms")
        if found is None:
            raise SettingsError(
                "The brokers are older than Kafka 4.0: they know no settings of consumer groups. The gate joins its "
                "group by the protocol of KIP-848, so 4.0 or newer is needed."
            )
        return int(found)

    def latest_offsets(
        self, partitions: Iterable[TopicPartition], *, read_uncommitted: bool = True
    ) -> dict[TopicPartition, int]:
        """Return the end of each log: the high watermark, or the last stable offset when not `read_uncommitted`."""
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the client's own gap
        return self._offsets(partitions, latest, read_uncommitted=read_uncommitted)

    def earliest_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the first offset that each log still has."""
        earliest = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # the client's own gap
        return self._offsets(partitions, earliest, read_uncommitted=True)

    def measure_clock(self, topic: str, transactional_id: str, samples: int = 5) -> ClockReading:
        """Read the broker's clock, as it stamps records of a LogAppendTime topic.

        No Kafka request just asks for the time. So records are written in a transaction that is aborted: no reader of
        committed records ever sees them, and it is a test of the right to write in transactions too.

        Args:
            topic: partition 0 of it gets the records.
            transactional_id: one that no gate uses.
            samples: how many records; the one with the shortest way counts.

        Raises:
            SettingsError: the topic has no LogAppendTime, or transactions are refused.
            BrokerUnreachable: no answer in time.
        """
        options = {**self._options, "transactional.id": transactional_id, "linger.ms": "0", "error_cb": self._note}
        producer = _made(Producer, options)
        try:
            producer.init_transactions(self._timeout_s)
            producer.begin_transaction()
            readings = [self._one_reading(producer, topic) for _ in range(samples)]
            producer.abort_transaction(self._timeout_s)
        except KafkaException as error:
            raise self._translated(error, f"write to {topic} in a transaction") from error
        return min(readings, key=lambda reading: reading.uncertainty_ms)

    def group_members(self, group: str) -> list[Any]:
        """Return who is in a consumer group, with `member_id`, `client_id` and `host`; nobody where there is none."""
        future = self._client.describe_consumer_groups([group], request_timeout=self._timeout_s)[group]
        return list(self._result(future, f"describe group {group}").members)

    def _one_reading(self, producer: Producer, topic: str) -> ClockReading:
        delivered: list[tuple[KafkaError | None, tuple[int, int], int]] = []

        def note(error: KafkaError | None, message: Message) -> None:
            delivered.append((error, message.timestamp(), time.time_ns()))

        sent_ns = time.time_ns()
        producer.produce(topic, b"clock", partition=0, on_delivery=note)
        if producer.flush(self._timeout_s) or not delivered:
            raise self._unreachable(f"no answer to a record for {topic}")
        error, (kind, appended_ms), received_ns = delivered[0]
        if error is not None:
            raise KafkaException(error)
        if kind != _LOG_APPEND_TIME:
            raise SettingsError(f"{topic} stamps records with the producer's time, not with LogAppendTime.")
        return ClockReading(appended_ms - (sent_ns + received_ns) / 2e6, (received_ns - sent_ns) / 2e6)

    def _configs(
        self, kind: ResourceType, names: Iterable[str], absent: frozenset[int] = _ABSENT
    ) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(kind, name) for name in names]
        if not resources:
            return {}
        futures = self._client.describe_configs(resources, request_timeout=self._timeout_s)
        found = {}
        for resource, future in futures.items():
            entries = self._result_or_none(future, f"describe {kind.name.lower()} {resource.name}", absent)
            if entries is not None:
                found[resource.name] = {key: entry.value for key, entry in entries.items() if entry.value is not None}
        return found

    def _alter(self, kind: ResourceType, name: str, changes: Mapping[str, str]) -> None:
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in changes.items()
        ]
        resource = ConfigResource(kind, name, incremental_configs=entries)
        futures = self._client.incremental_alter_configs([resource], request_timeout=self._timeout_s)
        self._result(futures[resource], f"change {', '.join(changes)} of {kind.name.lower()} {name}")

    def _offsets(
        self, partitions: Iterable[TopicPartition], spec: OffsetSpec, *, read_uncommitted: bool
    ) -> dict[TopicPartition, int]:
        asked: dict[ClientPartition, OffsetSpec] = {ClientPartition(*partition): spec for partition in partitions}
        if not asked:
            return {}
        level = IsolationLevel.READ_UNCOMMITTED if read_uncommitted else IsolationLevel.READ_COMMITTED
        futures = self._client.list_offsets(asked, isolation_level=level, request_timeout=self._timeout_s)
        try:
            return {
                TopicPartition(asked_for.topic, asked_for.partition): self._result(
                    future, f"list offsets of {asked_for.topic}-{asked_for.partition}"
                ).offset
                for asked_for, future in futures.items()
            }
        except BrokerUnreachable:
            with suppress(KafkaException):  # else librdkafka asks for minutes with a leader's epoch from before
                for topic in {partition.topic for partition in asked}:
                    self._client.list_topics(topic, _GRACE_S)
            raise

    def _raw_result(self, future: Future[Result]) -> Result:
        try:
            return future.result(self._timeout_s + 2 * _GRACE_S)
        except TimeoutError:
            raise self._unreachable("no answer") from None

    def _result(self, future: Future[Any], what: str) -> Any:
        try:
            return self._raw_result(future)
        except KafkaException as error:
            raise self._translated(error, what) from error

    def _result_or_none(self, future: Future[Any], what: str, absent: frozenset[int]) -> Any | None:
        """As `_result`, but None where the code of the error says that it is not there."""
        try:
            return self._raw_result(future)
        except KafkaException as error:
            if error.args[0].code() in absent:
                return None
            raise self._translated(error, what) from error

    def _translated(self, error: KafkaException, what: str) -> PlacetError:
        reason: KafkaError = error.args[0]
        if reason.code() in _UNREACHABLE:
            return self._unreachable(f"could not {what}: {reason.str()}")
        if reason.code() in _FORBIDDEN:
            return SettingsError(f"The broker does not let this client {what}: {reason.str()}. Grant it the right.")
        return SettingsError(f"The broker refused to {what}: {reason.str()}")

    def _unreachable(self, what: str) -> BrokerUnreachable:
        self._client.poll(0)  # serves error_cb, which tells why
        last = f" Last seen: {self._seen[-1]}." if self._seen else ""
        return BrokerUnreachable(
            f"No Kafka broker answered at {self._options['bootstrap.servers']} within {self._timeout_s:g} s ({what})."
            f"{last} Is it running, and is PLACET_KAFKA__BOOTSTRAP_SERVERS right?"
        )

    def _note(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._seen.append(error.str())


def _made(make: Any, options: Mapping[str, object]) -> Any:
    """A client that says nothing on stderr by itself: what it sees comes through `error_cb`."""
    try:
        return make({**options, "logger": _SILENT})
    except (KafkaException, ValueError, TypeError) as error:
        raise SettingsError(f"librdkafka refuses its options: {error}. Look at PLACET_KAFKA__OPTIONS.") from error


def _topic_info(topic_id: object, partitions: Sequence[Any], configs: dict[str, str]) -> TopicInfo:
    return TopicInfo(
        topic_id=str(topic_id),
        partitions=len(partitions),
        replication_factor=min((len(partition.replicas) for partition in partitions), default=0),
        configs=configs,
        leaderless=sum(partition.leader is None or partition.leader.id < 0 for partition in partitions),
        under_replicated=sum(len(partition.isr) < len(partition.replicas) for partition in partitions),
    )
