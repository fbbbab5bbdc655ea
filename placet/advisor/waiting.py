"""A bounded queue of triggers, and the rule that says which one is dropped when it is full. Pure.

A trigger waits in two steps: until the gate has taken its signal (`ready`), then until somebody is free to think.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

__all__ = ["Drop", "TriggerQueue", "Waiter"]


class Drop(StrEnum):
    """Which signal is dropped when more come than can wait. Each dropped one is counted."""

    OLDEST = "oldest"
    """The signal that has waited longest."""
    NEWEST = "newest"
    """The new signal."""
    SUPERSEDE = "supersede"
    """A waiting signal of the same entity and the same function, even if there is room; if full, the oldest."""
    WAIT = "wait"
    """None: reading stops until there is room. The lag grows, and only signals that are too old are dropped."""


class Waiter(Protocol):
    """What may wait."""

    @property
    def topic(self) -> Hashable:
        """What it is about: the entity, and who thinks about it."""


W = TypeVar("W", bound=Waiter)


class TriggerQueue(Generic[W]):
    """The queue, in order of arrival.

    Args:
        bound: how many may wait.
        drop: which one is dropped when there are more.
    """

    def __init__(self, bound: int, drop: Drop) -> None:
        self.bound = bound
        self.drop = drop
        self._waiters: dict[int, W] = {}
        self._numbers: dict[int, int] = {}
        self._by_topic: dict[Hashable, int] = {}
        self._ready: dict[int, W] = {}
        self._arrived = 0

    def __len__(self) -> int:
        return len(self._waiters)

    def __contains__(self, waiter: W) -> bool:
        return id(waiter) in self._numbers

    @property
    def full(self) -> bool:
        """Whether there is no room for one more."""
        return len(self._waiters) >= self.bound

    def offer(self, waiter: W) -> list[tuple[W, str]]:
        """Add one; return those that are dropped for it, perhaps itself, and why: `superseded`, `oldest`, `newest`."""
        gone: list[tuple[W, str]] = []
        if self.drop is Drop.SUPERSEDE and waiter.topic in self._by_topic:
            gone.append((self._remove(self._by_topic[waiter.topic]), "superseded"))
        if self.full and self.drop is Drop.NEWEST:
            return [*gone, (waiter, "newest")]
        if self.full and self.drop is not Drop.WAIT:
            gone.append((self._remove(next(iter(self._waiters))), "oldest"))
        self._arrived += 1
        self._waiters[self._arrived], self._numbers[id(waiter)] = waiter, self._arrived
        self._by_topic[waiter.topic] = self._arrived
        return gone

    def ready(self, waiter: W) -> None:
        """Mark one as ready to be taken; do nothing if it was dropped."""
        number = self._numbers.get(id(waiter))
        if number is not None:
            self._ready[number] = waiter

    def take(self, in_hand: Container[Hashable] = ()) -> W | None:
        """Return the next one that is ready, and whose topic is not in `in_hand`.

        Two thoughts at once about one topic would be based on the same state, and the second proposal would be stale.
        """
        found = next((number for number, waiter in self._ready.items() if waiter.topic not in in_hand), None)
        return None if found is None else self._remove(found)

    def leave(self, goes: Callable[[W], bool]) -> list[W]:
        """Remove and return those for which `goes` is true."""
        return [self._remove(number) for number, waiter in list(self._waiters.items()) if goes(waiter)]

    def _remove(self, number: int) -> W:
        waiter = self._waiters.pop(number)
        del self._numbers[id(waiter)]
        self._ready.pop(number, None)
        if self._by_topic.get(waiter.topic) == number:
            del self._by_topic[waiter.topic]
        return waiter
