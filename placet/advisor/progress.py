"""Which signals of a partition are over. Thoughts end in any order, but a position covers all offsets below it. Pure.

faust's own acknowledgements are not used: while several events are under way, faust commits an offset above one that is
not acknowledged yet (faust-streaming/faust#606), and it acknowledges events that a rebalance made it skip.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Progress"]


class Progress:
    """The progress in one partition. `len` tells how many offsets are kept, from the oldest that is not over on."""

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
        """Note a rebalance: there is no position to store until a record tells the group's position."""
        self._read = False

    def take(self, offset: int, generation: int) -> bool:
        """Note a record that was read. False: it is in work already, or over; a rebalance made the group read it again.

        Args:
            offset: the record's.
            generation: number of the group's assignment. The first record of a new generation tells the group's
                position: all offsets before it are over, here or elsewhere.
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
        """Note that an offset is over: its thought has ended, or it was dropped on purpose."""
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
