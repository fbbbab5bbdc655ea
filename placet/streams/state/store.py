"""The local store: a cache of what is committed, as bytes under prefixed keys.

It is written once per transaction, after the commit, values and positions in one atomic batch: a crash in between
leaves it behind the log, never ahead of it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from placet.schemas.errors import PlacetError

__all__ = ["MemoryStore", "StateStore", "StoreDamaged", "StoreLocked", "Writes"]

Writes = Mapping[bytes, bytes | None]
"""What a batch writes: a value for a key, or None to delete it."""


class StoreDamaged(PlacetError):
    """A store can't be read or opened any more: bits flipped, files gone. Reaction: set it aside and restore, once."""


class StoreLocked(PlacetError):
    """Another process has the folder open. Reaction: wait; two gates must not share a state directory."""


class StateStore(Protocol):
    """Bytes under keys, in order of the keys. One owner, one thread.

    Every call but `close` may raise `StoreDamaged`, and `FatalError` where the disk is full or refuses.
    """

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        ...

    def write(self, writes: Writes) -> None:
        """Apply a batch: all of it or nothing of it."""
        ...

    def filling(self, records: int, /) -> AbstractContextManager[Callable[[Writes], None]]:
        """Give a `write` that costs less, while nothing is read and much is to come: about this many records.

        What it applied is safe once the block has ended. A crash before that leaves the whole batches up to some point.
        """
        ...

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` pairs with the prefix whose key is `start` or above, in order."""
        ...

    def clean(self, older_than_s: int, /) -> None:
        """Begin to take off the disk what was deleted or overwritten longer ago than this; do not wait for it."""
        ...

    def close(self) -> None:
        """Give everything back. The store is not used afterwards."""
        ...


class MemoryStore:
    """A store in memory, for tests and for the driver without Kafka."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._order: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        """See `StateStore`."""
        return self._values.get(key)

    def write(self, writes: Writes) -> None:
        """See `StateStore`."""
        for key, value in writes.items():
            if value is not None:
                if key not in self._values:
                    insort(self._order, key)
                self._values[key] = value
            elif self._values.pop(key, None) is not None:
                del self._order[bisect_left(self._order, key)]

    def filling(self, _records: int, /) -> AbstractContextManager[Callable[[Writes], None]]:
        """See `StateStore`."""
        return nullcontext(self.write)

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See `StateStore`."""
        found: list[tuple[bytes, bytes]] = []
        for position in range(bisect_left(self._order, max(prefix, start)), len(self._order)):
            key = self._order[position]
            if len(found) == limit or not key.startswith(prefix):
                break
            found.append((key, self._values[key]))
        return found

    def clean(self, _older_than_s: int, /) -> None:
        """See `StateStore`. Nothing of it is on a disk."""

    def close(self) -> None:
        """See `StateStore`."""
