"""`placet doctor` on a real Kafka: fine when all is fine, and each thing that is wrong is named with what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from placet.cli.exit_codes import ExitCode
from placet.definitions import load_definition
from placet.devbroker.broker import Broker
from placet.doctor.brokers import RESTORED_RECORDS_PER_S, cold_restore
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from placet.streams.topics.configs import required_topics
from placet.streams.topics.plan import apply

pytestmark = pytest.mark.kafka

DEFINITION = Path(__file__).with_name("order.yaml")
ORDER = load_definition(DEFINITION)

Doctor = Callable[..., tuple[int, dict[str, dict[str, Any]]]]


@pytest.fixture
def app() -> str:
    """An app of its own for each test, on the shared broker."""
    return f"d{uuid4().hex[:8]}"


@pytest.fixture
def admin(broker: Broker) -> Iterator[Admin]:
    with Admin(LocalHost(), {"bootstrap.servers": broker.bootstrap_servers}) as it:
        yield it


@pytest.fixture
def doctor(broker: Broker, app: str, tmp_path: Path) -> Doctor:
    """Run `placet doctor` as a process; return its exit code and its checks by name."""
    environment = {
        **os.environ,
        "PLACET_APP": app,
        "PLACET_DEFINITION": str(DEFINITION),
        "PLACET_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "PLACET_STATE_DIR": str(tmp_path / "state"),
    }

    def run(**more: str) -> tuple[int, dict[str, dict[str, Any]]]:
        command = [sys.executable, "-m", "placet.cli", "doctor", "--output", "json"]
        done = subprocess.run(command, env=environment | more, capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""
        return done.returncode, {check["name"]: check for check in json.loads(done.stdout)}

    return run


def test_all_is_fine_on_topics_that_were_applied(doctor: Doctor, admin: Admin, app: str) -> None:
    apply(admin, required_topics(app, [ORDER], 2))
    code, checks = doctor()
    assert code == 0
    assert {name: check["status"] for name, check in checks.items()} == {
        "python": "ok",
        "settings": "ok",
        "definitions": "ok",
        "state dir": "ok",
        "registry": "ok",
        "brokers": "ok",
        "broker version": "ok",
        "topics": "ok",
        "published rules": "ok",
        "replicas": "warn",  # the embedded broker is one node
        "timeouts": "ok",
        "clock": "ok",
        "transactions": "ok",
        "cold restore": "ok",
    }
    assert checks["timeouts"]["found"] == "transaction 4000 ms, session 6000 ms"
    assert admin.cluster_id() in checks["brokers"]["found"]


def test_missing_topics_fail_with_the_command_that_makes_them(doctor: Doctor, app: str) -> None:
    code, checks = doctor()
    assert code == ExitCode.DIFFERENCE
    assert checks["topics"]["status"] == "fail"
    assert checks["topics"]["todo"] == "Run `placet topics apply`."
    assert checks["clock"]["found"] == f"not measured: {app}.dead-letters is missing"


def test_a_transaction_that_outlives_the_session_fails_with_the_number_to_set(
    doctor: Doctor, admin: Admin, app: str
) -> None:
    apply(admin, required_topics(app, [ORDER], 1))
    admin.alter_group_configs(app, {"consumer.session.timeout.ms": "5000"})
    code, checks = doctor()
    assert code == ExitCode.DIFFERENCE
    assert checks["timeouts"]["status"] == "fail"
    assert checks["timeouts"]["todo"] == "Set PLACET_TRANSACTION_TIMEOUT_MS to at most 3000."


def test_a_cold_restore_counts_what_changelog_and_ledger_hold(broker: Broker, admin: Admin, app: str) -> None:
    apply(admin, required_topics(app, [ORDER], 2))
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 5})
    for number in range(1_500):
        topic = "changelog" if number % 3 else "ledger"
        producer.produce(f"{app}.order.{topic}", b"x", str(number).encode())
    producer.produce(f"{app}.order.decisions", b"not read by a restore")
    assert producer.flush(30) == 0
    topics = admin.describe_topics([f"{app}.order.changelog", f"{app}.order.ledger"])
    (restore,) = cold_restore(admin, app, [ORDER], topics)
    assert (restore.entity, restore.records) == ("order", 1_500)
    assert restore.minutes == pytest.approx(1_500 / RESTORED_RECORDS_PER_S / 60)
