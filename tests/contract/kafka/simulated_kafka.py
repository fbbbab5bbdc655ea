"""The simulated Kafka under the same scenarios: one broker, one process, in which a scenario is the main thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, cast

from placet.simulation.brokers.cluster import SimulatedCluster
from placet.simulation.brokers.network import Fate, Sender
from placet.simulation.choices import Choices
from placet.simulation.disk import SimulatedDisk
from placet.simulation.host import SimulatedHost
from placet.simulation.scheduler import Process, Scheduler
from placet.streams.kafka.clients import AdminCalls, Clients
from tests.contract.kafka.under_test import KafkaUnderTest, wait_until

__all__ = ["SimulatedKafka", "holds"]

_LIMIT_S = 300.0
_DELETION_S = 0.5


class SimulatedKafka:
    """See `KafkaUnderTest`.

    Args:
        seed: of what happens.
    """

    def __init__(self, seed: int) -> None:
        self.scheduler = Scheduler(Choices(seed))
        self.process = Process("scenario")
        self._cluster = SimulatedCluster(self.scheduler, brokers=1)
        self._host = SimulatedHost(
            self.scheduler, self.process, SimulatedDisk(self.scheduler.choices), cluster=self._cluster
        )
        self._admin = self._host.admin(self.options)
        self._numbers = count()

    @property
    def clients(self) -> Clients:
        return cast("Clients", self._host)

    @property
    def options(self) -> dict[str, Any]:
        return {"bootstrap.servers": "broker:1"}

    @property
    def admin(self) -> AdminCalls:
        return self._admin

    def new_topic(self, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
        name = self.new_name("topic")
        self._cluster.create_topic(name, partitions, dict(configs or {}))
        return name

    def new_name(self, prefix: str) -> str:
        return f"{prefix}-{next(self._numbers)}"

    def until(self, condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
        wait_until(self._host, condition, timeout_s)

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        self._cluster.log((topic, partition)).cut_start(before_offset)

    def recreate(self, topic: str) -> None:
        before = self._cluster.topics[topic]
        self._cluster.delete_topic(topic)
        self._host.sleep(_DELETION_S)
        self._cluster.create_topic(topic, len(before.partitions), {})

    def delete(self, topic: str) -> None:
        self._cluster.delete_topic(topic)

    def add_partitions(self, topic: str, partitions: int) -> None:
        self._cluster.add_partitions(topic, partitions)

    def remove_member(self, group: str, member_id: str) -> None:
        found = self._cluster.group(group)
        found.heartbeat(found.members[member_id], -1, None)

    def pause_broker(self) -> None:
        self._cluster.network.nodes[1].silent = True

    def resume_broker(self) -> None:
        if self._cluster.network.nodes[1].silent:
            self._cluster.go_on(1)

    def break_next(self, what: str, late_s: float) -> None:
        network = self._cluster.network
        usual = network.fate_of

        def fate_of(sender: Sender, number: int) -> Fate:
            if sender.what != what:
                return usual(sender, number)
            network.fate_of = usual
            return Fate(answered=False, breaks=True, late_ns=round(late_s * 1e9))

        network.fate_of = fate_of


def holds(scenario: Callable[[KafkaUnderTest], None], seed: int) -> None:
    """Run a scenario in a world of its own.

    Raises:
        AssertionError: it does not hold there.
        StandsStill: it does not end.
    """
    kafka, ended = SimulatedKafka(seed), list[BaseException | None]()

    def run() -> None:
        try:
            scenario(kafka)
        except Exception as error:  # noqa: BLE001 - the thread's top: raised below
            ended.append(error)
        else:
            ended.append(None)

    kafka.scheduler.spawn(kafka.process, "main", run)
    kafka.scheduler.run(lambda: bool(ended), _LIMIT_S)
    if ended[0] is not None:
        raise ended[0]
