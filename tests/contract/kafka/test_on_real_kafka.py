"""Every scenario on a real Kafka: what the simulated one is held to as well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from placet.devbroker.broker import Broker
from tests.contract.kafka.scenarios import OUTAGES, SCENARIOS, WIRES
from tests.contract.kafka.under_test import RealKafka
from tests.contract.kafka.wire import Wire

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def all_scenarios_kafka(broker: Broker) -> RealKafka:
    return RealKafka(broker)


@pytest.fixture
def kafka(all_scenarios_kafka: RealKafka) -> Iterator[RealKafka]:
    yield all_scenarios_kafka
    all_scenarios_kafka.tidy()


@pytest.fixture(scope="module")
def wired_kafka() -> Iterator[RealKafka]:
    with Wire() as wire, Broker(port=wire.broker_port, settings=wire.settings()) as broker:
        yield RealKafka(broker, wire)


@pytest.mark.parametrize("name", SCENARIOS)
def test_it_holds(name: str, kafka: RealKafka) -> None:
    SCENARIOS[name](kafka)


@pytest.mark.parametrize("name", OUTAGES)
def test_it_holds_amid_an_outage(name: str, kafka: RealKafka) -> None:
    OUTAGES[name](kafka)


@pytest.mark.parametrize("name", WIRES)
def test_it_holds_on_a_wire_that_breaks(name: str, wired_kafka: RealKafka) -> None:
    WIRES[name](wired_kafka)
    wired_kafka.tidy()
