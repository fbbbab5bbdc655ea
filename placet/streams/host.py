"""The machine that a gate runs on: the only place where clocks, threads, clients and stores are real.

Whoever composes parts makes a `LocalHost` and hands it down: a gate in `main`, a client, a command. It has no state.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import faulthandler
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, Final, NoReturn, Protocol

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from placet.streams.kafka.clients import AdminCalls, Clients, ConsumerCalls, ProducerCalls
from placet.streams.runtime import Flag, Inbox, Spawned
from placet.streams.state.disk import Disk
from placet.streams.state.rocksdb import LOCK_FILE, RocksDB, RocksDBStore
from placet.streams.state.store import StateStore

__all__ = ["Host", "LocalHost"]

_LOOK_EVERY_S: Final = 0.05


class Host(Clients, Disk, Protocol):
    """All that a gate takes from outside: time, threads, Kafka's clients, a disk."""


class LocalHost:
    """The real `Host`."""

    def now_ms(self) -> int:
        """See `Runtime`."""
        return time.time_ns() // 1_000_000

    def now_ns(self) -> int:
        """See `Runtime`."""
        return time.time_ns()

    def monotonic_s(self) -> float:
        """See `Runtime`."""
        return time.monotonic()

    def sleep(self, seconds: float, /) -> None:
        """See `Runtime`."""
        time.sleep(seconds)

    def flag(self) -> Flag:
        """See `Runtime`."""
        return _Flag()

    def inbox(self) -> Inbox[Any]:
        """See `Runtime`."""
        return _Inbox()

    def wait(self, futures: Collection[Future[Any]], timeout_s: float, /) -> bool:
        """See `Runtime`."""
        return not concurrent.futures.wait(futures, timeout_s).not_done

    def spawn(self, name: str, work: Callable[[], None], /) -> Spawned:
        """See `Runtime`."""
        thread = Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread

    def give_back_memory(self) -> None:
        """See `Runtime`. Asked of glibc: its threads keep what they freed, each for itself."""
        with suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)

    def end_process(self, exit_code: int, why: str, /) -> NoReturn:
        """See `Runtime`."""
        sys.stderr.write(f"placet: {why}\n")
        faulthandler.dump_traceback(all_threads=True)
        os._exit(exit_code)

    def consumer(self, options: Mapping[str, Any], /) -> ConsumerCalls:
        """See `Clients`."""
        return Consumer(dict(options))

    def producer(self, options: Mapping[str, Any], /) -> ProducerCalls:
        """See `Clients`."""
        return Producer(dict(options))

    def admin(self, options: Mapping[str, Any], /) -> AdminCalls:
        """See `Clients`."""
        return AdminClient(dict(options))

    def open_store(self, folder: Path, /) -> StateStore:
        """See `Disk`."""
        return RocksDBStore(folder)

    def exists(self, path: Path, /) -> bool:
        """See `Disk`."""
        return path.exists()

    def rename(self, path: Path, to: Path, /) -> None:
        """See `Disk`."""
        path.rename(to)

    def remove(self, path: Path, /) -> None:
        """See `Disk`."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def stores(self, folder: Path, /) -> list[tuple[Path, int]]:
        """See `Disk`. Every store has a lock's file."""
        return [(lock.parent, _written_ms(lock.parent)) for lock in sorted(folder.glob(f"*/*/{LOCK_FILE}"))]

    def remove_unused(self, path: Path, /) -> bool:
        """See `Disk`. The lock goes last: whoever comes meanwhile waits for it."""
        try:
            unlock = RocksDB().lock(path)
        except BlockingIOError:
            return False
        try:
            for each in path.iterdir():
                if each.name != LOCK_FILE:
                    self.remove(each)
            (path / LOCK_FILE).unlink()
            path.rmdir()
        finally:
            unlock()
        return True

    def try_folder(self, folder: Path, /) -> None:
        """See `Disk`."""
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".tried-", dir=folder) as tried, (Path(tried) / "file").open("wb") as file:
            file.write(b"placet")
            file.flush()
            os.fsync(file.fileno())


def _written_ms(folder: Path) -> int:
    """Return the newest time of a store's files, the end of time where they can't be looked at.

    A store that is open writes to its own log every few minutes; what goes away meanwhile is somebody else's to remove.
    """
    try:
        return max((file.stat().st_mtime_ns for file in folder.rglob("*")), default=0) // 1_000_000
    except OSError:
        return sys.maxsize


class _Inbox:
    """A queue of any items but None."""

    def __init__(self) -> None:
        self._items: SimpleQueue[Any] = SimpleQueue()

    def put(self, item: Any, /) -> None:
        self._items.put(item)

    def get(self, timeout_s: float | None = None, /) -> Any:
        try:
            return self._items.get(timeout=timeout_s)
        except Empty:
            return None


class _Flag:
    """A flag that a signal's handler may set while the same thread waits for it.

    A plain field, looked at now and then. `threading.Event` takes a lock in `set` and in `wait`: a handler that runs
    between the instructions in which `wait` holds it would wait for its own thread, for ever. `SimpleQueue.get` with a
    timeout stood still as well when a signal interrupted it (both seen on CPython 3.11).
    """

    def __init__(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True

    def wait(self, timeout_s: float, /) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while not self._is_set and (left_s := deadline_s - time.monotonic()) > 0:
            time.sleep(min(_LOOK_EVERY_S, left_s))
        return self._is_set
