"""A simulated database under the real store: rocksdict's calls and RocksDB's words, on a simulated disk.

As the real one does, it goes on reading where the disk is full; once a write has failed it refuses all others, until
it is opened again or, where there is room once more, has recovered; and in a folder that was removed beneath it, it
goes on until it needs a new file.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from placet.simulation.disk import SimulatedDisk
from placet.simulation.scheduler import Process
from placet.streams.state.store import Writes

__all__ = ["SimulatedDatabase", "SimulatedEngine", "SimulatedPairs"]

_BATCHES_MAX: Final = 500
"""As many as memory has room for: then they are flushed."""
_ONCE_IN: Final = 4
"""How many writes there are for one that finds its memory full, and for one that finds the database recovered."""
_READABLE_MAX: Final = 5
"""How many pairs there may be before a scan meets damage."""


class SimulatedEngine:
    """What a store of a simulated process takes from its machine. See `placet.streams.state.engine.Engine`.

    Args:
        disk: of the machine.
        process: whose calls these are. Those of a dead one do nothing.
    """

    worth_a_list = 5

    def __init__(self, disk: SimulatedDisk, process: Process) -> None:
        self._disk = disk
        self._process = process

    def lock(self, folder: Path, /) -> Callable[[], None]:
        """See `Engine`. The lock of a dead process is none."""
        process = self._process
        process.check()
        found = self._disk.folder(folder)
        if found.locked:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        found.owner, found.written_ms = process, self._disk.clock_ms()

        def unlock() -> None:
            process.check()
            assert found.owner is process, f"{folder} is closed twice"
            found.owner, found.written_ms = None, self._disk.clock_ms()

        return unlock

    def open(self, folder: Path, _options: Any, /, *, create: bool) -> SimulatedDatabase:
        """See `Engine`."""
        self._process.check()
        return SimulatedDatabase(self._disk, folder, self._process, create=create)

    def batch(self, writes: Writes, /) -> Writes:
        """See `Engine`."""
        return dict(writes)


class SimulatedDatabase:
    """An open database. See `placet.streams.state.engine.Database`."""

    def __init__(self, disk: SimulatedDisk, path: Path, process: Process, *, create: bool) -> None:
        self._disk = disk
        self._path = path
        self._process = process
        self._failed = ""  # what the first write that failed met
        self._handle = process, path
        if self._handle in disk.databases:
            raise self._error(f"IO error: lock hold by current process: {path}/db/LOCK: No locks available")
        try:
            self._folder = disk.folder(path)
            disk.try_to_write()
        except OSError as error:
            raise self._error(self._appending(error, "MANIFEST-000005")) from error
        if not self._folder.has_database and not create:
            raise self._error(f"Invalid argument: {path}/db/CURRENT: does not exist (create_if_missing is false)")
        if self._folder.meets_damage():
            raise self._error(
                f"Corruption: Sst file size mismatch: {path}/db/000009.sst. Expected 650735, actual size 325367  "
                f"The file {path}/db/MANIFEST-000005 may be corrupted."
            )
        self._folder.has_database = True
        self._folder.recover(disk.choices)
        disk.databases.add(self._handle)
        self._place = self._folder.path
        self._values = dict(self._folder.safe)
        self._keys: list[bytes] = []  # in order, but for those that came or went since then
        self._moved = set(self._values)

    def get(self, key: bytes, /) -> bytes | None:
        """See `Database`."""
        if self._process.dead or self._folder.calls_to_damage is not None or self._disk.refuses:
            self.try_to_read()
        return self._values.get(key)

    def write(self, batch: Writes, options: Any, /) -> None:
        """See `Database`."""
        logged = not options.disable_wal
        if self._disk.before_write is not None and not self._process.dead:
            self._disk.before_write()
        if self._troubled:
            full = self._disk.choices.pick(_ONCE_IN) == 0
            bad = self._disk.bad
            try:
                self._try_to_write(appends=logged or full, new_file=full)
            except Exception:
                if self._disk.bad > bad and self._disk.choices.pick(2):
                    self._folder.recent.append((batch, logged))  # it reached the disk, and its sync failed
                raise
        values, moved = self._values, self._moved
        for key, value in batch.items():
            if value is None:
                if values.pop(key, None) is not None:
                    moved.add(key)
            else:
                if key not in values:
                    moved.add(key)
                values[key] = value
        recent = self._folder.recent
        recent.append((batch, logged))
        self._folder.written_ms = self._disk.clock_ms()
        if len(recent) > _BATCHES_MAX and not self._troubled:
            self._folder.flush()

    def iter(self) -> SimulatedPairs:
        """See `Database`."""
        self._process.check()
        return SimulatedPairs(self)

    def live_files(self) -> list[dict[str, Any]]:
        """See `Database`. One file has it all, below the first level once it was merged."""
        self._process.check()
        return [{"level": self._folder.level}]

    def compact_range(self, _begin: None, _end: None, /) -> None:
        """See `Database`."""
        self.flush()
        self._folder.level = 6

    def set_options(self, _options: dict[str, str], /) -> None:
        """See `Database`. They are kept in a file."""
        if self._troubled:
            self._try_to_write(appends=True, new_file=True)
        self._folder.cleaned += 1

    def flush(self, *, wait: bool = True) -> None:
        """See `Database`. It never takes long."""
        del wait
        if self._troubled:
            unwritten = bool(self._folder.recent)
            self._try_to_write(appends=unwritten, new_file=unwritten)
        self._folder.flush()

    def close(self) -> None:
        """See `Database`. What it could not flush is as after a crash."""
        self._process.check()
        self._disk.databases.remove(self._handle)
        self.flush()

    # -- for the iterator ----------------------------------------------------------------------------------------------

    def pairs(self) -> tuple[list[bytes], dict[bytes, bytes]]:
        """Return the keys in order, and the values."""
        if self._moved:
            values, moved = self._values, self._moved
            self._keys = [key for key in self._keys if key not in moved]
            self._keys.extend(key for key in moved if key in values)
            self._keys.sort()
            self._moved = set()
        return self._keys, self._values

    def try_to_read(self) -> None:
        """Raise what a call that reads meets."""
        self._process.check()
        if self._folder.meets_damage():
            raise self._error(self._checksum())
        try:
            self._disk.try_to_read()
        except OSError as error:
            words = f"IO error: While open a file for random read: {self._path}/db/000009.sst: {error.strerror}"
            raise self._error(words) from error

    def readable(self) -> int:
        """Return how many pairs can be read before the damage that an iterator meets."""
        return self._disk.choices.pick(_READABLE_MAX)

    # ------------------------------------------------------------------------------------------------------------------

    @property
    def _troubled(self) -> bool:
        folder = self._folder
        return bool(
            self._process.dead
            or self._failed
            or self._disk.refuses
            or folder.calls_to_damage is not None
            or folder.path is not self._place
        )

    def _try_to_write(self, *, appends: bool, new_file: bool) -> None:
        """Raise what a call that writes meets.

        Args:
            appends: whether it writes to disk at all.
            new_file: whether it needs a file that is not open yet.
        """
        self._process.check()
        if self._failed and not self._recovers():
            raise self._error(self._failed)
        if self._folder.meets_damage():
            self._failed = self._checksum()
        elif new_file and self._folder.path != self._place:
            gone = os.strerror(errno.ENOENT)
            self._failed = f"IO error: {gone}: While open a file for appending: {self._path}/db/000010.log: {gone}"
        elif appends:
            try:
                self._disk.try_to_write()
            except OSError as error:
                self._failed = self._appending(error, "000008.log")
        if self._failed:
            raise self._error(self._failed)

    def _recovers(self) -> bool:
        """Where there was no room, RocksDB looks again every few seconds; all else stays until it is opened again."""
        for_room = os.strerror(errno.ENOSPC) in self._failed
        if for_room and not self._disk.refuses and self._disk.choices.pick(_ONCE_IN) == 0:
            self._failed = ""
        return not self._failed

    def _appending(self, error: OSError, file: str) -> str:
        kind = f"{error.strerror}: " if error.errno == errno.ENOSPC else ""
        return f"IO error: {kind}While appending to file: {self._path}/db/{file}: {error.strerror}"

    def _checksum(self) -> str:
        return (
            "Corruption: block checksum mismatch: stored(context removed) = 4172472576, computed = 1677148166, "
            f"type = 4  in {self._path}/db/000009.sst offset 12233 size 4073"
        )

    def _error(self, words: str) -> Exception:
        self._disk.choices.note(words)
        return Exception(words)


class SimulatedPairs:
    """An iterator over a database that is not written meanwhile. See `placet.streams.state.engine.Pairs`."""

    def __init__(self, database: SimulatedDatabase) -> None:
        self._database = database
        self._keys, self._values = database.pairs()
        self._at = self._end = len(self._keys)
        self._error: Exception | None = None

    def seek(self, key: bytes, /) -> None:
        """See `Pairs`."""
        self._at = bisect_left(self._keys, key)
        try:
            self._database.try_to_read()
        except Exception as error:  # noqa: BLE001 - as rocksdict has no other
            self._error = error
            self._end = min(self._end, self._at + self._database.readable())

    def valid(self) -> bool:
        """See `Pairs`."""
        return self._at < self._end

    def key(self) -> bytes:
        """See `Pairs`."""
        return self._keys[self._at]

    def value(self) -> bytes:
        """See `Pairs`."""
        return self._values[self._keys[self._at]]

    def next(self) -> None:
        """See `Pairs`."""
        assert self.valid(), "rocksdict's own ends the process here"
        self._at += 1

    def status(self) -> None:
        """See `Pairs`."""
        if self._error is not None and self._at >= self._end:
            raise self._error
