"""A simulated admin client: questions and their futures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaError, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from placet.simulation.brokers.cluster import NOT_LEADER, OK, SimulatedCluster
from placet.simulation.brokers.network import TRANSPORT, Reply, Sender
from placet.simulation.clients.future import SimulatedFuture
from placet.simulation.clients.message import failure
from placet.simulation.clients.questions import any_broker, asked, metadata
from placet.simulation.scheduler import Process

__all__ = ["SimulatedAdmin"]

_RETRY_NS: Final = 100_000_000
_TOPIC_NAME: Final = re.compile("[a-zA-Z0-9._-]{1,249}")
_TOPIC_DEFAULTS: Final = {
    "cleanup.policy": "delete",
    "delete.retention.ms": "86400000",
    "max.compaction.lag.ms": str((1 << 63) - 1),
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "min.compaction.lag.ms": "0",
    "min.insync.replicas": "1",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
}
_LATEST: Final = -1
_NEWEST: Final = -3
_AGAIN: Final = frozenset({
    TRANSPORT, int(KafkaError.NOT_COORDINATOR), int(KafkaError.COORDINATOR_LOAD_IN_PROGRESS),
})  # fmt: skip


class SimulatedAdmin:
    """See `placet.streams.kafka.clients.AdminCalls`.

    Args:
        cluster: whom it asks.
        process: whose client it is.
        options: librdkafka's.
    """

    def __init__(self, cluster: SimulatedCluster, process: Process, options: Mapping[str, Any]) -> None:
        self._cluster = cluster
        self._process = process
        self._options = options
        self._closed = False

    def describe_cluster(self, *, request_timeout: float) -> Future[Any]:
        """See `AdminCalls`."""
        nodes = [*map(_node, self._cluster.network.nodes)]
        look = partial(SimpleNamespace, cluster_id=self._cluster.cluster_id, nodes=nodes)
        return self._ask({"": look}, request_timeout)[""]

    def describe_topics(self, topics: Any, /, *, request_timeout: float) -> dict[str, Future[Any]]:
        """See `AdminCalls`."""
        return self._ask({name: partial(self._topic, name) for name in topics.topic_names}, request_timeout)

    def create_topics(
        self,
        topics: list[Any],
        /,
        *,
        operation_timeout: float,  # noqa: ARG002
        request_timeout: float,
    ) -> dict[str, Future[Any]]:
        """See `AdminCalls`."""

        def create(topic: Any) -> None:
            if topic.topic in self._cluster.topics:
                raise failure(KafkaError.TOPIC_ALREADY_EXISTS)
            if not _TOPIC_NAME.fullmatch(topic.topic):
                raise failure(KafkaError.TOPIC_EXCEPTION)
            if topic.replication_factor > len(self._cluster.network.nodes):
                raise failure(KafkaError.INVALID_REPLICATION_FACTOR)
            self._cluster.create_topic(topic.topic, topic.num_partitions, dict(topic.config or {}))

        return self._ask({topic.topic: partial(create, topic) for topic in topics}, request_timeout)

    def describe_configs(self, resources: list[Any], /, *, request_timeout: float) -> dict[Any, Future[Any]]:
        """See `AdminCalls`: nothing at all is a mistake, as with topics to create, settings to change, and groups."""
        if not resources:
            raise ValueError("Expected non-empty list of ConfigResource objects")
        return self._ask({one: partial(self._configs, one) for one in resources}, request_timeout)

    def incremental_alter_configs(self, resources: list[Any], /, *, request_timeout: float) -> dict[Any, Future[Any]]:
        """See `AdminCalls`."""

        def alter(resource: Any) -> None:
            entries = {entry.name: str(entry.value) for entry in resource.incremental_configs}
            if not entries.keys() <= self._configs(resource).keys():
                raise failure(KafkaError.INVALID_CONFIG)
            if resource.restype.name == "TOPIC":
                self._cluster.topics[resource.name].configs.update(entries)
            else:
                self._cluster.group(resource.name).settings.update(entries)

        return self._ask({one: partial(alter, one) for one in resources}, request_timeout)

    def list_offsets(
        self, partitions: dict[ClientPartition, Any], /, *, isolation_level: Any, request_timeout: float
    ) -> dict[ClientPartition, Future[Any]]:
        """See `AdminCalls`: amid an election the answer may be -1001, without an error."""
        committed = isolation_level is IsolationLevel.READ_COMMITTED
        return {
            partition: self._offset(partition, request_timeout, spec._value, committed=committed)
            for partition, spec in partitions.items()
        }

    def _offset(self, partition: ClientPartition, timeout_s: float, which: int, *, committed: bool) -> Future[Any]:
        at = (partition.topic, partition.partition)
        if self._cluster.partition(at) is None:
            absent = SimulatedFuture()
            absent.set_exception(failure(KafkaError._NOENT))
            return absent
        former = self._cluster.former_view(at)
        if former is not None and self._cluster.choices.pick(2) == 0:  # the client has found the broker that is cut off
            told = {_LATEST: former.last_stable_offset if committed else former.high_watermark, _NEWEST: former.newest}
            found = SimpleNamespace(offset=told.get(which, former.start))
            answer = SimulatedFuture()
            self._cluster.scheduler.later(
                self._cluster.network.latency_ns(), partial(answer.set_result, found), self._process
            )
            return answer
        number = self._cluster.leader_of(at)

        def handle(reply: Reply) -> None:
            found = self._cluster.partition(at)
            if found is None or found.leader != number:
                reply(NOT_LEADER, None)
                return
            log = found.log
            end = log.last_stable_offset if committed else log.high_watermark
            if which == _NEWEST:
                newest = log.newest()
                reply(OK, SimpleNamespace(offset=newest if newest < end else -1))
            else:
                reply(OK, SimpleNamespace(offset=end if which == _LATEST else log.start))

        return self._send(
            partial(self._cluster.network.send, Sender(self._process, "ListOffsets", at), number, handle),
            timeout_s,
            amid_election=True,
        )

    def describe_consumer_groups(self, group_ids: list[str], /, *, request_timeout: float) -> dict[str, Future[Any]]:
        """See `AdminCalls`."""

        def describe(name: str, reply: Reply) -> None:
            members = [
                SimpleNamespace(
                    member_id=one.member_id,
                    client_id=one.client_id,
                    host=one.host,
                    group_instance_id=one.instance_id or None,
                    assignment=SimpleNamespace(topic_partitions=[ClientPartition(*at) for at in sorted(one.owned)]),
                )
                for one in self._cluster.group(name).members.values()
            ]
            coordinator = SimpleNamespace(id=self._cluster.group_coordinator)
            reply(OK, SimpleNamespace(members=members, coordinator=coordinator))

        ask = partial(self._cluster.ask_group_coordinator, Sender(self._process, "ConsumerGroupDescribe"))
        return {name: self._send(partial(ask, partial(describe, name)), request_timeout) for name in group_ids}

    def list_topics(self, topic: str = "", timeout: float = -1.0, /) -> Any:
        """See `AdminCalls`."""
        self._use()
        ask = partial(self._cluster.network.send, Sender(self._process, "Metadata"), any_broker(self._cluster))
        return asked(
            self._cluster, self._process, ask, lambda reply: reply(OK, metadata(self._cluster, topic)), timeout
        )

    def poll(self, _timeout: float = 0.0, /) -> int:
        """See `AdminCalls`."""
        self._use()
        return 0

    def __exit__(self, *_: Any) -> None:
        """See `AdminCalls`."""
        self._process.check()
        self._closed = True

    # -- inside --------------------------------------------------------------------------------------------------------

    def _use(self) -> None:
        self._process.check()
        if self._closed:
            raise RuntimeError("Handle has been terminated")

    def _topic(self, name: str) -> Any:
        found = self._cluster.topics.get(name)
        if found is None:
            raise failure(KafkaError.UNKNOWN_TOPIC_OR_PART)
        return SimpleNamespace(
            name=name,
            is_internal=False,
            topic_id=found.topic_id,
            partitions=[
                SimpleNamespace(
                    id=number, leader=_node(one.leader), replicas=[*map(_node, one.replicas)],
                    isr=[*map(_node, sorted(one.in_sync))],
                )
                for number, one in enumerate(found.partitions)
            ],
        )  # fmt: skip

    def _configs(self, resource: Any) -> dict[str, Any]:
        kind = resource.restype.name
        if kind == "TOPIC":
            if resource.name not in self._cluster.topics:
                raise failure(KafkaError.UNKNOWN_TOPIC_OR_PART)
            found = _TOPIC_DEFAULTS | self._cluster.topics[resource.name].configs
        elif kind == "GROUP":
            found = self._cluster.group(resource.name).settings
        else:
            found = {"transaction.max.timeout.ms": "900000"}
        return {name: _entry(name, value) for name, value in found.items()}

    def _ask(self, looks: Mapping[Any, Callable[[], Any]], timeout_s: float) -> dict[Any, Future[Any]]:
        """Ask any broker that works, in one request; each thing that is asked for has its own answer."""
        answers: dict[Any, Future[Any]] = {name: SimulatedFuture() for name in looks}

        def handle(reply: Reply) -> None:
            reply(OK, {name: _looked(look) for name, look in looks.items()})

        def hand_on(asked: Future[Any]) -> None:
            failed = asked.exception()
            for name, answer in answers.items():
                found = failed or asked.result()[name]
                if isinstance(found, BaseException):
                    answer.set_exception(found)
                else:
                    answer.set_result(found)

        number = any_broker(self._cluster)
        send = partial(self._cluster.network.send, Sender(self._process, "Describe"), number, handle)
        self._send(send, timeout_s).add_done_callback(hand_on)
        return answers

    def _send(self, ask: Callable[[Any, int], None], timeout_s: float, *, amid_election: bool = False) -> Future[Any]:
        self._use()
        answer = SimulatedFuture()
        scheduler, timeout_ns = self._cluster.scheduler, round(timeout_s * 1e9)
        limit_ns = scheduler.now_ns + timeout_ns

        def replied(code: int, value: Any) -> None:
            if answer.done():
                return
            if code == OK:
                answer.set_result(value)
            elif code == NOT_LEADER and amid_election and self._cluster.choices.pick(3) == 0:
                answer.set_result(SimpleNamespace(offset=-1001))
            elif code in _AGAIN and scheduler.now_ns + _RETRY_NS < limit_ns:
                again_ns = max(1, limit_ns - scheduler.now_ns)
                scheduler.later(_RETRY_NS, lambda: ask(replied, again_ns), self._process)
            else:
                answer.set_exception(failure(code))

        ask(replied, timeout_ns)
        return answer


def _looked(look: Callable[[], Any]) -> Any:
    """Return what is there, or the error that the broker has instead."""
    try:
        return look()
    except KafkaException as error:
        return error


@lru_cache(maxsize=1_024)
def _entry(name: str, value: str) -> Any:
    return SimpleNamespace(name=name, value=value)


@lru_cache(maxsize=16)
def _node(number: int) -> Any:
    return SimpleNamespace(id=number, host="broker", port=number)
