"""A gate in memory: what `placet run` builds, on a simulated Kafka of one broker on which nothing ever goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import get_ident
from typing import Final, NoReturn

from placet.schemas.definition.model import Definition
from placet.schemas.errors import PlacetError
from placet.simulation.brokers.cluster import SimulatedCluster
from placet.simulation.choices import CalmChoices
from placet.simulation.disk import SimulatedDisk
from placet.simulation.host import SimulatedHost
from placet.simulation.scheduler import Process, Scheduler
from placet.streams.entity_type import EntityType
from placet.streams.errors import FatalError, TaskStopped
from placet.streams.loop.due_timers import NEVER
from placet.streams.loop.observer import SchemaWait
from placet.streams.loop.task import Counts, Task
from placet.streams.loop.worker import Worker
from placet.streams.main import build
from placet.streams.records import TopicPartition
from placet.streams.runtime import Flag
from placet.streams.settings import KafkaSettings, RegistrySettings, Settings
from placet.streams.state.store import StateStore
from placet.streams.topics.configs import required_topics
from placet.streams.topology import TaskId
from placet.testing.log import DriverLog

__all__ = ["APP", "MemoryGate"]

APP: Final = "test"
_LIMIT_S: Final = 600.0
"""Of simulated time: what takes longer never happens."""
_IDLE_MS: Final = 5_000
"""Between two looks of an idle gate for something to do: simulated time costs what happens in it."""
# Likewise: a member that is alone need not be heard of often.
_GROUP: Final = {"consumer.heartbeat.interval.ms": "60000", "consumer.session.timeout.ms": "600000"}


class MemoryGate:
    """One gate for one entity type, started again as often as its driver likes.

    Args:
        definition: the rules that the topics are made for.
        partitions: how many partitions each topic has.
        start_ms: the clock's first time, ms since the epoch.
        make_store: makes a partition's local store.

    Attributes:
        log: the topics.
        worker: the loop that runs.
    """

    def __init__(
        self, definition: Definition, partitions: int, start_ms: int, make_store: Callable[[], StateStore]
    ) -> None:
        self.worker: Worker
        self._scheduler = Scheduler(CalmChoices(), start_ms * 1_000_000, stands_still=True)
        self._cluster = SimulatedCluster(self._scheduler, brokers=1)
        self._cluster.network.near = True
        self._cluster.group(APP).settings.update(_GROUP)
        for name, count, configs in _topics(definition, partitions):
            self._cluster.create_topic(name, count, configs)
        self.log = DriverLog(self._cluster, APP, definition.entity)
        self._entity = definition.entity
        self._tasks = [TaskId(definition.entity, number) for number in range(partitions)]
        self._make_store = make_store
        self._process = Process("gate")
        self._told = _Told()
        self._stopping: Flag
        self._failed: PlacetError | None = None
        self._ended = True
        self._thread = get_ident()

    @property
    def now_ms(self) -> int:
        """The clock of gate and broker, ms since the epoch."""
        return self._scheduler.start_ns // 1_000_000

    @property
    def entity_type(self) -> EntityType:
        """The definition as the gate runs it."""
        return self.worker.rules.entity_types[self._entity]

    def task(self, partition: int) -> Task:
        """Return the task of a partition.

        Raises:
            TaskStopped: it can't go on.
            PlacetError: the gate ended itself.
        """
        task_id = self._tasks[partition]
        if task_id not in self.worker.tasks:
            self._raise_why()
        return self.worker.tasks[task_id]

    def start(self, definition: Definition) -> None:
        """Start a gate on an empty disk, and let it restore.

        Raises:
            TaskStopped: the log contradicts itself.
            PlacetError: it refuses to start.
        """
        self._process, self._told, self._failed, self._ended = Process("gate"), _Told(), None, False
        host = _Host(self._scheduler, self._process, self._cluster, self._make_store)
        stopping = self._stopping = host.flag()

        def run() -> None:
            try:
                self.worker = build(host, _settings(), (definition,), self._told, stopping)
                self.worker.run()
            except PlacetError as error:
                self._failed = error
            finally:
                self._ended = True

        self._scheduler.spawn(self._process, "main", run)
        self._run(lambda: self._told.running == len(self._tasks))

    def end(self) -> None:
        """Let the gate stop in good order, if it runs."""
        if not self._ended:
            self._stopping.set()
            self._scheduler.run_to_rest(lambda: self._ended, _LIMIT_S)
        self._scheduler.crash(self._process)

    def close(self) -> None:
        """Give all of it back. In another thread than its own, Python does that later."""
        if get_ident() == self._thread:
            self._scheduler.close()

    def decide(self) -> None:
        """Let the gate decide all that waits, and wait again itself.

        Raises:
            TaskStopped: a task can't go on.
            PlacetError: the gate ended itself.
        """
        waiting = self.log.release()
        if waiting:
            self._run(lambda: self._has_decided(waiting))

    def advance(self, by_ms: int) -> None:
        """Move the clock forward, and let an idle gate delete what expired.

        Args:
            by_ms: how far.

        Raises:
            TaskStopped: a task can't go on.
            PlacetError: the gate ended itself.
        """
        target_ms = self.now_ms + by_ms
        idle = [task_id for task_id in self._tasks if not self.log.waits_for(task_id)]
        while (
            due := min((self.task(task_id.partition).timers.next_due for task_id in idle), default=NEVER)
        ) < target_ms:
            self._go_to(max(self.now_ms, due + 1), idle)
        self._go_to(target_ms, idle)

    def _go_to(self, now_ms: int, idle: list[TaskId]) -> None:
        self._scheduler.start_ns = now_ms * 1_000_000
        if any(self._is_due(task_id) for task_id in idle):
            self._run(lambda: not any(map(self._is_due, idle)) and self._cluster.transactions.all_ended())

    def _is_due(self, task_id: TaskId) -> bool:
        task = self.worker.tasks.get(task_id)
        return task is None or task.timers.next_due < self.now_ms or task.needs_housekeeping(self.now_ms)

    def _has_decided(self, waiting: list[tuple[TopicPartition, int]]) -> bool:
        """Tell whether the tasks have stored what came of all inputs; what is decided is taken off the list."""
        tasks = self.worker.tasks
        while waiting:
            (topic, number), end = waiting[-1]
            task = tasks.get(self._tasks[number])
            if task is None or task.positions[topic] < end:
                return False
            waiting.pop()
        return self._cluster.transactions.all_ended()

    def _run(self, until: Callable[[], bool]) -> None:
        """Let the gate run until something is true, and tell what kept it from that."""
        if get_ident() != self._thread:
            raise RuntimeError("a TestDriver is used in another thread than the one that made it: make one there")
        told = self._told
        self._scheduler.run_to_rest(lambda: until() or self._ended or bool(told.stopped), _LIMIT_S)
        if self._ended or told.stopped:
            self._raise_why()

    def _raise_why(self) -> NoReturn:
        if self._failed is not None:
            raise self._failed
        for task_id, why in self._told.stopped.items():
            raise TaskStopped(next(known for known in self._tasks if str(known) == task_id), why)
        raise FatalError("the gate has ended: start another one with `restart`")


class _Host(SimulatedHost):
    """The gate's machine, whose stores are the user's."""

    def __init__(
        self,
        scheduler: Scheduler,
        process: Process,
        cluster: SimulatedCluster,
        make_store: Callable[[], StateStore],
    ) -> None:
        super().__init__(scheduler, process, SimulatedDisk(scheduler.choices), cluster=cluster)
        self._make_store = make_store

    def open_store(self, _folder: Path, /) -> StateStore:
        """See `Disk`."""
        return self._make_store()


class _Told:
    """An `Observer` that keeps what became of the tasks."""

    def __init__(self) -> None:
        self.running = 0
        self.stopped: dict[str, str] = {}

    def tasks(self, phases: dict[str, str]) -> None:
        self.running = sum(phase == "running" for phase in phases.values())

    def event(self, name: str, **details: object) -> None:
        if name == "task stopped":
            self.stopped[str(details["task"])] = str(details["why"])

    def decided(
        self, entity: str, partition: int, counts: Counts, end_to_end_s: float, overdue_ms: Sequence[int]
    ) -> None: ...

    def transaction(self, result: str, duration_s: float) -> None: ...

    def restored(self, task: str, records: int, duration_s: float, warning: str) -> None: ...

    def restoring(self, progress: dict[str, tuple[int, int | None]], waits_for: dict[str, str]) -> None: ...

    def lag(self, records: Mapping[tuple[str, int], int]) -> None: ...

    def next_due(self, at_ms: Mapping[TaskId, int]) -> None: ...

    def looped(self) -> None: ...

    def awake(self) -> None: ...

    def can_not_run(self, why: Mapping[str, str], *, outside: bool) -> None: ...

    def schema_waits(self, waits: Mapping[str, SchemaWait]) -> None: ...

    def unfit_topics(self, faults: Mapping[str, int]) -> None: ...

    def partitions(self, entity: str, count: int) -> None: ...

    def rules(self, entity: str, version: int, digest: bytes) -> None: ...


@cache
def _settings() -> Settings:
    """The usual ones, whatever the environment says. The clocks of gate and broker are one: none is ahead."""
    return Settings.model_construct(
        app=APP, instance="driver", state_dir=Path("state"), kafka=KafkaSettings(), registry=RegistrySettings(),
        max_clock_skew_ms=0, poll_timeout_ms=_IDLE_MS,
    )  # fmt: skip


def _topics(definition: Definition, partitions: int) -> list[tuple[str, int, dict[str, str]]]:
    """Name, partitions and settings of each topic that the gate needs."""
    return [
        (spec.name, spec.partitions or 1, {need.config: need.wanted or need.value for need in spec.needs})
        for spec in required_topics(APP, [definition], partitions)
    ]
