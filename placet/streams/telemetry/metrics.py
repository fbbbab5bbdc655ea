"""What a gate tells the world about itself: one table of all metrics, one object that the loop tells what happened.

The loop calls `Metrics` once per batch or less, never per record, and no label is an entity id: ids have no bound.
What an operator wants to read goes to the log too.
Label values are spelled as in decisions: `outcome="REFUSED"`, `reason="STALE"`. Names follow Prometheus' practice: base
units, the unit in the name, `_total` for what only grows.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from placet.schemas.decision import BY_DESIGN, Outcome, Reason
from placet.schemas.definition.model import Definition
from placet.schemas.messages import Kind
from placet.streams.runtime import Runtime
from placet.streams.settings import Settings
from placet.streams.telemetry.build import installed_version, kind_of_build
from placet.streams.telemetry.endpoint import Endpoint
from placet.streams.telemetry.log import get_logger
from placet.streams.topology import TaskId, entity_topics

__all__ = ["METRICS", "Metric", "Metrics"]


class Metric(NamedTuple):
    """One row of the table: what is exported under this name. `unit` is "" where a number counts nothing."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    unit: str
    help: str


METRICS = (
    Metric("placet_decisions_total", "counter", ("entity", "kind", "outcome", "reason"), "decisions",
           "Decisions that were committed."),
    Metric("placet_records_processed_total", "counter", ("topic", "partition"), "records",
           "Inputs that were decided and committed, of each partition of the input topics; to be read beside the lag."),
    Metric("placet_refused_facts_total", "counter", ("entity", "reason"), "decisions",
           "Signals that were refused, but for SUPERSEDED and IGNORED, which is what `dedup: newest`, `late` and "
           "`elsewhere: ignore` ask for. A fact can't be argued with: look into each."),
    Metric("placet_dead_letters_total", "counter", ("entity", "reason"), "records",
           "Inputs that did not decode; their bytes are in the dead letters."),
    Metric("placet_decision_latency_seconds", "histogram", ("entity",), "seconds",
           "From the log time of a batch's oldest input to the commit; one observation for each batch."),
    Metric("placet_timer_overdue_seconds", "histogram", ("entity",), "seconds",
           "How long timers were due when they fired, by the gate's clock; one observation for each timer."),
    Metric("placet_timer_next_due_timestamp_seconds", "gauge", ("entity", "partition"), "seconds",
           "When the next timer of a task of this gate is due, in seconds since the epoch, looked up every 5 s; absent "
           "where none waits. A time long past says that timers can't fire."),
    Metric("placet_transactions_total", "counter", ("result",), "transactions",
           "Transactions by how they ended: committed, aborted, migrated (the group moved on while one was open)."),
    Metric("placet_transaction_duration_seconds", "histogram", (), "seconds",
           "From the begin to the commit of transactions that committed."),
    Metric("placet_tasks", "gauge", ("phase",), "tasks",
           "Tasks of this gate by phase. A stopped one needs an operator, a waiting one the registry."),
    Metric("placet_task_phase", "gauge", ("entity", "partition", "phase"), "",
           "1 for the phase that a task of this gate is in, 0 for the others. Tasks of other gates are not named."),
    Metric("placet_schema_wait_since_timestamp_seconds", "gauge", ("entity", "partition", "schema"), "seconds",
           "Since when a task waits for the schema that its next input names and nobody answers for, in seconds since "
           "the epoch; absent where none waits."),
    Metric("placet_partitions", "gauge", ("entity",), "partitions",
           "Partitions of the entity type's topics: as many tasks must run, on all gates together."),
    Metric("placet_restoring_records", "gauge", ("entity", "partition"), "records",
           "Records that a restore under way has read so far."),
    Metric("placet_restore_remaining_records", "gauge", ("entity", "partition"), "records",
           "Offsets of changelog and ledger that a restore under way has still ahead; absent until it is known."),
    Metric("placet_restores_total", "counter", ("entity",), "restores",
           "Restores that were finished."),
    Metric("placet_restored_records_total", "counter", ("entity",), "records",
           "Records that finished restores have read."),
    Metric("placet_restore_duration_seconds", "histogram", ("entity",), "seconds",
           "How long finished restores took."),
    Metric("placet_restore_warnings_total", "counter", ("entity",), "restores",
           "Restores that found something odd; the log has the sentence."),
    Metric("placet_events_total", "counter", ("event",), "events",
           "What an operator may want to know of, such as task_stopped or joining_the_group_again."),
    Metric("placet_lag_records", "gauge", ("topic", "partition"), "records",
           "Inputs that wait to be decided, of the partitions of this gate."),
    Metric("placet_topic_faults", "gauge", ("topic",), "settings",
           "Settings of a topic that are not as a start demands them, or 1 for a topic that is gone; absent where all "
           "is well. Brokers may remove what has to stay: put it back."),
    Metric("placet_unrunnable_definitions", "gauge", ("entity",), "definitions",
           "1 for an entity type whose definition in force this gate can't run, and leaves to others; absent where all "
           "is well. The gate's log says why."),
    Metric("placet_definition_info", "gauge", ("entity", "version", "digest"), "",
           "1 for the version of each definition that this gate decides by."),
    Metric("placet_build_info", "gauge", ("app", "gate", "version", "build", "python"), "",
           "Always 1; the labels tell what runs. `gate` is PLACET_INSTANCE (`instance` is Prometheus' own label), "
           "`build` is compiled or interpreted."),
)  # fmt: skip
"""All metrics but the process's own (`process_…`: CPU, memory, open files)."""

