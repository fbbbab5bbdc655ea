"""All scenarios, by name: every public function of the modules of scenarios."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Final, TypeAlias

from tests.contract.kafka import (
    scenarios_admin,
    scenarios_fencing,
    scenarios_groups,
    scenarios_outages,
    scenarios_positions,
    scenarios_producer,
    scenarios_reading,
    scenarios_visibility,
    scenarios_wires,
)
from tests.contract.kafka.under_test import KafkaUnderTest

__all__ = ["OUTAGES", "SCENARIOS", "WIRES", "Scenario"]

Scenario: TypeAlias = Callable[[KafkaUnderTest], None]


def _scenarios_of(module: ModuleType) -> dict[str, Scenario]:
    return {
        name: value
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and value.__module__ == module.__name__
    }


SCENARIOS: Final[dict[str, Scenario]] = {
    **_scenarios_of(scenarios_visibility),
    **_scenarios_of(scenarios_producer),
    **_scenarios_of(scenarios_fencing),
    **_scenarios_of(scenarios_positions),
    **_scenarios_of(scenarios_reading),
    **_scenarios_of(scenarios_groups),
    **_scenarios_of(scenarios_admin),
}
OUTAGES: Final[dict[str, Scenario]] = _scenarios_of(scenarios_outages)
"""Those in which the broker falls silent: they come last, one after the other."""
WIRES: Final[dict[str, Scenario]] = _scenarios_of(scenarios_wires)
"""Those in which connections break: clients of the real one come through a wire, to a broker of their own."""
