"""What a scenario may use: a Kafka, real or simulated, and the client calls that a gate makes.

A scenario asserts only what a client sees: records, offsets, codes, callbacks. So it runs unchanged on both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Protocol
from uuid import uuid4

from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from placet.devbroker.broker import Broker
from placet.streams.host import LocalHost
from placet.streams.kafka.client_errors import kafka_errors_ignored
from placet.streams.kafka.clients import AdminCalls, Clients, ConsumerCalls
from placet.streams.runtime import Runtime
from tests.contract.kafka.heartbeat import leave_for
from tests.contract.kafka.wire import Wire

__all__ = ["KafkaUnderTest", "RealKafka", "wait_until"]

_CALL_S = 20.0
_LOOK_EVERY_S = 0.02


class KafkaUnderTest(Protocol):
    """One broker with KIP-848 groups, and a host to make clients on."""

    @property
    def clients(self) -> Clients:
        """The host: time, threads, clients. Clients that a scenario leaves open are closed after it."""
        ...

    @property
    def options(self) -> dict[str, Any]:
        """What every client needs: `bootstrap.servers`. A new dict each time."""
        ...

    @property
    def admin(self) -> AdminCalls:
        """An admin client for a scenario's questions. It outlives the scenario."""
        ...

    def new_topic(self, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
        """Create a topic of a name that no other scenario has; its leaders answer when this returns."""
        ...

    def new_name(self, prefix: str) -> str:
        """Return a name for a group or transactional id that no other scenario has."""
        ...

    def until(self, condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
        """Ask again and again, with short sleeps, until it holds. AssertionError where it does not in time."""
        ...

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Remove the first records of a log: it then starts at `before_offset`."""
        ...

    def recreate(self, topic: str) -> None:
        """Delete a topic and make it anew, with as many partitions and another id."""
        ...

    def delete(self, topic: str) -> None:
        """Delete a topic; brokers may know it for a moment longer."""
        ...

    def add_partitions(self, topic: str, partitions: int) -> None:
        """Let a topic have this many partitions; brokers may hear of it a moment later."""
        ...

    def remove_member(self, group: str, member_id: str) -> None:
        """Let a member of a group be out of it, as if its session had ended; nobody tells it."""
        ...

    def pause_broker(self) -> None:
        """The broker hears and says nothing more; connections stay open."""
        ...

    def resume_broker(self) -> None:
        """The broker goes on, with what it was sent meanwhile. No-op where it is not paused."""
        ...

    def break_next(self, what: str, late_s: float) -> None:
        """Break the connection of the next request of a kind, once it was sent; it arrives so much later."""
        ...


def wait_until(runtime: Runtime, condition: Callable[[], Any], timeout_s: float) -> None:
    """Ask again and again until it holds, by a host's own clock. AssertionError where it does not in time."""
    deadline_s = runtime.monotonic_s() + timeout_s
    while not condition():
        assert runtime.monotonic_s() < deadline_s, f"it did not come true in {timeout_s:g} s"
        runtime.sleep(_LOOK_EVERY_S)


class RealKafka:
    """The real one: this machine, and a broker that a fixture started, with a wire between them or without.

    One admin client serves all scenarios: the first list of offsets that a new one is asked for takes three seconds in
    one of ten cases, with librdkafka 2.16.
    """

    def __init__(self, broker: Broker, wire: Wire | None = None) -> None:
        self._broker = broker
        self._wire = wire
        self._host = _ClosingHost()
        self._admin = AdminClient(self.options)
        self._numbers = count()
        self._run = uuid4().hex[:8]
        self._paused = False

    @property
    def clients(self) -> Clients:
        return self._host

    @property
    def options(self) -> dict[str, Any]:
        wire = self._wire
        return {"bootstrap.servers": wire.bootstrap_servers if wire else self._broker.bootstrap_servers}

    @property
    def admin(self) -> AdminCalls:
        return self._admin

    def new_topic(self, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
        topic = self.new_name("topic")
        self._create(topic, partitions, configs or {})
        return topic

    def new_name(self, prefix: str) -> str:
        return f"{prefix}-{self._run}-{next(self._numbers)}"

    def until(self, condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
        wait_until(self._host, condition, timeout_s)

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        at = ClientPartition(topic, partition, before_offset)
        self._admin.delete_records([at], request_timeout=_CALL_S)[at].result(_CALL_S)

    def recreate(self, topic: str) -> None:
        partitions = len(self._admin.list_topics(topic, timeout=_CALL_S).topics[topic].partitions)
        self.delete(topic)
        self._create(topic, partitions, {})

    def delete(self, topic: str) -> None:
        self._admin.delete_topics([topic], operation_timeout=_CALL_S)[topic].result(_CALL_S)

    def add_partitions(self, topic: str, partitions: int) -> None:
        self._admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(_CALL_S)

    def remove_member(self, group: str, member_id: str) -> None:
        assert leave_for(self._broker.bootstrap_servers, group, member_id) == 0

    def pause_broker(self) -> None:
        self._broker.pause()
        self._paused = True

    def resume_broker(self) -> None:
        if self._paused:
            self._broker.resume()
            self._paused = False

    def break_next(self, what: str, late_s: float) -> None:
        assert self._wire is not None, "clients come through a wire"
        self._wire.break_next(what, late_s)

    def tidy(self) -> None:
        """Let the broker go on, and close the consumers that the scenario left open."""
        self.resume_broker()
        self._host.close()

    def _create(self, topic: str, partitions: int, configs: Mapping[str, str]) -> None:
        new = NewTopic(topic, partitions, 1, config=dict(configs))
        self._admin.create_topics([new], operation_timeout=_CALL_S)[topic].result(_CALL_S)
        self.until(lambda: self._led(topic, partitions))

    def _led(self, topic: str, partitions: int) -> bool:
        """Tell whether each partition's leader answers: right after it is named, it may say that it is none.

        The client is made to look the leaders up first. Of itself it goes on for very long to believe that there are
        none, once it has asked for the offsets of a topic that the broker had not heard of yet.
        """
        self._admin.list_topics(topic, timeout=_CALL_S)
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the client's own gap
        asked = {ClientPartition(topic, partition): latest for partition in range(partitions)}
        try:
            futures = self._admin.list_offsets(asked, request_timeout=_CALL_S)
            return all(future.result(_CALL_S).offset >= 0 for future in futures.values())
        except KafkaException:
            return False


class _ClosingHost(LocalHost):
    """The real host, which remembers its consumers: the test closes them."""

    def __init__(self) -> None:
        self._consumers: list[ConsumerCalls] = []

    def consumer(self, options: Mapping[str, Any], /) -> ConsumerCalls:
        made = super().consumer(options)
        self._consumers.append(made)
        return made

    def close(self) -> None:
        for consumer in self._consumers:
            with kafka_errors_ignored():
                consumer.close()
        self._consumers.clear()
