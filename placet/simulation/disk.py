"""A simulated disk: folders that outlive processes, what a crash leaves in them, and what is the matter with them.

Batches that were written with the write-ahead log outlive their process; when the power is lost, the last of them may
be missing. Batches without it are on disk up to some point, from which on a crash takes them. None is there by half,
and none without the earlier ones that were written in the same way.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from placet.simulation.choices import Choices
from placet.simulation.scheduler import Process
from placet.streams.state.store import Writes

__all__ = ["SimulatedDisk", "StoreFolder", "put"]

_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READS_GO_ON: Final = _NO_ROOM | {errno.EROFS}


class StoreFolder:
    """A folder with a database in it.

    Attributes:
        path: where it is; None once it was removed.
        owner: the process that has locked it, which may be dead.
        has_database: whether one was ever made in it.
        safe: what is on disk for good.
        recent: batches since then, in order, each with whether it is in the write-ahead log.
        calls_to_damage: how many calls go well before one meets damage; None if it is sound.
        level: of its files, 0 until they are merged.
        cleaned: how often it was told to look for old files.
        written_ms: when it was opened, written or closed last.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self.owner: Process | None = None
        self.has_database = False
        self.safe: dict[bytes, bytes] = {}
        self.recent: list[tuple[Writes, bool]] = []
        self.calls_to_damage: int | None = None
        self.level = self.cleaned = self.written_ms = 0

    @property
    def locked(self) -> bool:
        """Tell whether a living process has it."""
        return self.owner is not None and not self.owner.dead

    def meets_damage(self) -> bool:
        """Tell whether this call meets damage. All after it do so too."""
        left = self.calls_to_damage
        if left:
            self.calls_to_damage = left - 1
        return left == 0

    def flush(self) -> None:
        """Put all that was written on disk."""
        for writes, _ in self.recent:
            put(self.safe, writes)
        self.recent.clear()

    def recover(self, choices: Choices) -> None:
        """Put on disk what a dead process has left, as opening does: all but what some last flush did not reach."""
        unlogged = sum(not logged for _, logged in self.recent)
        flushed = choices.pick(unlogged + 1) if unlogged else 0
        for writes, logged in self.recent:
            if logged or flushed > 0:
                put(self.safe, writes)
            flushed -= not logged
        self.recent.clear()

    def lose_power(self, choices: Choices) -> None:
        """Lose batches of the log as well, from some batch on, but none that a flush reached."""
        if self.recent:
            flushed = choices.pick(len(self.recent) + 1)
            reached = flushed + choices.pick(len(self.recent) - flushed + 1)
            kept = [(writes, True) for writes, _ in self.recent[:flushed]]
            self.recent = kept + [batch for batch in self.recent[flushed:reached] if batch[1]]

    def copy_of(self, path: Path) -> StoreFolder:
        """Return a folder with the same content, such as a snapshot of the file system holds."""
        copy = StoreFolder(path)
        copy.safe, copy.recent = dict(self.safe), list(self.recent)
        copy.has_database, copy.calls_to_damage = self.has_database, self.calls_to_damage
        copy.level, copy.written_ms = self.level, self.written_ms
        return copy


