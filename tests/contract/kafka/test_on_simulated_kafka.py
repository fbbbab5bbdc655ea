"""Every scenario on the simulated Kafka, under some seeds: what clients see is what they see on the real one."""

from __future__ import annotations

import pytest

from tests.contract.kafka.scenarios import OUTAGES, SCENARIOS, WIRES
from tests.contract.kafka.simulated_kafka import holds

SEEDS = range(5)


ALL = {**SCENARIOS, **OUTAGES, **WIRES}


@pytest.mark.parametrize("name", ALL)
def test_it_holds_in_the_simulation(name: str) -> None:
    for seed in SEEDS:
        holds(ALL[name], seed)
