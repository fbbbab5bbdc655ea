"""Topics that are deleted, made anew or changed under a running gate, on a real Kafka: it says so itself, by name."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import NewPartitions, NewTopic  # type: ignore[attr-defined]  # exported, but without __all__

from placet.devbroker.broker import Broker
from placet.devbroker.settings import free_port
from placet.streams.topology import control_topic
from tests.integration.gates import Gate, World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

LAMP = """
entity: lamp
version: 1
statuses: [lit]
fields: {watts: {type: long, default: 5}}
signals:
  changed: {payload: {watts: long}, from: [absent, lit], to: lit, copy: watts}
"""
NOTICED_S = 40
"""A question each two seconds, three of doubt where all brokers have to hear of it; a restore's ten; a slow machine."""
LOOKS_OFTEN = str(Path(__file__).with_name("gate_that_looks_often.py"))


@pytest.fixture
def world(broker: Broker, tmp_path: Path) -> Iterator[World]:
    file = tmp_path / "lamp.yaml"
    file.write_text(LAMP)
    with World(broker.bootstrap_servers, tmp_path, f"anew-{uuid4().hex[:8]}", file, partitions=1) as made:
        yield made


def at_work(world: World, **more: str) -> Gate:
    """A gate that has decided twenty signals."""
    gate = world.gate("a", program=[LOOKS_OFTEN], **more)
    for number in range(20):
        world.signal(f"l-{number}", "changed", {"watts": number}, f"s-{number}")
    world.flush()
    world.decided()
    return gate


def delete(world: World, topic: str) -> None:
    admin = world.admin()  # kept: a client that is gone answers nothing
    admin.delete_topics([topic], operation_timeout=20)[topic].result(20)


def make(world: World, topic: str, configs: dict[str, str]) -> None:
    """Make a topic as soon as the brokers have forgotten the one before."""
    deadline_s, admin = time.monotonic() + 30, world.admin()
    while True:
        try:
            admin.create_topics([NewTopic(topic, 1, 1, config=configs)])[topic].result(20)
        except KafkaException:
            assert time.monotonic() < deadline_s, f"{topic} can't be made anew"
            time.sleep(0.02)
        else:
            return


def why_stopped(gate: Gate) -> str:
    """Wait until the gate names its task, and return what it says. It goes on itself."""
    events = wait_until(lambda: gate.events("task stopped"), NOTICED_S, "the task stops by name")
    assert gate.process.poll() is None
    assert {event["task"] for event in events} == {"lamp-0"}
    return str(events[-1]["why"])


def test_signals_made_anew_under_a_running_gate_stop_its_task_by_name(world: World) -> None:
    """It read on behind the first twenty of them, and nobody was told, until the next restart."""
    gate = at_work(world)
    values = [
        (f"n-{number}".encode(), world.signal_bytes(f"n-{number}", "changed", {"watts": 1}, f"n-{number}"))
        for number in range(60)
    ]
    delete(world, world.topics.signals)
    make(world, world.topics.signals, {"message.timestamp.type": "LogAppendTime"})
    producer = Producer({"bootstrap.servers": world.bootstrap_servers, "linger.ms": 0})
    for key, value in values:
        producer.produce(world.topics.signals, value, key, 0)
    assert producer.flush(30) == 0
    why = why_stopped(gate)
    assert f"{world.topics.signals} was created anew: id " in why
    assert "--app" in why, "what to do"
    assert gate.terminate() == 0
    again = world.gate("a", attempt=2)
    assert "was created anew" in why_stopped(again), "it is no cure to start again"


@pytest.mark.parametrize("role", ["control", "decisions", "ledger"])
def test_a_topic_that_is_deleted_under_a_running_gate_stops_its_task_by_name(world: World, role: str) -> None:
    gate = at_work(world)
    topic = control_topic(world.app) if role == "control" else getattr(world.topics, role)
    delete(world, topic)
    assert topic in why_stopped(gate)


def test_a_control_topic_made_anew_stops_the_task_of_a_running_gate_and_of_one_that_starts(world: World) -> None:
    gate = at_work(world)
    configs = {
        "message.timestamp.type": "LogAppendTime", "cleanup.policy": "compact",
        "min.compaction.lag.ms": str(2**63 - 1), "unclean.leader.election.enable": "false",
        "max.message.bytes": "1114124",
    }  # fmt: skip
    delete(world, control_topic(world.app))
    make(world, control_topic(world.app), configs)
    assert f"{control_topic(world.app)} was created anew" in why_stopped(gate)
    assert gate.terminate() == 0
    again = world.gate("a", attempt=2)
    why = why_stopped(again)
    assert f"{control_topic(world.app)} was created anew" in why
    assert "the ledger knows" in why


def test_added_partitions_stop_the_task_of_a_running_gate(world: World) -> None:
    gate = at_work(world)
    admin = world.admin()
    admin.create_partitions([NewPartitions(world.topics.signals, 2)])[world.topics.signals].result(20)
    assert f"{world.topics.signals} has 2 partitions, this gate knows 1" in why_stopped(gate)


def faults(port: int) -> list[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return [line for line in lines if line.startswith("placet_topic_faults{")]


def test_a_clean_up_policy_that_was_changed_is_told_until_it_is_put_back_and_the_gate_goes_on(world: World) -> None:
    port = free_port()
    gate = at_work(world, PLACET_METRICS_PORT=str(port))
    world.alter(world.topics.changelog, "cleanup.policy", "delete")
    [told] = wait_until(lambda: gate.events("topic is not as it must be"), NOTICED_S, "the gate tells")
    assert told["topic"] == world.topics.changelog
    assert "cleanup.policy is delete, must be compact" in told["why"]
    wait_until(lambda: faults(port), 10, "the metric shows it")
    world.signal("l-99", "changed", {"watts": 9}, "s-99")
    world.flush()
    world.decided()
    world.alter(world.topics.changelog, "cleanup.policy", "compact")
    wait_until(lambda: not faults(port), NOTICED_S, "the metric shows it no more")
    assert gate.events("task stopped") == []
    assert gate.terminate() == 0