class SimulatedDisk:
    """The folders of one machine.

    Args:
        choices: what a crash leaves, and which call meets what is the matter.

    Attributes:
        refuses: the code of the error that calls meet; 0 while the disk works.
        before_write: is called before each write to a database, where somebody looks on; it may end the process.
        bad: how often something on it went bad: a store was damaged, or a call met EIO.
        clock_ms: the time that files get.
        databases: which process has which path open. RocksDB knows them by path, whatever became of the folder.
    """

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.refuses = 0
        self.bad = 0
        self.before_write: Callable[[], None] | None = None
        self.clock_ms: Callable[[], int] = lambda: 0
        self.databases: set[tuple[Process, Path]] = set()
        self._folders: dict[Path, StoreFolder] = {}
        self._once_in = 1
        self._times_left = 0

    # -- what happens to it --------------------------------------------------------------------------------------------

    def refuse(self, code: int, once_in: int = 1, times: int = 0) -> None:
        """Let calls fail until it is healed: those that write, and where the error is one of both, those that read.

        Args:
            code: such as `errno.ENOSPC`, `errno.EROFS` or `errno.EIO`.
            once_in: how many calls there are for each one that fails.
            times: how many fail until it is healed by itself; 0: any number.
        """
        self.refuses, self._once_in, self._times_left = code, once_in, times

    def heal(self) -> None:
        """Let all calls work again."""
        self.refuses = 0

    def damage(self, folder: Path, within: int = 6, after: int = 0) -> None:
        """Let a store be damaged: a call meets it, whatever it does, and so do all that come later.

        Args:
            folder: of the store.
            within: how many calls there are of which one is the first.
            after: how many calls go well before these.
        """
        self._folders[folder].calls_to_damage = after + self.choices.pick(within)
        self.bad += 1

    def lose(self, folder: Path) -> None:
        """Let a folder vanish, also beneath a process that has it open."""
        if (lost := self._folders.pop(folder, None)) is not None:
            lost.path = None

    def snapshot(self, folder: Path) -> StoreFolder:
        """Return a copy of a folder, as a snapshot of the file system holds it."""
        return self._folders[folder].copy_of(folder)

    def put_back(self, folder: Path, snapshot: StoreFolder) -> None:
        """Put a copy in a folder's place."""
        self.lose(folder)
        self._folders[folder] = snapshot.copy_of(folder)

    def lose_power(self) -> None:
        """Take what a power loss takes. Its processes are dead already."""
        assert self.locked() == [], "a process lives on without power"
        for _, folder in sorted(self._folders.items()):
            folder.lose_power(self.choices)

    # -- what is on it -------------------------------------------------------------------------------------------------

    def locked(self) -> list[Path]:
        """Return the folders that a living process has open."""
        return sorted(path for path, folder in self._folders.items() if folder.locked)

    def folders(self) -> list[Path]:
        """Return all folders."""
        return sorted(self._folders)

    # -- what a process asks of it -------------------------------------------------------------------------------------

    def exists(self, path: Path) -> bool:
        """See `Disk`."""
        self.try_to_read()
        return path in self._folders

    def rename(self, path: Path, to: Path) -> None:
        """See `Disk`."""
        self.try_to_write()
        if path not in self._folders:
            raise _os_error(errno.ENOENT, path)
        if to in self._folders and to != path:
            raise _os_error(errno.ENOTEMPTY, to)
        folder = self._folders[to] = self._folders.pop(path)
        folder.path = to

    def remove(self, path: Path) -> None:
        """See `Disk`."""
        if self.refuses not in _NO_ROOM:
            self.try_to_write()
        self.lose(path)

    def stores(self, folder: Path) -> list[tuple[Path, int]]:
        """See `Disk`."""
        return [(path, found.written_ms) for path, found in sorted(self._folders.items()) if folder in path.parents]

    def remove_unused(self, path: Path) -> bool:
        """See `Disk`."""
        if self._folders[path].locked:
            return False
        self.remove(path)
        return True

    def try_folder(self, _path: Path) -> None:
        """See `Disk`."""
        self.try_to_write()

    def folder(self, path: Path) -> StoreFolder:
        """Return a store's folder, and make it where it is not there, which takes room."""
        if path not in self._folders:
            self.try_to_write()
            self._folders[path] = StoreFolder(path)
        elif self.refuses not in _NO_ROOM:
            self.try_to_write()
        return self._folders[path]

    def try_to_read(self) -> None:
        """Raise `OSError` where a call that reads is refused."""
        if self.refuses and self.refuses not in _READS_GO_ON:
            self.try_to_write()

    def try_to_write(self) -> None:
        """Raise `OSError` where a call that writes is refused."""
        code = self.refuses
        if not code or (self._once_in > 1 and self.choices.pick(self._once_in)):
            return
        self.bad += code == errno.EIO
        if self._times_left:
            self._times_left -= 1
            self.refuses = code if self._times_left else 0
        raise OSError(code, os.strerror(code))


def put(values: dict[bytes, bytes], writes: Writes) -> None:
    """Apply a batch."""
    for key, value in writes.items():
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value


def _os_error(code: int, path: Path) -> OSError:
    return OSError(code, os.strerror(code), str(path))
