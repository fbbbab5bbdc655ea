"""From scrapes to frames: pure but for what it remembers of the looks before, which rates and "since when" need.

A gate is known by its endpoint. It is forgotten some time after its address has gone from the name that it came from,
or once another address answers with its name: that is how a pod moves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from math import inf
from typing import Final

from msgspec.structs import replace

from placet.cli.top.frame import Flow, Frame, Gate, GateRules, OutcomeRate
from placet.cli.top.known import Answer, Known, after, once_each
from placet.cli.top.notes import Rises, notes_on
from placet.cli.top.partitions import partitions_of
from placet.cli.top.samples import by, quantile, rounded, sum_of_known, total

__all__ = ["FORGET_AFTER_S", "Watch"]

FORGET_AFTER_S: Final = 60.0
_HISTORY: Final = 60
_GONE: Final = "its address is no longer among those of its name"
_DECISION, _COMMIT = "placet_decision_latency_seconds", "placet_transaction_duration_seconds"


class Watch:
    """Takes the answers of each look and gives a frame.

    Args:
        forget_after_s: how long a gate is shown whose address has gone from its name.
    """

    def __init__(self, forget_after_s: float = FORGET_AFTER_S) -> None:
        self._forget_after_s = forget_after_s
        self._known: dict[str, Known] = {}
        self._history: deque[float] = deque(maxlen=_HISTORY)

    def look(self, answers: Iterable[Answer], now_s: float, clock_s: float) -> Frame:
        """Take one look.

        Args:
            answers: one for each endpoint that was asked.
            now_s: the time of the look, on the clock of `Answer.at_s`.
            clock_s: the same in seconds since the epoch.
        """
        asked = {answer.endpoint: answer for answer in answers}
        for endpoint, answer in asked.items():
            self._known[endpoint] = after(self._known.get(endpoint), answer)
        self._follow_moves(asked.keys(), now_s)
        known = list(once_each(self._known.values()))
        answering = [one for one in known if one.answers]
        gates = tuple(sorted((_gate(one, now_s, clock_s) for one in known), key=_by_name))
        partitions = partitions_of(answering, clock_s)
        rises = _rises(answering)
        total_flow = _total(answering)
        if total_flow.decisions_per_s is not None:
            self._history.append(total_flow.decisions_per_s)
        window_s = max((one.seconds for one in answering if one.seconds is not None), default=None)
        return Frame(
            at=datetime.fromtimestamp(clock_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            window_s=window_s,
            apps=tuple(sorted({gate.app for gate in gates if gate.app})),
            answering=len(answering),
            total=total_flow,
            accepted_share=_accepted_share(answering),
            refused_facts=round(sum(total(one.numbers, "placet_refused_facts_total") or 0 for one in answering)),
            history=tuple(self._history),
            notes=notes_on(gates, partitions, rises, window_s),
            gates=gates,
            outcomes=_outcomes(answering),
            partitions=partitions,
        )

    def _follow_moves(self, asked: Iterable[str], now_s: float) -> None:
        """Gates whose address has gone are silent, and forgotten after a while, or when they answer elsewhere."""
        elsewhere = {one.name[:2] for endpoint, one in self._known.items() if endpoint in asked and one.answers}
        for endpoint in self._known.keys() - set(asked):
            one = self._known[endpoint]
            if one.answered_s is None or one.name[:2] in elsewhere or now_s - one.answered_s > self._forget_after_s:
                del self._known[endpoint]
            else:
                self._known[endpoint] = one._replace(error=_GONE)


def _by_name(gate: Gate) -> tuple[bool, str, str, str]:
    """Those without a name behind the others."""
    return (not gate.gate, gate.app, gate.gate, gate.endpoint)


def _gate(one: Known, now_s: float, clock_s: float) -> Gate:
    app, name, version = one.name
    named = Gate(endpoint=one.endpoint, app=app, gate=name, version=version)
    if not one.answers:
        since_s = one.first_s if one.answered_s is None else one.answered_s
        return replace(named, silent_s=max(0.0, now_s - since_s), error=one.error)
    started_s, memory = one.started_s(), total(one.numbers, "process_resident_memory_bytes")
    tasks = {phase: round(count) for (phase,), count in by(one.numbers, "placet_tasks", "phase").items()}
    ended = by(one.grown, "placet_transactions_total", "result")
    rules = by(one.numbers, "placet_definition_info", "entity", "version", "digest")
    unrunnable = tuple(sorted(entity for (entity,) in by(one.numbers, "placet_unrunnable_definitions", "entity")))
    return replace(
        named,
        rules={
            name: GateRules(int(number), digest)
            for name, number, digest in sorted(rules)
            if number.isdigit() and name not in unrunnable
        },
        unrunnable=unrunnable,
        up_s=None if started_s is None else max(0.0, clock_s - started_s),
        restarted=one.restarted,
        flow=_total([one]),
        running=tasks.get("running", 0),
        waiting=tasks.get("waiting", 0),
        restoring=tasks.get("restoring", 0),
        stopped=tasks.get("stopped", 0),
        aborted=round(ended.get(("aborted",), 0) + ended.get(("migrated",), 0)),
        cpu_share=one.rate(total(one.grown, "process_cpu_seconds_total")),
        memory_bytes=None if memory is None else round(memory),
    )


def _total(answering: list[Known]) -> Flow:
    """The flow through some gates together."""
    rates = [one.rate(total(one.grown, "placet_decisions_total") or 0.0) for one in answering]
    lags = [total(one.numbers, "placet_lag_records") for one in answering]
    p50, p99 = _latency(answering, _DECISION)
    commit_p50, commit_p99 = _latency(answering, _COMMIT)
    return Flow(
        decisions=round(sum(total(one.numbers, "placet_decisions_total") or 0 for one in answering)),
        decisions_per_s=sum_of_known(rates),
        lag_records=rounded(sum_of_known(lags)),
        decision_p50_s=p50,
        decision_p99_s=p99,
        commit_p50_s=commit_p50,
        commit_p99_s=commit_p99,
    )


def _latency(answering: list[Known], name: str) -> tuple[float | None, float | None]:
    """Median and 99th percentile of what was observed since the last look."""
    buckets: dict[float, float] = {}
    for one in answering:
        for (bound,), count in by(one.grown, f"{name}_bucket", "le").items():
            upper = inf if bound == "+Inf" else float(bound)
            buckets[upper] = buckets.get(upper, 0.0) + count
    return quantile(0.5, buckets), quantile(0.99, buckets)


def _outcomes(answering: list[Known]) -> tuple[OutcomeRate, ...]:
    """Counts of all gates by outcome and reason, the most frequent first."""
    counts: dict[tuple[str, str], dict[str, float]] = {}
    rates: dict[tuple[str, str], dict[str, float]] = {}
    for one in answering:
        for table, numbers, scale in ((counts, one.numbers, 1.0), (rates, one.grown, one.seconds)):
            found = by(numbers, "placet_decisions_total", "outcome", "reason", "kind") if scale else {}
            for (outcome, reason, kind), count in found.items():
                row = table.setdefault((outcome, reason), {})
                row[kind] = row.get(kind, 0.0) + count / (scale or 1.0)
    all_s = sum(sum(row.values()) for row in rates.values())
    rows = [_outcome(key, row, rates.get(key, {}) if rates else None, all_s) for key, row in counts.items()]
    return tuple(sorted(rows, key=lambda row: (-row.facts - row.proposals - row.timers, row.outcome, row.reason)))


def _outcome(
    key: tuple[str, str], counts: dict[str, float], rates: dict[str, float] | None, all_s: float
) -> OutcomeRate:
    """One row, from counts and rates by kind."""

    def per_s(kind: str) -> float | None:
        return None if rates is None else rates.get(kind, 0.0)

    return OutcomeRate(
        outcome=key[0],
        reason=key[1],
        facts=round(counts.get("SIGNAL", 0)),
        proposals=round(counts.get("PROPOSAL", 0)),
        timers=round(counts.get("TIMER", 0)),
        facts_per_s=per_s("SIGNAL"),
        proposals_per_s=per_s("PROPOSAL"),
        timers_per_s=per_s("TIMER"),
        share=sum(rates.values()) / all_s if all_s and rates else None,
    )


def _accepted_share(answering: list[Known]) -> float | None:
    decided = [by(one.grown, "placet_decisions_total", "outcome") for one in answering]
    all_of_them = sum(sum(counts.values()) for counts in decided)
    accepted = sum(counts.get(("ACCEPTED",), 0.0) for counts in decided)
    return accepted / all_of_them if all_of_them else None


def _rises(answering: list[Known]) -> Rises:
    """What grew since the last look and should not have."""

    def grown(name: str) -> int:
        return round(sum(total(one.grown, name) or 0 for one in answering))

    return Rises(
        grown("placet_refused_facts_total"), grown("placet_dead_letters_total"), grown("placet_restore_warnings_total")
    )
