"""`placet topics` and `Admin` against a real Kafka: what is made is what is seen, and wrong topics stop a gate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka import TopicPartition as ClientPartition

from placet.cli.exit_codes import ExitCode
from placet.definitions import load_definition
from placet.devbroker.broker import Broker
from placet.schemas.errors import SettingsError
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin, BrokerUnreachable
from placet.streams.records import TopicPartition
from placet.streams.topics.configs import required_topics
from placet.streams.topics.plan import apply, observe, plan, verify
from tests.integration.gates import wait_until

pytestmark = pytest.mark.kafka

DEFINITION = Path(__file__).with_name("order.yaml")
ORDER = load_definition(DEFINITION)

Placet = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def app() -> str:
    """An app of its own for each test, on the shared broker."""
    return f"t{uuid4().hex[:8]}"


@pytest.fixture
def admin(broker: Broker) -> Iterator[Admin]:
    with Admin(LocalHost(), {"bootstrap.servers": broker.bootstrap_servers}) as it:
        yield it


@pytest.fixture
def placet(broker: Broker, app: str, tmp_path: Path) -> Placet:
    """Run `placet` as a process, as a user does, on the broker of the tests."""
    environment = {
        **os.environ,
        "PLACET_APP": app,
        "PLACET_DEFINITION": str(DEFINITION),
        "PLACET_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "PLACET_STATE_DIR": str(tmp_path / "state"),
    }

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "placet.cli", *arguments]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, timeout=60, check=False)

    return run


def produce(broker: Broker, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for number in range(count):
        producer.produce(topic, b"x", str(number).encode())
    assert producer.flush(30) == 0


def committed_records(broker: Broker, topic: str) -> int:
    consumer = Consumer({
        "bootstrap.servers": broker.bootstrap_servers, "group.id": "eyes", "enable.auto.commit": False,
        "isolation.level": "read_committed", "enable.partition.eof": True, "auto.offset.reset": "earliest",
    })  # fmt: skip
    consumer.assign([ClientPartition(topic, 0, 0)])
    records = 0
    while True:
        message = consumer.poll(30)
        assert message is not None, "no end within 30 s"
        error = message.error()
        if error is not None:
            assert error.code() == KafkaError._PARTITION_EOF
            consumer.close()
            return records
        records += 1


# -- the life of an app's topics -------------------------------------------------------------------------------------


def test_from_nothing_to_topics_that_a_gate_runs_on(placet: Placet, admin: Admin, app: str) -> None:
    assert placet("topics", "plan").returncode == ExitCode.DIFFERENCE
    assert placet("topics", "apply", "--dry-run", "--partitions", "3").returncode == ExitCode.DIFFERENCE
    assert admin.describe_topics([f"{app}.control"]) == {}, "a dry run makes nothing"

    done = placet("topics", "apply", "--partitions", "3", "--output", "json")
    assert done.returncode == 0, done.stderr
    made = {step["topic"]: step["partitions"] for step in json.loads(done.stdout)}
    assert made[f"{app}.order.signals"] == 3
    assert made[f"{app}.control"] == 1

    again = placet("topics", "apply")
    assert (again.returncode, again.stdout) == (0, "All 8 topics are as they must be.\n")
    assert placet("topics", "plan").returncode == 0
    assert verify(admin, app, [ORDER]) == []


def test_what_was_asked_for_is_what_kafka_shows(admin: Admin, app: str) -> None:
    specs = required_topics(app, [ORDER], 2)
    apply(admin, specs)
    found = admin.describe_topics(spec.name for spec in specs)
    for spec in specs:
        info = found[spec.name]
        assert info.partitions == (spec.partitions or spec.default_partitions)
        assert (info.replication_factor, info.leaderless, info.under_replicated) == (1, 0, 0)
        assert len(info.topic_id) == 22
        for need in spec.needs:
            assert info.configs[need.config] == (need.wanted or need.value)


def test_making_a_topic_again_changes_nothing(admin: Admin, app: str) -> None:
    name = f"{app}.x"
    assert admin.create_topic(name, 1)
    first = admin.describe_topics([name])
    assert not admin.create_topic(name, 9), "it is there already"
    assert admin.describe_topics([name]) == first


def test_drift_is_found_and_mended(placet: Placet, admin: Admin, app: str) -> None:
    assert placet("topics", "apply").returncode == 0
    admin.alter_configs(f"{app}.order.changelog", {"min.compaction.lag.ms": "5"})
    planned = placet("topics", "plan")
    assert planned.returncode == ExitCode.DIFFERENCE
    assert f"~ {app}.order.changelog  set min.compaction.lag.ms=172920000" in planned.stdout
    assert placet("topics", "apply").returncode == 0
    assert placet("topics", "plan").returncode == 0


def test_how_records_are_stamped_is_only_mended_before_the_first(broker: Broker, admin: Admin, app: str) -> None:
    specs = required_topics(app, [ORDER], 1)
    apply(admin, specs)
    for topic in ("signals", "proposals"):
        admin.alter_configs(f"{app}.order.{topic}", {"message.timestamp.type": "CreateTime"})
    produce(broker, f"{app}.order.signals", 1)
    actions = {step.topic: step.action.value for step in plan(specs, *observe(admin, specs))}
    assert actions == {f"{app}.order.signals": "refuse", f"{app}.order.proposals": "alter"}
    with pytest.raises(SettingsError, match="Nothing was changed"):
        apply(admin, specs)
    assert admin.describe_topics([specs[1].name])[specs[1].name].configs["message.timestamp.type"] == "CreateTime"


def test_another_number_of_partitions_is_refused(placet: Placet) -> None:
    assert placet("topics", "apply", "--partitions", "2").returncode == 0
    refused = placet("topics", "apply", "--partitions", "4")
    assert refused.returncode == ExitCode.WRONG
    assert "has 2 partitions, asked for are 4" in refused.stderr


def test_a_gate_does_not_run_on_wrong_topics(placet: Placet, admin: Admin, app: str) -> None:
    missing = placet("run")
    assert missing.returncode == ExitCode.WRONG
    assert f"{app}.order.signals: is missing" in missing.stderr
    assert "placet topics apply" in missing.stderr
    placet("topics", "apply")
    admin.alter_configs(f"{app}.order.ledger", {"cleanup.policy": "compact,delete"})
    wrong = placet("run")
    assert wrong.returncode == ExitCode.WRONG
    assert f"{app}.order.ledger: cleanup.policy is compact,delete, must be compact" in wrong.stderr


def test_more_replicas_than_brokers_are_refused_in_the_brokers_words(placet: Placet) -> None:
    refused = placet("topics", "apply", "--replication-factor", "3")
    assert refused.returncode == ExitCode.WRONG
    assert "only 1 broker(s) are registered" in refused.stderr


# -- the cluster's front desk ----------------------------------------------------------------------------------------


def test_offsets_tell_committed_from_written(broker: Broker, admin: Admin, app: str) -> None:
    topic, partition = f"{app}.x", TopicPartition(f"{app}.x", 0)
    admin.create_topic(topic, 1)
    produce(broker, topic, 3)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": app})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"open")
    assert producer.flush(30) == 0
    assert admin.earliest_offsets([partition]) == {partition: 0}
    assert admin.latest_offsets([partition]) == {partition: 4}
    assert admin.latest_offsets([partition], read_uncommitted=False) == {partition: 3}
    producer.abort_transaction(30)


def test_the_brokers_clock_is_read_without_leaving_a_trace(broker: Broker, admin: Admin, app: str) -> None:
    topic = f"{app}.x"
    admin.create_topic(topic, 1, configs={"message.timestamp.type": "LogAppendTime"})
    reading = admin.measure_clock(topic, f"{app}.doctor")
    assert abs(reading.ahead_ms) <= reading.uncertainty_ms + 2, "it is this very machine's clock"
    assert admin.latest_offsets([TopicPartition(topic, 0)])[TopicPartition(topic, 0)] > 0, "records were written"
    assert committed_records(broker, topic) == 0


def test_a_topic_with_producers_times_tells_no_clock(admin: Admin, app: str) -> None:
    admin.create_topic(f"{app}.x", 1)
    with pytest.raises(SettingsError, match="not with LogAppendTime"):
        admin.measure_clock(f"{app}.x", f"{app}.doctor")


def test_the_session_timeout_is_the_groups_own_or_the_brokers(admin: Admin, app: str) -> None:
    assert admin.session_timeout_ms(app) == 6_000
    admin.alter_group_configs(app, {"consumer.session.timeout.ms": "5000"})
    # The controller has answered; the broker that is asked hears of it a moment later.
    wait_until(lambda: admin.session_timeout_ms(app) == 5_000, 20, "the group has its own timeout")
    assert admin.session_timeout_ms("another") == 6_000


def test_a_broker_that_hears_nothing_is_unreachable_in_time_and_answers_again(broker: Broker) -> None:
    with Admin(LocalHost(), {"bootstrap.servers": broker.bootstrap_servers}, timeout_s=1.0) as admin:
        before = admin.cluster()
        broker.pause()
        began_s = time.monotonic()
        try:
            with pytest.raises(BrokerUnreachable, match=f"No Kafka broker answered at {broker.bootstrap_servers} "):
                admin.cluster()
            assert time.monotonic() - began_s < 6
        finally:
            broker.resume()
    with Admin(LocalHost(), {"bootstrap.servers": broker.bootstrap_servers}) as admin:
        assert admin.cluster() == before
