"""The phase that compares: gates, Kafka Streams and PostgreSQL on one broker, one after the other, round by round."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

from bench import throughput
from bench.peers.comparison import LABELS
from bench.peers.missing import PeerMissing
from bench.peers.postgres import PostgresPeer
from bench.peers.streams import StreamsPeer
from bench.workload import Workload
from bench.world import Progress, World

ROUNDS = 2
ORDER = (
    "gate_one_process",
    "kafka_streams_one_thread",
    "postgres_batches_of_500",
    "gate_two_processes",
    "kafka_streams_two_threads",
)
"""Of a round: a gate, then those that it is compared with."""
_Made = TypeVar("_Made")
Contender: TypeAlias = Callable[[str, Progress], float]
"""Decides the workload as an app of this name; returns decisions/s after the warm-up."""


class Shown(Protocol):
    """Runs something, and shows how far it is."""

    def __call__(self, what: str, phase: Callable[[Progress], _Made], /) -> _Made: ...


class Comparison:
    """The rounds of one workload.

    Args:
        world: where.
        workload: what all of them decide.
        shown: shows how far each is.
    """

    def __init__(self, world: World, workload: Workload, shown: Shown) -> None:
        self._world, self._workload, self._shown = world, workload, shown
        self.rates: dict[str, list[float]] = {}
        self.not_measured: list[str] = []

    def run(self) -> None:
        """Measure all that can be measured here; afterwards `rates` and `not_measured` say what was found.

        Raises:
            BenchError: one of them decided wrongly, or stood still.
        """
        contenders = self._contenders()
        for number in range(1, ROUNDS + 1):
            for name in [name for name in ORDER if name in contenders]:
                measure = partial(contenders[name], f"round{number}-{name.replace('_', '-')}")
                try:
                    per_s = self._shown(f"{LABELS[name]}, round {number}", measure)
                except PeerMissing as missing:
                    self.not_measured.append(str(missing))
                    del contenders[name]
                else:
                    self.rates.setdefault(name, []).append(per_s)

    def _contenders(self) -> dict[str, Contender]:
        found: dict[str, Contender] = {
            "gate_one_process": partial(self._gates, 1),
            "gate_two_processes": partial(self._gates, 2),
        }
        if streams := self._made(StreamsPeer):
            found["kafka_streams_one_thread"] = partial(streams.records_per_s, self._workload, 1)
            found["kafka_streams_two_threads"] = partial(streams.records_per_s, self._workload, 2)
        if postgres := self._made(PostgresPeer):
            found["postgres_batches_of_500"] = partial(postgres.records_per_s, self._workload)
        return found

    def _gates(self, processes: int, app: str, progress: Progress) -> float:
        return throughput.gates(self._world, self._workload, processes, progress, app=app).records_per_s

    def _made(self, kind: Callable[[World], _Made]) -> _Made | None:
        try:
            return kind(self._world)
        except PeerMissing as missing:
            self.not_measured.append(str(missing))
            return None
