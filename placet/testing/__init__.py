"""Test a definition without Kafka: the gate as it is, over a Kafka, a clock and a disk in memory.

    driver = TestDriver.from_file("refund.yaml")
    driver.signal("order-7", "order_paid", {"amount_minor": 500}, signal_id="payment-1")
    seen = driver.read("order-7")
    decision = driver.propose("order-7", "refund", {"amount_minor": 500}, dedup_key="ticket-3", base=seen)
    assert decision.outcome is Outcome.ACCEPTED
    driver.advance("31s")  # returns the decisions on the timers that fired

The clock stands still until `advance` moves it. Nothing is lost, aborted or rebalanced here, as it could be with Kafka:
such a test shows what the rules decide. The gate's own tests show that it decides the same when machines fail.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("greenlet") is None:
    raise ImportError("placet.testing needs the package greenlet: pip install 'placet[testing]'", name="greenlet")

from placet.schemas.decision import Outcome, Reason
from placet.schemas.messages import Kind
from placet.testing.driver import START_MS, BasedOn, Decided, TestDriver

__all__ = ["START_MS", "BasedOn", "Decided", "Kind", "Outcome", "Reason", "TestDriver"]
