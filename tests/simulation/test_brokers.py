"""What is left of a simulated cluster when most of its brokers are away. The contract's brokers are one."""

from __future__ import annotations

from confluent_kafka import KafkaError

from placet.simulation.brokers.cluster import OK, SimulatedCluster
from placet.simulation.brokers.network import Sender
from placet.simulation.choices import Choices
from placet.simulation.disk import SimulatedDisk
from placet.simulation.host import SimulatedHost
from placet.simulation.scheduler import Process, Scheduler

AT = ("topic", 0)


class ThreeBrokers:
    def __init__(self) -> None:
        choices = Choices(1)
        self.scheduler = Scheduler(choices)
        self.cluster = SimulatedCluster(self.scheduler)
        self.cluster.create_topic(AT[0], 1, {"min.insync.replicas": "2"})
        self.process = Process("client")
        self.host = SimulatedHost(self.scheduler, self.process, SimulatedDisk(choices), 0, self.cluster)
        self.codes: list[int] = []

    def after(self, seconds: float) -> None:
        until_ns = self.scheduler.now_ns + round(seconds * 1e9)
        self.scheduler.later(until_ns - self.scheduler.now_ns, lambda: None)
        self.scheduler.run(lambda: self.scheduler.now_ns >= until_ns, seconds + 1)

    def ask_coordinator(self, what: str) -> int:
        self.codes.clear()
        self.cluster.ask_transaction_coordinator(
            Sender(self.process, what), lambda reply: reply(OK, None), lambda code, _: self.codes.append(code), 10**9
        )
        self.after(2)
        return self.codes[0]


def test_one_of_three_takes_no_writes_and_what_it_has_is_not_led_by_another() -> None:
    world = ThreeBrokers()
    cluster, found = world.cluster, world.cluster.partition(AT)
    assert found is not None
    last = found.replicas[2]
    for number in found.replicas[:2]:
        cluster.stop(number)
    world.after(5)
    assert (found.leader, found.in_sync, found.takes_writes) == (last, {last}, False)
    assert world.ask_coordinator("EndTxn") == KafkaError.COORDINATOR_NOT_AVAILABLE
    assert world.ask_coordinator("OffsetFetch") == OK

    cluster.stop(last)
    world.after(5)
    cluster.go_on(found.replicas[0])
    world.after(5)
    assert (found.leader, found.in_sync) == (-1, {last}), "an unclean leader would forget what was committed"

    cluster.go_on(last)
    world.after(5)
    assert (found.leader, found.in_sync, found.takes_writes) == (last, {last, found.replicas[0]}, True)
    assert world.ask_coordinator("EndTxn") == OK


def test_what_waits_for_replicas_is_delivered_once_they_are_back() -> None:
    world = ThreeBrokers()
    found = world.cluster.partition(AT)
    assert found is not None
    for number in found.replicas[:2]:
        world.cluster.stop(number)
    world.after(5)
    told: list[object] = []

    def produce() -> None:
        producer = world.host.producer({})
        producer.produce(AT[0], b"value", b"key", 0, lambda error, _: told.append(error))
        producer.flush(20.0)

    world.scheduler.spawn(world.process, "produces", produce)
    world.after(5)
    assert (told, found.log.end) == ([], 0)
    world.cluster.go_on(found.replicas[0])
    world.after(5)
    assert (told, found.log.high_watermark) == ([None], 1)
