"""Triggers that wait for their turn, bounded, and who goes when there is no room. Pure.

A trigger waits in two steps: until the gate has taken its signal (`ready`), then until somebody is free to think.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

__all__ = ["Drop", "TriggerQueue", "Waiter"]


class Drop(StrEnum):
    """What goes when more triggers come than can wait. Each one that goes is counted."""

    OLDEST = "oldest"
    """The one that has waited longest: news matter."""
    NEWEST = "newest"
    """The one that comes: first come, first served."""
    SUPERSEDE = "supersede"
    """One of the same entity that still waits for the same function, full or not; else the oldest."""
    WAIT = "wait"
    """None: reading stops until there is room. The lag grows, and only what gets too old is dropped."""


class Waiter(Protocol):
    """What may wait."""

    @property
    def topic(self) -> Hashable:
        """What it is about: the entity, and who thinks about it."""


W = TypeVar("W", bound=Waiter)


class TriggerQueue(Generic[W]):
    """The waiting room, in order of arrival.

    Args:
        bound: so many may wait.
        drop: who goes when there are more.
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
        """Whether one more would be one too many."""
        return len(self._waiters) >= self.bound

    def offer(self, waiter: W) -> list[tuple[W, str]]:
        """Let one in; return who goes for it, itself perhaps, and why: `superseded`, `oldest`, `newest`."""
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
        """Say that it may be taken; nothing happens when it is gone."""
        number = self._numbers.get(id(waiter))
        if number is not None:
            self._ready[number] = waiter

    def take(self, in_hand: Container[Hashable] = ()) -> W | None:
        """Return the next one that is ready, and about something that nobody has in hand.

        Two thoughts at once about the same would be based on the same state: the second one is stale when it comes.
        """
        found = next((number for number, waiter in self._ready.items() if waiter.topic not in in_hand), None)
        return None if found is None else self._remove(found)

    def leave(self, goes: Callable[[W], bool]) -> list[W]:
        """Take out those of which `goes` says so."""
        return [self._remove(number) for number, waiter in list(self._waiters.items()) if goes(waiter)]

    def _remove(self, number: int) -> W:
        waiter = self._waiters.pop(number)
        del self._numbers[id(waiter)]
        self._ready.pop(number, None)
        if self._by_topic.get(waiter.topic) == number:
            del self._by_topic[waiter.topic]
        return waiter
