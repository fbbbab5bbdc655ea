"""What the doctor says of clusters that a test can't start: old ones, large ones, closed ones, with other clocks."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from placet.doctor.brokers import timeouts
from placet.doctor.doctor import examine
from placet.doctor.result import CheckResult, Status
from placet.schemas.definition.model import parse_definition
from placet.schemas.errors import SettingsError
from placet.streams.kafka.admin import BrokerUnreachable, ClockReading, Cluster, TopicInfo
from placet.streams.records import TopicPartition
from placet.streams.settings import load_settings
from placet.streams.topics.configs import required_topics

LAMP = parse_definition("""
entity: lamp
version: 1
statuses: [dark]
signals: {made: {from: absent, to: dark}}
""")
KAFKA_4 = {"group.coordinator.rebalance.protocols": "classic,consumer,streams", "transaction.max.timeout.ms": "900000"}
KAFKA_3 = {"group.coordinator.rebalance.protocols": "classic", "zookeeper.session.timeout.ms": "18000"}


def perfect_topics() -> dict[str, TopicInfo]:
    return {
        spec.name: TopicInfo(
            f"id-of-{spec.name}",
            spec.default_partitions,
            3,
            {**{need.config: need.wanted or need.value for need in spec.needs}, "min.insync.replicas": "2"},
        )
        for spec in required_topics("a", [LAMP])
    }


@dataclass
class FakeAdmin:
    """A cluster of three brokers with perfect topics, but for what a test changes."""

    broker: Mapping[str, str] | Exception = field(default_factory=lambda: KAFKA_4)
    session: int | Exception = 6_000
    clock: ClockReading | Exception = field(default_factory=lambda: ClockReading(0.0, 1.0))
    topics: dict[str, TopicInfo] = field(default_factory=perfect_topics)
    down: bool = False

    def cluster(self) -> Cluster:
        if self.down:
            raise BrokerUnreachable("No Kafka broker answered")
        return Cluster("C", {1: "k1:9092", 2: "k2:9092", 3: "k3:9092"})

    def broker_configs(self, broker_id: int) -> Mapping[str, str]:
        return _or_raise(self.broker)

    def session_timeout_ms(self, group: str) -> int:
        return _or_raise(self.session)

    def measure_clock(self, topic: str, transactional_id: str) -> ClockReading:
        return _or_raise(self.clock)

    def describe_topics(self, names: Iterable[str]) -> dict[str, TopicInfo]:
        return {name: self.topics[name] for name in names if name in self.topics}

    def latest_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 3_000_000)

    def earliest_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)


def _or_raise(answer):
    if isinstance(answer, Exception):
        raise answer
    return answer


def checked(admin: FakeAdmin, folder: Path, **settings: object) -> dict[str, CheckResult]:
    given = load_settings({"app": "a", "state_dir": folder, **settings})
    return {check.name: check for check in examine(given, [LAMP], admin, {})}


def test_a_perfect_cluster_has_nothing_to_complain_about(tmp_path: Path) -> None:
    assert {check.status for check in checked(FakeAdmin(), tmp_path).values()} == {Status.OK}


def test_without_brokers_only_this_machine_is_checked(tmp_path: Path) -> None:
    checks = checked(FakeAdmin(down=True), tmp_path)
    assert list(checks) == ["python", "settings", "definitions", "state dir", "registry", "brokers"]
    assert checks["brokers"].status is Status.FAIL


@pytest.mark.parametrize(
    ("broker", "status", "found"),
    [
        (KAFKA_4, Status.OK, "4.0 or newer"),
        ({}, Status.WARN, "do not show their settings"),
        (SettingsError("forbidden"), Status.WARN, "do not show their settings"),
        (KAFKA_3, Status.FAIL, "older than Kafka 4.0"),
        ({"inter.broker.protocol.version": "3.9-IV0"}, Status.FAIL, "older than Kafka 4.0"),
        ({"group.coordinator.rebalance.protocols": "classic"}, Status.FAIL, "the group protocols are classic"),
        ({"transaction.max.timeout.ms": "900000"}, Status.OK, "4.0 or newer"),
    ],
)
def test_a_broker_that_knows_no_consumer_protocol_is_found(
    tmp_path: Path, broker: Mapping[str, str] | Exception, status: Status, found: str
) -> None:
    check = checked(FakeAdmin(broker=broker), tmp_path)["broker version"]
    assert check.status is status
    assert found in check.found


def test_what_one_check_can_not_ask_does_not_keep_the_others_from_asking(tmp_path: Path) -> None:
    checks = checked(FakeAdmin(session=SettingsError("The brokers are older than Kafka 4.0")), tmp_path)
    assert (checks["timeouts"].status, checks["timeouts"].found) == (
        Status.FAIL,
        "The brokers are older than Kafka 4.0",
    )
    assert checks["cold restore"].status is Status.OK


@pytest.mark.parametrize(
    ("info", "status", "found"),
    [
        ({"leaderless": 1}, Status.FAIL, "no leader for partitions of a.lamp.ledger"),
        ({"under_replicated": 2}, Status.WARN, "replicas are behind for a.lamp.ledger"),
        ({"replication_factor": 1}, Status.WARN, "1 topics have fewer than 3 replicas: a.lamp.ledger"),
    ],
)
def test_what_replicas_lack_is_said(tmp_path: Path, info: dict[str, int], status: Status, found: str) -> None:
    admin = FakeAdmin()
    admin.topics["a.lamp.ledger"] = admin.topics["a.lamp.ledger"]._replace(**info)
    check = checked(admin, tmp_path)["replicas"]
    assert (check.status, check.found) == (status, found)
    assert check.todo


def test_the_topics_of_kafka_itself_count_too(tmp_path: Path) -> None:
    admin = FakeAdmin()
    admin.topics["__transaction_state"] = TopicInfo("id", 50, 1, {})
    assert checked(admin, tmp_path)["replicas"].found == "1 topics have fewer than 3 replicas: __transaction_state"


@pytest.mark.parametrize(
    ("reading", "status", "found"),
    [
        (ClockReading(3.0, 2.0), Status.OK, "ours is 3 ms behind the broker's (± 2 ms)"),
        (ClockReading(-3.0, 2.0), Status.OK, "ours is 3 ms ahead of the broker's (± 2 ms)"),
        (ClockReading(2_600.0, 2.0), Status.WARN, "ours is 2600 ms behind the broker's (± 2 ms); at most 5000"),
        (
            ClockReading(-9_000.0, 2.0),
            Status.FAIL,
            "ours is 9000 ms ahead of the broker's (± 2 ms); at most 5000",
        ),
        (ClockReading(5_100.0, 4_000.0), Status.OK, "ours is 5100 ms behind the broker's (± 4000 ms)"),
    ],
)
def test_a_clock_that_is_off_is_said_as_surely_as_it_is_known(
    tmp_path: Path, reading: ClockReading, status: Status, found: str
) -> None:
    check = checked(FakeAdmin(clock=reading), tmp_path)["clock"]
    assert (check.status, check.found) == (status, found)


def test_transactions_that_are_forbidden_fail(tmp_path: Path) -> None:
    refusal = SettingsError("The broker does not let this client write to a.dead-letters in a transaction")
    checks = checked(FakeAdmin(clock=refusal), tmp_path)
    assert (checks["clock"].status, checks["clock"].found) == (Status.FAIL, str(refusal))
    assert "transactions" not in checks


def test_a_cold_restore_is_told_in_minutes(tmp_path: Path) -> None:
    check = checked(FakeAdmin(), tmp_path)["cold restore"]
    assert check.found == "lamp: at most 36,000,000 records, 7.5 min in one gate"


@pytest.mark.parametrize(
    ("session_timeout_ms", "broker_configs", "found"),
    [
        (6_000, {}, [("timeouts", Status.OK)]),
        (5_999, {}, [("timeouts", Status.FAIL)]),
        (6_000, {"transaction.max.timeout.ms": "3999"}, [("timeouts", Status.FAIL)]),
        (45_000, {}, [("timeouts", Status.OK), ("session timeout", Status.WARN)]),
        (
            6_000,
            {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "10000"},
            [("timeouts", Status.OK), ("abort interval", Status.WARN)],
        ),
    ],
)
def test_what_waits_for_what(
    session_timeout_ms: int, broker_configs: dict[str, str], found: list[tuple[str, Status]]
) -> None:
    checks = list(timeouts(load_settings({"transaction_timeout_ms": 4_000}), session_timeout_ms, broker_configs))
    assert [(check.name, check.status) for check in checks] == found
    assert all(check.todo for check in checks if check.status is not Status.OK)


# -- the registry ----------------------------------------------------------------------------------------------------


@pytest.fixture
def registry() -> Iterator[str]:
    """A registry that answers to `user` with `hush` alone."""
    expected = "Basic " + base64.b64encode(b"user:hush").decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fine = self.path == "/subjects" and self.headers["Authorization"] == expected
            self.send_response(200 if fine else 401)
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_a_registry_is_asked_with_its_password(tmp_path: Path, registry: str) -> None:
    options = {"basic.auth.user.info": "user:hush"}
    check = checked(FakeAdmin(), tmp_path, registry={"url": registry, "options": options})["registry"]
    assert (check.status, check.found) == (Status.OK, f"{registry} answers")


def test_a_registry_that_refuses_the_password_fails(tmp_path: Path, registry: str) -> None:
    check = checked(FakeAdmin(), tmp_path, registry={"url": registry})["registry"]
    assert (check.status, check.found) == (Status.FAIL, f"{registry} answers 401 Unauthorized")


def test_a_registry_that_is_not_there_fails(tmp_path: Path) -> None:
    check = checked(FakeAdmin(), tmp_path, registry={"url": "http://127.0.0.1:1"})["registry"]
    assert check.status is Status.FAIL
    assert "PLACET_REGISTRY__URL" in check.todo


def test_a_certificate_that_is_not_there_fails(tmp_path: Path, registry: str) -> None:
    options = {"ssl.ca.location": "/nowhere/ca.pem"}
    check = checked(FakeAdmin(), tmp_path, registry={"url": registry, "options": options})["registry"]
    assert check.status is Status.FAIL
