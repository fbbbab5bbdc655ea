"""What Prometheus' own linter says of a scrape in which every metric has a value."""

from __future__ import annotations

import subprocess
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from placet.schemas.decision import Outcome, Reason
from placet.schemas.messages import Kind
from placet.streams.host import LocalHost
from placet.streams.telemetry.endpoint import Endpoint
from placet.streams.telemetry.metrics import METRICS
from placet.streams.topology import TaskId
from tests.unit.top_sample import FACT, USUAL, TestGate

pytestmark = pytest.mark.promtool

UNDECODABLE = (FACT, Outcome.REFUSED, Reason.UNDECODABLE)


@pytest.fixture
def scrape() -> str:
    gate = TestGate("gate-0").runs(0, 1, flight_2="restoring", flight_3="stopped")
    gate.decides(0, {**USUAL, UNDECODABLE: 1})
    gate.lags(signals_0=1, proposals_0=2)
    gate.told.restored("flight-1", 3, 0.1, "odd")
    gate.told.restoring({"flight-2": (3, 4)})
    gate.told.event("task stopped")
    gate.told.decided("flight", 0, {(Kind.TIMER, Outcome.ACCEPTED, Reason.NONE): 1}, 0.1, [500])
    gate.told.next_due({TaskId("flight", 0): 1_795_521_600_000})
    gate.told.unfit_topics({"app.order.ledger": 1})
    gate.told.can_not_run({"flight": "it lacks a function"}, outside=False)
    gate.told.schema_waits({"flight-1": ("id 17", 1_795_521_600_000, "500")})
    endpoint = Endpoint(LocalHost(), gate.told, "127.0.0.1", 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    endpoint.close()
    return text


def promtool(text: str) -> tuple[int, str]:
    command = ["promtool", "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def test_promtool_has_nothing_to_say_of_any_metric(scrape: str) -> None:
    with_values = {family.name for family in text_string_to_metric_families(scrape) if family.samples}
    assert {metric.name.removesuffix("_total") for metric in METRICS} <= with_values
    assert promtool(scrape) == (0, "")


def test_promtool_would_say_what_is_wrong(scrape: str) -> None:
    code, said = promtool(scrape + "# HELP placet_lost Lost.\n# TYPE placet_lost counter\nplacet_lost 1\n")
    assert code != 0
    assert "placet_lost" in said