_FINE_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10)
_BUCKETS_S = {
    "placet_decision_latency_seconds": (*_FINE_S, 30, 60, 300, 3600),
    "placet_timer_overdue_seconds": (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 21_600, 86_400),
    "placet_transaction_duration_seconds": _FINE_S,
    "placet_restore_duration_seconds": (0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600),
}
_PHASES = ("running", "waiting", "restoring", "stopped")
_Labels: TypeAlias = tuple[str, ...]
_RESULTS = ("committed", "aborted", "migrated")
_DID_NOT_DECODE = (Reason.UNDECODABLE, Reason.UNKNOWN_SCHEMA)
_NO_ALARM = BY_DESIGN | {Reason.NONE, Reason.REPEATED}
_REFUSALS = tuple(reason.name for reason in Reason if reason not in _NO_ALARM)
_STANDS_STILL_S: Final = 30.0
_NOTHING: Final[Mapping[str, str]] = {}


class Metrics:
    """The metrics of one gate, in a registry of their own, and with them what its health is judged by.

    It is a `observer.Observer`: its methods are called by the loop's thread, `event` by the watchdog's and others too;
    the endpoint's threads read.

    Args:
        runtime: a clock, and the endpoint's thread.
        settings: name of the app and the gate, address and port of the endpoint.
        definitions: what the gate decides by.
    """

    def __init__(self, runtime: Runtime, settings: Settings, definitions: Iterable[Definition] = ()) -> None:
        self.registry = CollectorRegistry()
        self.phases: Mapping[str, str] = {}
        self.waits: Mapping[str, tuple[str, int, str]] = {}
        self.unrunnable: Mapping[str, str] = {}
        self._outside = False
        self.endpoint: Endpoint | None = None
        self._settings = settings
        self._runtime, self._monotonic_s = runtime, runtime.monotonic_s
        self._looped_at_s, self._looped = runtime.monotonic_s(), False
        self._log = get_logger("gate")
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._shown: dict[str, frozenset[_Labels]] = {}
        self._progress: dict[str, tuple[int, int | None]] = {}
        self._moved_at_s = 0.0
        for metric in METRICS:
            self._make(metric)
        ProcessCollector(registry=self.registry)
        build = (settings.app, settings.instance, installed_version(), kind_of_build(), platform.python_version())
        self._gauges["placet_build_info"].labels(*build).set(1)
        self._rules: dict[str, _Labels] = {}
        for definition in definitions:
            self._show_rules(definition.entity, definition.version, definition.digest)
            self._begin_at_zero("placet_refused_facts_total", *((definition.entity, reason) for reason in _REFUSALS))
        self._begin_at_zero("placet_transactions_total", *((result,) for result in _RESULTS))
        self.tasks({})

    def start(self) -> None:
        """Serve `/metrics`, `/healthz` and `/readyz`, where a port is set.

        Raises:
            SettingsError: the port is taken.
        """
        if self._settings.metrics_port:
            self.endpoint = Endpoint(self._runtime, self, self._settings.metrics_host, self._settings.metrics_port)
            self._log.info("metrics are served", host=self._settings.metrics_host, port=self.endpoint.port)

    def close(self) -> None:
        """Stop serving."""
        if self.endpoint is not None:
            self.endpoint.close()
            self.endpoint = None

    def partitions(self, entity: str, count: int) -> None:
        """The topics of this entity type have so many partitions."""
        self._gauges["placet_partitions"].labels(entity).set(count)

    def unfit_topics(self, faults: Mapping[str, int]) -> None:
        """So many settings of these topics are not as a start demands them; all other topics are as they must be."""
        self._show("placet_topic_faults", {(topic,): count for topic, count in faults.items()})

    def can_not_run(self, why: Mapping[str, str], *, outside: bool) -> None:
        """These entity types, each with the reason, are left to others; outside: that leaves none for this gate."""
        self.unrunnable, self._outside = dict(why), outside
        self._show("placet_unrunnable_definitions", {(entity,): 1 for entity in why})

    def rules(self, entity: str, version: int, digest: bytes) -> None:
        """The gate decides an entity type by another version from the next transaction on."""
        self._show_rules(entity, version, digest)
        self._log.info("rules changed", entity=entity, version=version, digest=digest.hex())

    def _show_rules(self, entity: str, version: int, digest: bytes) -> None:
        gauge, before = self._gauges["placet_definition_info"], self._rules.get(entity)
        if before is not None:
            gauge.remove(*before)
        self._rules[entity] = labels = (entity, str(version), digest.hex())
        gauge.labels(*labels).set(1)

    def decided(
        self,
        entity: str,
        partition: int,
        counts: Mapping[tuple[Kind, Outcome, Reason], int],
        end_to_end_s: float,
        overdue_ms: Sequence[int] = (),
    ) -> None:
        """A task's batch was committed, `end_to_end_s` after its oldest input was appended to the log."""
        names = entity_topics(self._settings.app, entity)
        topics = {Kind.SIGNAL: names.signals, Kind.PROPOSAL: names.proposals}
        for (kind, outcome, reason), count in counts.items():
            self._count("placet_decisions_total", entity, kind.name, outcome.name, reason.name, by=count)
            if kind in topics:
                self._count("placet_records_processed_total", topics[kind], str(partition), by=count)
            if reason in _DID_NOT_DECODE:
                self._count("placet_dead_letters_total", entity, reason.name, by=count)
            if kind is Kind.SIGNAL and outcome is Outcome.REFUSED and reason not in _NO_ALARM:
                self._count("placet_refused_facts_total", entity, reason.name, by=count)
        if any(kind in topics for kind, _, _ in counts):
            self._histograms["placet_decision_latency_seconds"].labels(entity).observe(end_to_end_s)
        if overdue_ms:
            overdue = self._histograms["placet_timer_overdue_seconds"].labels(entity)
            for one_ms in overdue_ms:
                overdue.observe(one_ms / 1000)

    def next_due(self, at_ms: Mapping[TaskId, int]) -> None:
        """When the next timer is due, of each task that has any."""
        due_s: dict[_Labels, float] = {(task.entity, str(task.partition)): due / 1000 for task, due in at_ms.items()}
        self._show("placet_timer_next_due_timestamp_seconds", due_s)

    def transaction(self, result: str, duration_s: float) -> None:
        """A transaction ended: committed, aborted or migrated."""
        self._count("placet_transactions_total", result)
        if result == "committed":
            self._histograms["placet_transaction_duration_seconds"].observe(duration_s)

    def tasks(self, phases: Mapping[str, str]) -> None:
        """The tasks of this gate are in these phases now."""
        if phases != self.phases:
            self._log.info("tasks", **{phase: sorted(t for t in phases if phases[t] == phase) for phase in _PHASES})
        self.phases = dict(phases)
        now = list(self.phases.values())
        for phase in _PHASES:
            self._gauges["placet_tasks"].labels(phase).set(now.count(phase))
        self._show("placet_task_phase", {
            (*_labels_of(task), phase): phase == is_in for task, is_in in self.phases.items() for phase in _PHASES
        })  # fmt: skip
        if "restoring" not in now:
            self.restoring({})

    def schema_waits(self, waits: Mapping[str, tuple[str, int, str]]) -> None:
        """These tasks wait for a schema: which one, since when (ms since the epoch), and why."""
        self.waits = dict(waits)
        since_s = {(*_labels_of(task), schema): since_ms / 1000 for task, (schema, since_ms, _) in waits.items()}
        self._show("placet_schema_wait_since_timestamp_seconds", since_s)

    def restoring(
        self, progress: Mapping[str, tuple[int, int | None]], waits_for: Mapping[str, str] = _NOTHING
    ) -> None:
        """Restores under way, by task: records read so far, and offsets still ahead (None: not known yet)."""
        by_labels = {_labels_of(task): numbers for task, numbers in progress.items()}
        ahead = {labels: to_go for labels, (_, to_go) in by_labels.items() if to_go is not None}
        self._show("placet_restoring_records", {labels: read for labels, (read, _) in by_labels.items()})
        self._show("placet_restore_remaining_records", ahead)
        self._say_when_none_moves(progress, sorted({why for why in waits_for.values() if why}))

    def _say_when_none_moves(self, progress: Mapping[str, tuple[int, int | None]], waits_for: list[str]) -> None:
        """Once. One alone proves nothing: restores take turns."""
        now_s = self._monotonic_s()
        if not progress or progress != self._progress:
            self._progress, self._moved_at_s = dict(progress), now_s
        elif now_s - self._moved_at_s > _STANDS_STILL_S:
            why = "; ".join(waits_for) or "it does not say what it waits for"
            self.event(
                "restore stands still", tasks=sorted(progress), why=f"nothing new in {_STANDS_STILL_S:g} s: {why}"
            )
            self._moved_at_s = math.inf

    def restored(self, task: str, records: int, duration_s: float, warning: str) -> None:
        """A task was restored."""
        entity, _ = _labels_of(task)
        self._count("placet_restores_total", entity)
        self._count("placet_restored_records_total", entity, by=records)
        self._histograms["placet_restore_duration_seconds"].labels(entity).observe(duration_s)
        details = {"task": task, "records": records, "duration_s": round(duration_s, 3)}
        if warning:
            self._count("placet_restore_warnings_total", entity)
            self._log.warning("restored, but", warning=warning, **details)
        else:
            self._log.info("restored", **details)

    def lag(self, records: Mapping[tuple[str, int], int]) -> None:
        """This many inputs wait, by topic and partition; partitions that are not named are not ours any more."""
        self._show("placet_lag_records", {(topic, str(n)): count for (topic, n), count in records.items()})

    def event(self, name: str, **details: object) -> None:
        """Something happened that an operator wants to read about."""
        self._count("placet_events_total", name.replace(" ", "_"))
        self._log.warning(name, **details)

    def looped(self) -> None:
        """The loop came around."""
        self._looped_at_s, self._looped = self._monotonic_s(), True

    def awake(self) -> None:
        """The gate is alive, though its loop does not run yet."""
        self._looped_at_s = self._monotonic_s()

    def loop_age_s(self) -> float:
        """Seconds since the loop came around, or before the first time since the gate last said that it is awake."""
        return self._monotonic_s() - self._looped_at_s

    def ready(self) -> bool:
        """Whether every task of this gate runs. One without tasks is ready: it stands by, unless it can run none."""
        return self._looped and not self._outside and all(phase == "running" for phase in self.phases.values())

    def _show(self, name: str, values: Mapping[_Labels, float]) -> None:
        """Set a gauge's series to these and no others; a scrape in between never finds one missing that stays."""
        gauge = self._gauges[name]
        for labels, value in values.items():
            gauge.labels(*labels).set(value)
        for labels in self._shown.get(name, frozenset()) - values.keys():
            gauge.remove(*labels)
        self._shown[name] = frozenset(values)

    def _begin_at_zero(self, name: str, *series: _Labels) -> None:
        """A series that began with its first event would hide that event from Prometheus' `increase()`."""
        for labels in series:
            self._count(name, *labels, by=0)

    def _count(self, name: str, *labels: str, by: int = 1) -> None:
        self._counters[name].labels(*labels).inc(by)

    def _make(self, metric: Metric) -> None:
        name, text, labels = metric.name, metric.help, metric.labels
        match metric.kind:
            case "counter":
                self._counters[name] = Counter(name, text, labels, registry=self.registry)
            case "gauge":
                self._gauges[name] = Gauge(name, text, labels, registry=self.registry)
            case "histogram":
                self._histograms[name] = Histogram(name, text, labels, registry=self.registry, buckets=_BUCKETS_S[name])


def _labels_of(task: str) -> _Labels:
    """Entity type and partition of a task's name."""
    entity, _, partition = task.rpartition("-")
    return entity, partition
