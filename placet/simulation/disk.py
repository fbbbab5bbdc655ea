"""A simulated disk: folders with stores that outlive processes, and what a death takes with it.

A killed process loses batches that it wrote without the write-ahead log since the last flush, from some batch on, and
nothing else: they are never reordered, and none is there by half. Its locks go with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from placet.simulation.choices import Choices
from placet.simulation.scheduler import Process
from placet.streams.errors import FatalError
from placet.streams.state.store import MemoryStore, StoreDamaged, StoreLocked, Writes

__all__ = ["SimulatedDisk", "SimulatedStore"]


class _Folder:
    """What is in a folder: a store that is safe, the process that has it, and what is the matter with it."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.unsafe: list[Writes] = []  # written without the log, and not flushed yet
        self.owner: Process | None = None
        self.damaged = False

    @property
    def locked(self) -> bool:
        return self.owner is not None and not self.owner.dead


class SimulatedDisk:
    """The folders of one machine.

    Args:
        choices: how much of what was not flushed outlives a death.

    Attributes:
        refuses: words of the error that each call raises, such as "No space left on device"; "" while it works.
    """

    def __init__(self, choices: Choices) -> None:
        self.refuses = ""
        self._choices = choices
        self._folders: dict[Path, _Folder] = {}

    def damage(self, folder: Path) -> None:
        """Let a store be damaged, from its next call on."""
        self._folders[folder].damaged = True

    def locked(self) -> list[Path]:
        """Return the folders that a living process has open."""
        return sorted(path for path, folder in self._folders.items() if folder.locked)

    def folders(self) -> list[Path]:
        """Return all folders."""
        return sorted(self._folders)

    def open(self, path: Path, process: Process) -> SimulatedStore:
        """Open a folder's store for a process. See `Disk.open_store`."""
        if self.refuses:
            raise FatalError(f"{path} can't be written: {self.refuses}")
        folder = self._folders.setdefault(path, _Folder())
        if folder.locked:
            raise StoreLocked(f"{path} is in use by another process")
        if folder.damaged:
            raise StoreDamaged(f"{path}: Corruption: block checksum mismatch")
        if folder.unsafe:
            for writes in folder.unsafe[: self._choices.pick(len(folder.unsafe) + 1)]:
                put(folder.values, writes)
            folder.unsafe.clear()
        folder.owner = process
        return SimulatedStore(path, folder, process)

    def exists(self, path: Path) -> bool:
        """See `Disk`."""
        return path in self._folders

    def rename(self, path: Path, to: Path) -> None:
        """See `Disk`."""
        self._work()
        self._folders[to] = self._folders.pop(path)

    def remove(self, path: Path) -> None:
        """See `Disk`."""
        self._work()
        self._folders.pop(path, None)

    def try_folder(self, _path: Path) -> None:
        """See `Disk`."""
        self._work()

    def _work(self) -> None:
        if self.refuses:
            raise OSError(self.refuses)


class SimulatedStore:
    """A store in a simulated folder. See `placet.streams.state.store.StateStore`."""

    def __init__(self, path: Path, folder: _Folder, process: Process) -> None:
        self._path = path
        self._folder = folder
        self._check = process.check
        self._values = MemoryStore()
        self._values.write(folder.values)
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        """See `StateStore`."""
        self._use()
        return self._values.get(key)

    def write(self, writes: Writes) -> None:
        """See `StateStore`: safe when it returns."""
        self._use()
        self._values.write(writes)
        put(self._folder.values, writes)

    @contextmanager
    def filling(self, _records: int, /) -> Iterator[Callable[[Writes], None]]:
        """See `StateStore`: nothing of it is safe before the end."""
        self._use()

        def write(writes: Writes) -> None:
            self._use()
            self._values.write(writes)
            self._folder.unsafe.append(writes)

        try:
            yield write
        finally:
            self._use()
            for writes in self._folder.unsafe:
                put(self._folder.values, writes)
            self._folder.unsafe.clear()

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See `StateStore`."""
        self._use()
        return self._values.scan(prefix, start, limit)

    def close(self) -> None:
        """See `StateStore`."""
        self._check()
        assert not self._closed, f"{self._path} is closed twice"
        self._closed = True
        self._folder.owner = None

    def _use(self) -> None:
        self._check()
        assert not self._closed, f"{self._path} is used after it was closed"
        if self._folder.damaged:
            raise StoreDamaged(f"{self._path}: Corruption: block checksum mismatch")


def put(values: dict[bytes, bytes], writes: Writes) -> None:
    """Apply a batch."""
    for key, value in writes.items():
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value
