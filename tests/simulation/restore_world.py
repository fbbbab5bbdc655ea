"""The real restorer in a simulated world: leaders fall silent, readers break, processes die, the power fails, and disks
are full, are damaged, or lose folders."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

from placet.simulation.choices import Choices
from placet.simulation.disk import SimulatedDisk, StoreFolder
from placet.simulation.host import SimulatedHost
from placet.simulation.scheduler import Process, Scheduler
from placet.streams.errors import FatalError, LogUnreachable
from placet.streams.kafka.cluster import TopicInfo
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.restore_thread import Job, Restorer
from placet.streams.state import layout
from placet.streams.state.store import MemoryStore, StateStore, StoreDamaged
from placet.streams.topology import TaskId
from placet.testing import TestDriver
from tests.lamp import job_of, lamp, lamps
from tests.memory_log import MemoryLog, restore_at_once

__all__ = ["PARTITIONS", "RestoreWorld"]

PARTITIONS: Final = 6
STATE: Final = Path("state")
THE_POWER: Final = "the power failed"
HEAL_NS: Final = 20_000_000_000
LIMIT_S: Final = 60.0
"""Of simulated time. All restores end within 40 s after everything works again."""


class RestoreWorld:
    """One machine, whose process restores all tasks; if it is killed, another one takes over its disk.

    Args:
        seed: of what happens.
        kill_at: the turn at which the first process is killed; None: as it happens, or never.
        faults: whether anything goes wrong at all, but for that.
        script: choices of an earlier history.
    """

    def __init__(
        self, seed: int, *, kill_at: int | None = None, faults: bool = True, script: Sequence[int] = ()
    ) -> None:
        self.choices = Choices(seed, script)
        self.scheduler = Scheduler(self.choices)
        self.disk = SimulatedDisk(self.choices)
        self.driver, self.log = lit()
        self.faults = faults
        self.happened: list[str] = []
        self.silent: set[int] = set()
        self.restored: dict[TaskId, StateStore] = {}
        self.finished = False
        self._copies: dict[Path, StoreFolder] = {}
        self._kill_at = kill_at
        self._brokers = Process("brokers")
        self._kind = replace(self.driver.entity_type, app="app")
        self.process = self._start(1)
        if faults:
            self.scheduler.spawn(self._brokers, "faults", self._go_wrong)

    def run(self) -> None:
        """Let it happen, until every task is restored; then compare each store with one restored in peace."""
        self.scheduler.run(self._over, LIMIT_S)
        for task_id, store in sorted(self.restored.items()):
            assert contents_of(store) == expected(task_id.partition), f"{task_id} after {self.happened}"

    def close(self) -> None:
        """Close what is open: nothing may be locked afterwards."""
        for store in self.restored.values():
            store.close()
        assert self.disk.locked() == []

    def happens(self, what: str, once_in: int) -> bool:
        """Throw dice, as long as things go wrong."""
        if not self.faults or self.scheduler.now_ns > HEAL_NS or not self.choices.happens(once_in):
            return False
        self.happened.append(f"{self.scheduler.now_ns / 1e9:.6f} s: {what}")
        return True

    def answer(self, partition: TopicPartition, future: Future[int], value: int) -> None:
        """Answer a question to a leader after a while; not before the client gives up, where it is silent."""
        until_ns = self.scheduler.now_ns + 1_500_000_000

        def later() -> None:
            self._pause(self.choices.pick(20) * 1_000_000)
            while partition.partition in self.silent and self.scheduler.now_ns < until_ns:
                self._pause(50_000_000)
            if partition.partition in self.silent:
                future.set_exception(LogUnreachable("no answer"))
            else:
                future.set_result(value)

        self.scheduler.spawn(self._brokers, f"answer of {partition.topic}-{partition.partition}", later)

    def _pause(self, duration_ns: int) -> None:
        self.scheduler.wait(self._brokers, None, duration_ns)

    def _over(self) -> bool:
        if self._kill_at is not None and self.scheduler.turns >= self._kill_at:
            self._kill_at = None
            self._kill()
        return self.finished

    def _start(self, number: int) -> Process:
        process = Process(f"gate-{number}")
        host = SimulatedHost(self.scheduler, process, self.disk)
        self.scheduler.spawn(process, "loop", lambda: self._loop(host))
        return process

    def _kill(self, why: str = "killed") -> None:
        self.happened.append(f"{self.scheduler.now_ns / 1e9:.6f} s: {why}")
        self.scheduler.crash(self.process)
        self.restored.clear()
        if why == THE_POWER:
            self.disk.lose_power()
        self.process = self._start(int(self.process.name.rpartition("-")[2]) + 1)

    def _go_wrong(self) -> None:
        while self.scheduler.now_ns < HEAL_NS:
            self._pause(self.choices.pick(40) * 10_000_000)
            if self.happens("a leader falls silent", 3):
                self.silent.add(self.choices.pick(PARTITIONS))
            if self.happens("leaders are elected", 3):
                self.silent.clear()
            if self.happens("killed by the system", 12):
                self._kill()
            if self.happens("the machine has no power", 20):
                self._kill(THE_POWER)
            if self.happens("the disk is full", 20):
                self.disk.refuse(errno.ENOSPC, once_in=1 + self.choices.pick(3))
            if self.happens("there is room", 3):
                self.disk.heal()
            self._go_wrong_in_a_folder()
        self.silent.clear()
        self.disk.heal()

    def _go_wrong_in_a_folder(self) -> None:
        folders = [folder for folder in self.disk.folders() if folder.suffix == ""]
        if not folders:
            return
        folder = folders[self.choices.pick(len(folders))]
        if self.happens("a store is damaged", 60):
            self.disk.damage(folder)
        if self.happens("a folder vanishes", 60):
            self.disk.lose(folder)
        elif self.happens("a folder is copied", 20):
            self._copies[folder] = self.disk.snapshot(folder)
        elif (
            folder in self._copies
            and folder not in self.disk.locked()
            and self.happens("a copy is put in a folder's place", 20)
        ):
            self.disk.put_back(folder, self._copies[folder])

    def _loop(self, host: SimulatedHost) -> None:
        """What the worker does with restores: submit, cancel, take results, hand stores back."""
        restorer = Restorer(host, host, lambda: SimulatedLog(self, host), STATE)
        jobs: dict[TaskId, Job] = {}
        host.sleep(0.5)  # until the system starts it
        for number in range(PARTITIONS):
            self._submit(restorer, jobs, TaskId("lamp", number), None)
        while len(self.restored) < PARTITIONS or self.scheduler.now_ns < HEAL_NS * self.faults:
            host.sleep(0.01)
            for task_id in sorted(self.restored):
                try:
                    self.restored[task_id].get(b"")  # a task decides
                except StoreDamaged as error:
                    self.restored.pop(task_id).close()
                    self._submit(restorer, jobs, task_id, None, str(error))
            if jobs and self.happens("a partition goes and comes back", 40):
                task_id = sorted(jobs)[self.choices.pick(len(jobs))]
                jobs.pop(task_id).cancel()
                self._submit(restorer, jobs, task_id, None)
            if self.restored and self.happens("a transaction aborts", 60):
                task_id = sorted(self.restored)[self.choices.pick(len(self.restored))]
                self._submit(restorer, jobs, task_id, self.restored.pop(task_id))
            while (done := restorer.take_done()) is not None:
                task_id = done.job.task_id
                del jobs[task_id]
                if isinstance(done.error, FatalError):
                    self._kill(f"ended: {done.error}")
                    host.sleep(0.0)
                if done.store is None:  # damaged twice within ten minutes: it stops by name, and a person looks at it
                    assert "damaged again" in str(done.error), done.error
                    self.disk.lose(STATE / "app" / task_id.entity / str(task_id.partition))
                    self._submit(restorer, jobs, task_id, None)
                else:
                    self.restored[task_id] = done.store
        restorer.close()
        self.finished = True

    def _submit(
        self, restorer: Restorer, jobs: dict[TaskId, Job], task_id: TaskId, store: StateStore | None, damage: str = ""
    ) -> None:
        jobs[task_id] = Job(task_id, self._kind, store, damage)
        restorer.submit(jobs[task_id])


class SimulatedLog:
    """A `RestoreLog` on the world's brokers: pieces of any size, answers that take a while, readers that break."""

    def __init__(self, world: RestoreWorld, host: SimulatedHost) -> None:
        self.broken = ""
        self._world = world
        self._host = host
        self._positions: dict[TopicPartition, int] = {}
        self._arrived: dict[TopicPartition, tuple[list[ConsumerRecord], int | None]] = {}
        host.sleep(0.02)
        if world.happens("no broker answers a new reader", 10):
            raise LogUnreachable("metadata: no broker answered")

    def ask_committed(self, partitions: list[TopicPartition]) -> Future[dict[TopicPartition, int | None] | None]:
        found: Future[dict[TopicPartition, int | None] | None] = Future()
        unstable = self._world.happens("a transaction is open", 8)
        answer: Future[int] = Future()
        committed = None if unstable else self._world.log.committed(partitions)

        def hand_on(answer: Future[int]) -> None:
            error = answer.exception()
            if error is not None:
                found.set_exception(error)
            else:
                found.set_result(committed)

        answer.add_done_callback(hand_on)
        self._world.answer(partitions[0], answer, 0)
        return found

    def ask_ends(self, partitions: list[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        return self._ask(partitions, self._world.log.end_offsets)

    def ask_starts(self, partitions: list[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        return self._ask(partitions, self._world.log.start_offsets)

    def ask_topics(self, _topics: Iterable[str]) -> dict[str, Future[TopicInfo]]:
        return {}

    def _ask(
        self, partitions: Iterable[TopicPartition], look: Callable[[list[TopicPartition]], dict[TopicPartition, int]]
    ) -> dict[TopicPartition, Future[int]]:
        answers: dict[TopicPartition, Future[int]] = {}
        for partition, value in look(list(partitions)).items():
            answers[partition] = Future()
            self._world.answer(partition, answers[partition], value)
        return answers

    def start(self, partition: TopicPartition, position: int) -> None:
        self._check()
        self._positions[partition] = position

    def take(self, partition: TopicPartition) -> tuple[list[ConsumerRecord], int | None]:
        self._check()
        return self._arrived.pop(partition, ([], None))

    def stop(self, partition: TopicPartition) -> None:
        self._positions.pop(partition, None)
        self._arrived.pop(partition, None)

    def poll(self) -> None:
        self._host.sleep(0.0)
        if self._positions and self._world.happens("a reader breaks", 300):
            self.broken = "its connection went"
        for partition, position in self._positions.items():
            if partition.partition not in self._world.silent and partition not in self._arrived:
                records = self._world.log.records(partition, position)
                piece = records[: self._world.choices.pick(len(records) + 1)]
                all_of_it = len(piece) == len(records)
                to = self._world.log.end(partition) if all_of_it else records[len(piece)].offset
                self._positions[partition] = to
                self._arrived[partition] = piece, to if all_of_it else None

    def close(self) -> None:
        self.broken = self.broken or "closed"

    def _check(self) -> None:
        if self.broken:
            raise LogUnreachable(self.broken)


@cache
def lit() -> tuple[TestDriver, MemoryLog]:
    """A driver with a history, and its log in each partition."""
    driver = lamp()
    return driver, lamps(driver, PARTITIONS)


def contents_of(store: StateStore) -> list[tuple[bytes, bytes]]:
    """What is in a store, but for the time when it was made."""
    return [pair for pair in store.scan(b"", b"", 99_999) if pair[0] != layout.MADE_AT]


def expected(partition: int) -> list[tuple[bytes, bytes]]:
    """What is in a store that was restored in peace."""
    if partition not in _EXPECTED:
        (driver, log), store = lit(), MemoryStore()
        restore_at_once(job_of(driver, partition, 1, store), log)
        _EXPECTED[partition] = contents_of(store)
    return _EXPECTED[partition]


_EXPECTED: Final[dict[int, list[tuple[bytes, bytes]]]] = {}
