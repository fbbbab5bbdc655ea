"""What a RocksDB store takes from its machine: exactly the calls that it makes, so that a simulation can answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from placet.streams.state.store import Writes

__all__ = ["Database", "Engine", "Pairs"]


class Pairs(Protocol):
    """An iterator over a database: the calls of a `RdictIter` that a store makes."""

    def seek(self, key: bytes, /) -> None:
        """Go to the first key that is this one or above."""
        ...

    def valid(self) -> bool:
        """Tell whether it stands at a pair: not at the end, nor where it met damage."""
        ...

    def key(self) -> bytes:
        """Return the key at which it stands."""
        ...

    def value(self) -> bytes:
        """Return the value at which it stands."""
        ...

    def next(self) -> None:
        """Go to the next pair. It stands at one."""
        ...

    def status(self) -> None:
        """Raise what ended it, if that was not the end of the data."""
        ...


class Database(Protocol):
    """An open database: the calls of an `Rdict` that a store makes. It raises bare Exceptions, in RocksDB's words."""

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value, or None."""
        ...

    def write(self, batch: Any, options: Any, /) -> None:
        """Apply a batch, all or nothing; with the write-ahead log, unless its `WriteOptions` say otherwise."""
        ...

    def iter(self) -> Pairs:
        """Return an iterator, which stands nowhere yet."""
        ...

    def flush(self, *, wait: bool = True) -> None:
        """Put on disk what is in memory only; without waiting for it, what fails is told by the next write."""
        ...

    def live_files(self) -> list[dict[str, Any]]:
        """Return its files, each with its `level`."""
        ...

    def compact_range(self, begin: None, end: None, /) -> None:
        """Merge all files, down to the lowest level."""
        ...

    def set_options(self, options: dict[str, str], /) -> None:
        """Change options while it is open. Whatever they are, it looks anew at what is to be merged."""
        ...

    def close(self) -> None:
        """Flush and let go. Whatever it raises, the database is not used any more."""
        ...


class Engine(Protocol):
    """What a store takes from its machine: the lock of its folder, the database in it, and that one's batches.

    Attributes:
        worth_a_list: opening twice takes as long as putting this many records where they belong.
    """

    worth_a_list: int

    def lock(self, folder: Path, /) -> Callable[[], None]:
        """Make a folder and lock it.

        Returns:
            What gives the lock back.

        Raises:
            BlockingIOError: somebody has it.
            OSError: it can't be made or written.
        """
        ...

    def open(self, folder: Path, options: Any, /, *, create: bool) -> Database:
        """Open the database in a folder, with these `Options`; if there is none, make one or raise."""
        ...

    def batch(self, writes: Writes, /) -> Any:
        """Return what `Database.write` takes."""
        ...
