"""A process's host in a simulation: its clocks, threads and waiting (`Runtime`), and its disk (`Disk`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NoReturn

from placet.simulation.brokers.cluster import SimulatedCluster
from placet.simulation.clients.admin import SimulatedAdmin
from placet.simulation.clients.consumer import SimulatedConsumer
from placet.simulation.clients.producer import SimulatedProducer
from placet.simulation.database import SimulatedEngine
from placet.simulation.disk import SimulatedDisk
from placet.simulation.scheduler import Crashed, Fiber, Process, Scheduler, Waiters
from placet.streams.runtime import Flag, Inbox, Spawned
from placet.streams.state.rocksdb import RocksDBStore
from placet.streams.state.store import StateStore

__all__ = ["SimulatedHost"]


class SimulatedHost:
    """What a simulated process takes from its machine. See `placet.streams.runtime.Runtime` and `state.disk.Disk`.

    Args:
        scheduler: runs the process.
        process: whose host it is.
        disk: of the machine: it outlives the process.
        skew_ns: how far the machine's wall clock is ahead.
        cluster: Kafka, for those that use it.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        process: Process,
        disk: SimulatedDisk,
        skew_ns: int = 0,
        cluster: SimulatedCluster | None = None,
    ) -> None:
        self._cluster = cluster or SimulatedCluster(scheduler)
        self._scheduler = scheduler
        self._process = process
        self._disk = disk
        self.skew_ns = skew_ns
        self._engine = SimulatedEngine(disk, process)
        disk.clock_ms = lambda: scheduler.wall_ns() // 1_000_000

    # -- Runtime -------------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """See `Runtime`."""
        return self.now_ns() // 1_000_000

    def now_ns(self) -> int:
        """See `Runtime`."""
        self._process.check()
        return self._scheduler.wall_ns() + self.skew_ns

    def monotonic_s(self) -> float:
        """See `Runtime`."""
        self._process.check()
        return self._scheduler.now_ns / 1e9

    def sleep(self, seconds: float, /) -> None:
        """See `Runtime`."""
        self._scheduler.wait(self._process, None, _ns(seconds))

    def flag(self) -> Flag:
        """See `Runtime`."""
        return _SimulatedFlag(self._scheduler, self._process)

    def inbox(self) -> Inbox[Any]:
        """See `Runtime`."""
        return _SimulatedInbox(self._scheduler, self._process)

    def wait(self, futures: Collection[Future[Any]], timeout_s: float, /) -> bool:
        """See `Runtime`."""
        scheduler, waiters = self._scheduler, Waiters()
        until_ns = scheduler.now_ns + _ns(timeout_s)
        for future in futures:
            future.add_done_callback(lambda _: scheduler.wake(waiters))
        while not all(future.done() for future in futures):
            if not scheduler.wait(self._process, waiters, until_ns - scheduler.now_ns):
                break
        return all(future.done() for future in futures)

    def spawn(self, name: str, work: Callable[[], None], /) -> Spawned:
        """See `Runtime`. Called before the simulation runs as well, by whoever builds the process."""
        return _SimulatedThread(self._scheduler, self._process, self._scheduler.spawn(self._process, name, work))

    def give_back_memory(self) -> None:
        """See `Runtime`. There is none to give."""

    def end_process(self, exit_code: int, why: str, /) -> NoReturn:
        """See `Runtime`."""
        self._process.check()
        self._process.exit_code = exit_code
        self._scheduler.choices.note(f"{self._process.name} ends itself: {why}")
        self._scheduler.crash(self._process)
        raise Crashed

    # -- Clients -------------------------------------------------------------------------------------------------------

    def consumer(self, options: Mapping[str, Any], /) -> SimulatedConsumer:
        """See `Clients`."""
        self._process.check()
        return SimulatedConsumer(self._cluster, self._process, options)

    def producer(self, options: Mapping[str, Any], /) -> SimulatedProducer:
        """See `Clients`."""
        self._process.check()
        return SimulatedProducer(self._cluster, self._process, options)

    def admin(self, options: Mapping[str, Any], /) -> SimulatedAdmin:
        """See `Clients`."""
        self._process.check()
        return SimulatedAdmin(self._cluster, self._process, options)

    # -- Disk ----------------------------------------------------------------------------------------------------------

    def open_store(self, folder: Path, /) -> StateStore:
        """See `Disk`. The real store, on a simulated database."""
        self._scheduler.turn(self._process)
        return RocksDBStore(folder, self._engine)

    def exists(self, path: Path, /) -> bool:
        """See `Disk`."""
        self._scheduler.turn(self._process)
        return self._disk.exists(path)

    def rename(self, path: Path, to: Path, /) -> None:
        """See `Disk`."""
        self._scheduler.turn(self._process)
        self._disk.rename(path, to)

    def remove(self, path: Path, /) -> None:
        """See `Disk`."""
        self._scheduler.turn(self._process)
        self._disk.remove(path)

    def stores(self, folder: Path, /) -> list[tuple[Path, int]]:
        """See `Disk`."""
        self._scheduler.turn(self._process)
        return self._disk.stores(folder)

    def remove_unused(self, path: Path, /) -> bool:
        """See `Disk`."""
        self._scheduler.turn(self._process)
        return self._disk.remove_unused(path)

    def try_folder(self, folder: Path, /) -> None:
        """See `Disk`."""
        self._scheduler.turn(self._process)
        self._disk.try_folder(folder)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


class _SimulatedFlag:
    def __init__(self, scheduler: Scheduler, process: Process) -> None:
        self._scheduler = scheduler
        self._process = process
        self._is_set = False
        self._waiters = Waiters()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._scheduler.wake(self._waiters)

    def wait(self, timeout_s: float, /) -> bool:
        if not self._is_set:
            self._scheduler.wait(self._process, self._waiters, _ns(timeout_s))
        return self._is_set


class _SimulatedInbox:
    def __init__(self, scheduler: Scheduler, process: Process) -> None:
        self._scheduler = scheduler
        self._process = process
        self._items: deque[Any] = deque()
        self._waiters = Waiters()

    def put(self, item: Any, /) -> None:
        self._items.append(item)
        self._scheduler.wake(self._waiters)

    def get(self, timeout_s: float | None = None, /) -> Any:
        self._scheduler.turn(self._process)
        if not self._items and timeout_s != 0.0:
            self._scheduler.wait(self._process, self._waiters, None if timeout_s is None else _ns(timeout_s))
        return self._items.popleft() if self._items else None


class _SimulatedThread:
    def __init__(self, scheduler: Scheduler, process: Process, fiber: Fiber) -> None:
        self._scheduler = scheduler
        self._process = process
        self._fiber = fiber

    def join(self, timeout_s: float | None = None, /) -> None:
        if not self._fiber.done:
            self._scheduler.wait(self._process, self._fiber.ended, None if timeout_s is None else _ns(timeout_s))

    def is_alive(self) -> bool:
        return not self._fiber.done
