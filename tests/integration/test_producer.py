"""The transactional producer on a real Kafka: what it leaves behind when it is thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from placet.devbroker.broker import Broker
from placet.streams.errors import TransactionAborted
from placet.streams.host import LocalHost
from placet.streams.kafka.transactional_producer import TransactionalProducer
from placet.streams.kafka.watchdog import Watchdog
from placet.streams.records import ProducerRecord
from tests.integration.gates import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@pytest.fixture
def producer(broker: Broker) -> Iterator[TransactionalProducer]:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    if "thrown-away" not in admin.list_topics(timeout=20).topics:
        admin.create_topics([NewTopic("thrown-away", 1)])["thrown-away"].result(20)
    watchdog = Watchdog(LocalHost(), 60_000)
    options = {"bootstrap.servers": broker.bootstrap_servers, "transactional.id": "thrown-away", "linger.ms": 1_000}
    yield TransactionalProducer(LocalHost(), options, watchdog, 60_000)
    watchdog.close()


def clients() -> int:
    """How many of librdkafka's clients live in this process: each has one main thread."""
    return sum(name_of(thread) == "rdk:main" for thread in Path("/proc/self/task").iterdir())


def name_of(thread: Path) -> str:
    """What a thread is called; "" of one that has ended since it was listed."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return (thread / "comm").read_text().strip()
    return ""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
@pytest.mark.parametrize("when", ["while-the-broker-answers", "while-it-does-not"])
def test_a_producer_thrown_away_takes_its_threads_along(
    producer: TransactionalProducer, broker: Broker, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("placet.streams.kafka.transactional_producer._CALL_TIMEOUT_S", 2.0)
    before = clients()
    for _ in range(3):
        wait_until(lambda: started(producer), 30, "the broker answers")
        try:
            with pytest.raises(TransactionAborted):
                fail(producer, broker.pause if when == "while-it-does-not" else lambda: None)
        finally:
            broker.resume()
    producer.abandon()
    wait_until(lambda: clients() == before, 30, f"no more than {before} clients")


def started(producer: TransactionalProducer) -> bool:
    with suppress(TransactionAborted):
        producer.start()
        return True
    return False


def fail(producer: TransactionalProducer, disturb: Callable[[], None]) -> None:
    with producer.transaction() as transaction:
        transaction.send(ProducerRecord("thrown-away", 0, b"k", b"%d" % n) for n in range(10))
        transaction._producer.flush(10)
        transaction.send(ProducerRecord("thrown-away", 0, b"k", b"%d" % n) for n in range(10))
        disturb()
        raise TransactionAborted("a bad moment: the broker knows of the transaction, and records are queued")
