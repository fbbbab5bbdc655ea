"""What an operator asks a cluster: topics, offsets, settings, clocks. The only user of Kafka's AdminClient.

Every call has a time limit. A broker that does not answer is `BrokerUnreachable`, with the address that was tried and
the last thing that librdkafka saw; what the broker refuses is a `SettingsError` with its own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, Self, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but without __all__
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from placet.schemas.errors import PlacetError, SettingsError
from placet.streams.kafka.admin_errors import ABSENT, TOO_OLD, UNREACHABLE, BrokerUnreachable, LastSeen, refusal
from placet.streams.kafka.broker_clock import BrokerClock, made
from placet.streams.kafka.client_errors import kafka_errors_ignored
from placet.streams.kafka.clients import AdminCalls, Clients
from placet.streams.kafka.cluster import ClockReading, Cluster, TopicInfo, configs_of, topic_info
from placet.streams.kafka.questions import ask_configs, ask_offsets, ask_topics
from placet.streams.records import TopicPartition

__all__ = ["Admin", "BrokerUnreachable", "ClockReading", "Cluster", "TopicInfo"]

Result = TypeVar("Result")

_CALL_TIMEOUT_S: Final = 10.0
_GRACE_S: Final = 2.0
_TRY_S: Final = 4.0
_PAUSE_S: Final = 0.2
_LEADER_TRY_S: Final = 2.0
"""Of one question to a leader. librdkafka does not look for another one while it waits for this."""
_LEADERS: Final = {"topic.metadata.refresh.interval.ms": "1000", "metadata.max.age.ms": "3000"}  # see `ask_offsets`


class Admin:
    """A cluster's front desk.

    Args:
        clients: makes the clients.
        options: librdkafka's options, `Settings.librdkafka()`.
        timeout_s: limit of each call, in seconds. Within it, who gets no answer is asked again by a client of its own,
            which knows nothing of before: a controller or leader that went away is replaced after some seconds.

    Raises:
        SettingsError: librdkafka refuses an option.
    """

    def __init__(self, clients: Clients, options: Mapping[str, str], timeout_s: float = _CALL_TIMEOUT_S) -> None:
        self.clients = clients
        self._options = {**options, **_LEADERS}
        self._timeout_s = timeout_s
        self._try_s = min(timeout_s, _TRY_S)
        self._seen = LastSeen()
        self._client = self._new_client()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self, topics: Iterable[str] = ()) -> None:
        """Wait until a broker has answered, then until leaders of topics are known; one try each.

        One of ten new clients loses the first offsets that it is asked for while it connects (librdkafka 2.16). And the
        question that brings the leaders has to be asked alone, see `ask_offsets`.
        """
        with kafka_errors_ignored():  # what is asked next will say it
            self.clients.wait([self._client.describe_cluster(request_timeout=self._try_s)], self._try_s)
            self.clients.wait(self.ask_ends(TopicPartition(topic, 0) for topic in topics).values(), self._try_s)

    def close(self) -> None:
        """Give the connections back."""
        self._client.__exit__(None, None, None)

    def cluster(self) -> Cluster:
        """Return the cluster's id and its brokers."""
        found = self._tried(
            lambda: self._result(self._client.describe_cluster(request_timeout=self._try_s), "describe the cluster")
        )
        return Cluster(found.cluster_id or "", {node.id: f"{node.host}:{node.port}" for node in found.nodes})

    def cluster_id(self) -> str:
        """Return the id that the cluster was formatted with."""
        return self.cluster().cluster_id

    def describe_topics(self, names: Iterable[str]) -> dict[str, TopicInfo]:
        """Return what there is of these topics; a missing one is left out."""
        asked = list(dict.fromkeys(names))
        if not asked:
            return {}

        def described() -> dict[str, Any]:
            futures = self._client.describe_topics(TopicCollection(asked), request_timeout=self._try_s)
            found = {
                name: self._result_or_none(future, f"describe topic {name}", ABSENT) for name, future in futures.items()
            }
            return {name: description for name, description in found.items() if description is not None}

        found = self._tried(described)
        configs = self._configs(ResourceType.TOPIC, found)
        return {name: topic_info(found[name].topic_id, found[name].partitions, configs[name]) for name in configs}

    def ask_topics(self, names: Iterable[str]) -> dict[str, Future[TopicInfo]]:
        """Ask for these topics as they are, but for their settings, without waiting. Returns as `ask_ends` does."""
        return ask_topics(self._client, names, self._try_s)

    def ask_configs(self, names: Iterable[str]) -> dict[str, Future[dict[str, str]]]:
        """Ask for the settings of these topics, without waiting. Returns as `ask_ends` does."""
        return ask_configs(self._client, names, self._try_s)

    def create_topic(
        self, name: str, partitions: int, *, replication_factor: int = -1, configs: Mapping[str, str] | None = None
    ) -> bool:
        """Create a topic. Returns False when it is there already; -1 replicas means as many as the broker's default."""
        topic = NewTopic(name, partitions, replication_factor, config=dict(configs or {}))
        limits = {"operation_timeout": self._try_s, "request_timeout": self._try_s + _GRACE_S}
        try:
            self._tried(lambda: self._raw_result(self._client.create_topics([topic], **limits)[name]))
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
        return self._configs(ResourceType.GROUP, [group], TOO_OLD).get(group, {})

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

    def ask_ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        """Ask for the end of each log, its high watermark, without waiting.

        Returns:
            A future for each. It holds an answer, `LogUnreachable` or `SettingsError` within two seconds.
        """
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the client's own gap
        return self._ask(partitions, latest, IsolationLevel.READ_UNCOMMITTED)

    def earliest_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the first offset that each log still has."""
        earliest = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # the client's own gap
        return self._offsets(partitions, earliest, read_uncommitted=True)

    def ask_starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        """Ask for the first offset that each log still has, without waiting. Returns as `ask_ends` does."""
        earliest = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # the client's own gap
        return self._ask(partitions, earliest, IsolationLevel.READ_UNCOMMITTED)

    def ask_newest(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        """Ask for the record appended last, by its time (KIP-734), without waiting. Returns as `ask_ends` does.

        -1 where not all replicas in sync have it, so that nobody can read it yet, or where there is no record.
        """
        newest = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]  # the client's own gap
        return self._ask(partitions, newest, IsolationLevel.READ_UNCOMMITTED, -1)

    def measure_clock(self, topic: str, transactional_id: str) -> ClockReading:
        """Read the broker's clock, as it stamps records of a LogAppendTime topic.

        No Kafka request just asks for the time. So records are written in a transaction that is aborted: no reader of
        committed records ever sees them, and it is a test of the right to write in transactions too.

        Args:
            topic: partition 0 of it gets the records.
            transactional_id: one that no gate uses.

        Raises:
            SettingsError: the topic has no LogAppendTime, or transactions are refused.
            BrokerUnreachable: no answer in time.
        """
        clock = BrokerClock(self.clients, self._options, self._timeout_s, self._seen)
        try:
            return clock.read(topic, transactional_id)
        except KafkaException as error:
            raise self._translated(error, f"write to {topic} in a transaction") from error
        except TimeoutError as error:
            raise self._unreachable(str(error)) from error

    def coordinator_and_members(self, group: str) -> tuple[int, list[Any]]:
        """Return the broker id of a consumer group's coordinator, and the members that it lists.

        A member has `member_id`, `client_id` and `host`. Asked once, for two seconds.
        """
        future = self._client.describe_consumer_groups([group], request_timeout=_GRACE_S)[group]
        described = self._result(future, f"describe group {group}")
        return described.coordinator.id, list(described.members)

    def _configs(
        self, kind: ResourceType, names: Iterable[str], absent: frozenset[int] = ABSENT
    ) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(kind, name) for name in names]
        if not resources:
            return {}

        def described() -> dict[str, Any]:
            futures = self._client.describe_configs(resources, request_timeout=self._try_s)
            return {
                resource.name: self._result_or_none(future, f"describe {kind.name.lower()} {resource.name}", absent)
                for resource, future in futures.items()
            }

        found = self._tried(described)
        return {name: configs_of(entries) for name, entries in found.items() if entries is not None}

    def _alter(self, kind: ResourceType, name: str, changes: Mapping[str, str]) -> None:
        entries = [ConfigEntry(key, to, incremental_operation=AlterConfigOpType.SET) for key, to in changes.items()]
        resource = ConfigResource(kind, name, incremental_configs=entries)

        def altered() -> None:
            futures = self._client.incremental_alter_configs([resource], request_timeout=self._try_s)
            self._result(futures[resource], f"change {', '.join(changes)} of {kind.name.lower()} {name}")

        self._tried(altered)

    def _offsets(
        self, partitions: Iterable[TopicPartition], spec: OffsetSpec, *, read_uncommitted: bool
    ) -> dict[TopicPartition, int]:
        level = IsolationLevel.READ_UNCOMMITTED if read_uncommitted else IsolationLevel.READ_COMMITTED
        found: dict[TopicPartition, int] = {}
        asked = list(partitions)

        def ask() -> None:
            answers = self._ask([partition for partition in asked if partition not in found], spec, level)
            for partition, answer in answers.items():
                with suppress(BrokerUnreachable):
                    found[partition] = self._raw_result(answer)
            if found.keys() != set(asked):
                raise self._leaderless([partition for partition in asked if partition not in found])

        self._tried(ask)
        return found

    def _ask(
        self, partitions: Iterable[TopicPartition], spec: OffsetSpec, level: IsolationLevel, least: int = 0
    ) -> dict[TopicPartition, Future[int]]:
        return ask_offsets(self._client, partitions, spec, level, min(self._timeout_s, _LEADER_TRY_S), least)

    def _leaderless(self, partitions: list[TopicPartition]) -> BrokerUnreachable:
        """Say which broker it is that does not answer: the others do."""
        named = ", ".join(f"{topic}-{number}" for topic, number in partitions)
        with kafka_errors_ignored():
            metadata = self._client.list_topics(partitions[0].topic, _GRACE_S)
            leader = metadata.topics[partitions[0].topic].partitions[partitions[0].partition].leader
            broker = metadata.brokers.get(leader)
            who = f"broker {leader} ({broker.host}:{broker.port}), does not answer" if broker else "is not elected"
            return BrokerUnreachable(
                f"{named}: the leader, {who}; others do. Asked for {self._timeout_s:g} s: is that broker "
                "running, and were enough of its replicas in sync to elect another?"
            )
        return self._unreachable(f"no answer from the leader of {named}")

    def _tried(self, ask: Callable[[], Result]) -> Result:
        deadline_s = self.clients.monotonic_s() + self._timeout_s
        while True:
            try:
                return ask()
            except BrokerUnreachable:
                if self.clients.monotonic_s() + self._try_s > deadline_s:
                    raise
                self.clients.sleep(_PAUSE_S)
                self._client = self._new_client()

    def _new_client(self) -> AdminCalls:
        return made(self.clients.admin, {**self._options, "error_cb": self._seen})

    def _raw_result(self, future: Future[Result]) -> Result:
        if not self.clients.wait([future], self._try_s + 2 * _GRACE_S):
            raise self._unreachable("no answer")
        return future.result()

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
        if reason.code() in UNREACHABLE:
            return self._unreachable(f"could not {what}: {reason.str()}")
        return refusal(reason, what)

    def _unreachable(self, what: str) -> BrokerUnreachable:
        self._client.poll(0)  # serves error_cb, which tells why
        last = f" Last seen: {self._seen.what}." if self._seen.what else ""
        return BrokerUnreachable(
            f"No Kafka broker answered at {self._options['bootstrap.servers']} within {self._timeout_s:g} s ({what})."
            f"{last} Is it running, and is the address right (--bootstrap-servers or KAFKA_BOOTSTRAP_SERVERS)?"
        )
