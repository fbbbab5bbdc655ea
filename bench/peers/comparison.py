"""Rates of the gate and of its peers, round by round, and what follows from them. Pure.

The speed of a machine drifts within minutes: so each is measured once in each round, and a gate is compared with the
peer of the same round. What counts is the median of the rounds; all of them are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple, TypeAlias

__all__ = ["LABELS", "RATIOS", "Against", "Rates", "figures", "rows"]

Rates: TypeAlias = Mapping[str, Sequence[float]]
"""Decisions/s of each round, by the name of what was measured."""

LABELS = {
    "gate_one_process": "gate, one process",
    "gate_two_processes": "gate, two processes",
    "kafka_streams_one_thread": "Kafka Streams, one thread",
    "kafka_streams_two_threads": "Kafka Streams, two threads",
    "postgres_batches_of_500": "PostgreSQL procedure, batches of 500",
}
"""What is measured, in the order of the table."""


class Against(NamedTuple):
    """A gate against a peer: their names among the rates, and how many times as fast it should be."""

    gate: str
    peer: str
    goal: str

    @property
    def name(self) -> str:
        return f"{self.gate}_by_{self.peer}"


RATIOS = (
    Against("gate_one_process", "kafka_streams_one_thread", ">= 1.3"),
    Against("gate_two_processes", "kafka_streams_two_threads", ">= 1.6"),
    Against("gate_one_process", "postgres_batches_of_500", ">= 1"),
    Against("gate_two_processes", "postgres_batches_of_500", ">= 1"),
)
"""PostgreSQL has two connections: two gates are as many, one is the harder comparison."""


def figures(rates: Rates, not_measured: Sequence[str]) -> dict[str, Any]:
    """Return the figures for programs: medians, every round, and why something is missing."""
    measured = {
        name: {"records_per_s": median(rates[name]), "rounds": list(rates[name])} for name in LABELS if rates.get(name)
    }
    compared = {}
    for one in RATIOS:
        rounds = [gate / peer for gate, peer in zip(rates.get(one.gate, ()), rates.get(one.peer, ()), strict=False)]
        if rounds:
            compared[one.name] = {"ratio": median(rounds), "rounds": rounds}
    return {**measured, **compared, "not_measured": list(not_measured)}


def rows(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the rows of the table: what, the median with every round behind it, and the goal."""
    shown = [
        (f"{label}, decisions/s", _told(found[name], "records_per_s", "{:,.0f}"), "")
        for name, label in LABELS.items()
        if name in found
    ]
    shown += [
        (f"{LABELS[one.gate]} / {LABELS[one.peer]}", _told(found[one.name], "ratio", "{:.2f}"), one.goal)
        for one in RATIOS
        if one.name in found
    ]
    return shown


def _told(figure: Mapping[str, Any], middle: str, form: str) -> str:
    return f"{form.format(figure[middle])} ({'; '.join(form.format(one) for one in figure['rounds'])})"
