"""Which signals of a partition are over: thoughts end in any order, positions are committed in the log's. Pure.

faust's own bookkeeping is not used: with several events in hand it commits past one that is not acknowledged yet
(faust-streaming/faust#606), and it acknowledges what a rebalance made it skip.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Progress"]


class Progress:
    """One partition's. `len` tells how many offsets are kept in mind: from the oldest that is not over on."""

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._over: dict[int, bool] = {}
        self._position = 0
        self._generation: int | None = None
        self._read = False

    def __len__(self) -> int:
        return len(self._order)

    @property
    def position(self) -> int | None:
        """The next offset to read after a restart: everything below it is over. None before anything was read."""
        return self._position if self._read else None

    def renew(self) -> None:
        """Note a rebalance: nothing is committed before a record tells where the group stands."""
        self._read = False

    def take(self, offset: int, generation: int) -> bool:
        """Take in hand what was read; False: it is in hand already, or over. A rebalance makes it come again.

        Args:
            offset: the record's.
            generation: of the group's assignment. The first record of a new one tells where the group stands: what
                lies before it is over, here or elsewhere.
        """
        self._read = True
        if generation != self._generation:
            self._generation = generation
            self._move_to(offset)
        if offset < self._position or offset in self._over:
            return False
        self._order.append(offset)
        self._over[offset] = False
        return True

    def end(self, offset: int) -> None:
        """Say that it is over: thought about to the end, or dropped on purpose."""
        if offset in self._over:
            self._over[offset] = True
            self._sweep()

    def _move_to(self, offset: int) -> None:
        while self._order and self._order[0] < offset:
            del self._over[self._order.popleft()]
        self._position = max(self._position, offset)
        self._sweep()

    def _sweep(self) -> None:
        while self._order and self._over[self._order[0]]:
            self._position = self._order.popleft() + 1
            del self._over[self._position - 1]
