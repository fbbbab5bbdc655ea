"""The metrics of an advisor: a table of metrics, and a table of the events that they count."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from placet.schemas.decision import Decision
from placet.streams.telemetry.metrics import Metric

__all__ = ["ADVISOR_METRICS", "EVENTS", "Meter"]

ADVISOR_METRICS = (
    Metric("placet_advisor_triggers_total", "counter", ("advisor", "result"), "signals",
           "Signals that were read for the advisor, by what became of them: each one ends once."),
    Metric("placet_advisor_thoughts_total", "counter", ("advisor", "result"), "calls",
           "Calls of the advisor's function by how they ended, and triggers given up without one."),
    Metric("placet_advisor_thinking_seconds", "histogram", ("advisor",), "seconds",
           "How long calls of the advisor's function took, those included that were given up."),
    Metric("placet_advisor_decisions_total", "counter", ("advisor", "outcome", "reason"), "decisions",
           "What the gate said to the advisor's proposals."),
    Metric("placet_advisor_retries_total", "counter", ("advisor", "kind"), "proposals",
           "Thoughts that were repeated on a fresh state, and proposals that were sent again."),
    Metric("placet_advisor_breaker_opened_total", "counter", ("advisor",), "times",
           "How often the circuit breaker has opened."),
    Metric("placet_advisor_breaker_open", "gauge", ("advisor",), "",
           "1 while the circuit breaker lets nobody think but a probe, else 0."),
    Metric("placet_advisor_waiting", "gauge", ("advisor",), "signals",
           "Signals that wait for their turn."),
    Metric("placet_advisor_thinking", "gauge", ("advisor",), "calls",
           "Signals that are thought about, or whose decision is waited for."),
)  # fmt: skip
"""All metrics of an advisor."""


class Event(NamedTuple):
    """An event: the metric that counts it, and its meaning. The label's value is the event's name."""

    metric: str
    meaning: str


_TRIGGER, _THOUGHT, _RETRY = (
    "placet_advisor_triggers_total",
    "placet_advisor_thoughts_total",
    "placet_advisor_retries_total",
)

EVENTS: Final[Mapping[str, Event]] = {
    "answered": Event(_TRIGGER, "thought about to the end: a decision, or nothing to propose"),
    "given_up": Event(_TRIGGER, "the function failed, or no try led to a decision"),
    "dropped_oldest": Event(_TRIGGER, "dropped for a newer one, as no more may wait"),
    "dropped_newest": Event(_TRIGGER, "dropped when it came, as no more may wait"),
    "dropped_superseded": Event(_TRIGGER, "dropped for a newer one of the same entity"),
    "dropped_too_old": Event(_TRIGGER, "older than `max_age_s`"),
    "moved": Event(_TRIGGER, "waited here when its partition moved: another member of the group reads it again"),
    "repeated": Event(_TRIGGER, "came again while it was in hand, or over: a rebalance does that"),
    "undecodable": Event(_TRIGGER, "its bytes are no signal of this entity type"),
    "advised": Event(_THOUGHT, "returned an advice"),
    "silent": Event(_THOUGHT, "returned None"),
    "timed_out": Event(_THOUGHT, "took longer than `timeout_s`, and was cancelled"),
    "failed": Event(_THOUGHT, "raised"),
    "invalid": Event(_THOUGHT, "advised what is no proposal of the definition"),
    "unread": Event(_THOUGHT, "not called: the state could not be read"),
    "unanswered": Event(_THOUGHT, "its advice got no decision, however often it was sent"),
    "recomputed": Event(_RETRY, "the gate said RECOMPUTE: thought again on a fresh state"),
    "resent": Event(_RETRY, "the gate said LATER, or nothing: sent again after a while"),
}
"""Everything that is counted, except decisions."""

_BUCKETS_S: Final = (0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)


class Meter:
    """Counts for one advisor, in a registry of its own.

    Args:
        advisor: its name, the label of every metric.

    Attributes:
        counts: how often each event has happened, and each decision, as `accepted`, `duplicate`, `refused_STALE`.
    """

    def __init__(self, advisor: str) -> None:
        self.registry = CollectorRegistry()
        self.counts: Tally[str] = Tally()
        self._advisor = advisor
        made = {metric.name: _make(metric, self.registry) for metric in ADVISOR_METRICS}
        self._counters = {name: metric for name, metric in made.items() if isinstance(metric, Counter)}
        self._gauges = {name: metric.labels(advisor) for name, metric in made.items() if isinstance(metric, Gauge)}
        [self._thinking] = [metric.labels(advisor) for metric in made.values() if isinstance(metric, Histogram)]
        for name, event in EVENTS.items():  # a rate needs the zero that came before the one
            self._counters[event.metric].labels(advisor, name)

    def count(self, name: str) -> None:
        """One of EVENTS has happened."""
        self.counts[name] += 1
        self._counters[EVENTS[name].metric].labels(self._advisor, name).inc()

    def decided(self, decision: Decision) -> None:
        """The gate has answered."""
        outcome, reason = decision.outcome.name, decision.reason.name
        name = outcome.lower() if decision.applied else f"{outcome.lower()}_{reason}"
        self.counts[name] += 1
        self._counters["placet_advisor_decisions_total"].labels(self._advisor, outcome, reason).inc()

    def thought(self, seconds: float) -> None:
        """A call of the function has ended, or was given up."""
        self._thinking.observe(seconds)

    def breaker_opened(self) -> None:
        """The breaker has opened."""
        self.counts["breaker_opened"] += 1
        self._counters["placet_advisor_breaker_opened_total"].labels(self._advisor).inc()

    def watch(self, gauges: Mapping[str, Callable[[], float]]) -> None:
        """Set the functions that gauges read, by the metric's name without `placet_advisor_`."""
        for name, read in gauges.items():
            self._gauges[f"placet_advisor_{name}"].set_function(read)


def _make(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    match metric.kind:
        case "counter":
            return Counter(metric.name, metric.help, metric.labels, registry=registry)
        case "gauge":
            return Gauge(metric.name, metric.help, metric.labels, registry=registry)
        case "histogram":
            return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=_BUCKETS_S)
