"""What a gate takes from its machine: clocks, waiting, threads, memory, and the end of the process.

Nothing else in the gate reads a clock, sleeps, or starts a thread: so each of its failures can be staged, and all of it
can run under a clock and a scheduler of a simulation's own. The real one is `placet.streams.host.LocalHost`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Any, Generic, NoReturn, Protocol, TypeVar

__all__ = ["Flag", "Inbox", "Runtime", "Spawned"]

Item = TypeVar("Item")


class Flag(Protocol):
    """A flag that one thread, or a signal's handler, sets once and others wait for."""

    def is_set(self) -> bool:
        """Tell whether it is set."""
        ...

    def set(self) -> None:
        """Set it, for good. Safe in a signal's handler, whatever the interrupted thread is doing with the flag."""
        ...

    def wait(self, timeout_s: float, /) -> bool:
        """Wait until it is set, at most so many seconds; return whether it is."""
        ...


class Inbox(Protocol, Generic[Item]):
    """A queue from any thread to one."""

    def put(self, item: Item, /) -> None:
        """Add an item."""
        ...

    def get(self, timeout_s: float | None = None, /) -> Item | None:
        """Take the oldest item; wait for one, at most so many seconds or without a limit. None: there is none."""
        ...


class Spawned(Protocol):
    """Work that runs beside its caller."""

    def join(self, timeout_s: float | None = None, /) -> None:
        """Wait for its end, at most so many seconds, or without a limit."""
        ...

    def is_alive(self) -> bool:
        """Tell whether it has not ended yet."""
        ...


class Runtime(Protocol):
    """Time, threads and memory."""

    def now_ms(self) -> int:
        """Return the wall clock, in ms since the epoch. It may jump."""
        ...

    def now_ns(self) -> int:
        """Return the wall clock, in ns since the epoch. It may jump."""
        ...

    def monotonic_s(self) -> float:
        """Return a clock that never goes back, in seconds."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Wait so many seconds."""
        ...

    def flag(self) -> Flag:
        """Make a flag that is not set."""
        ...

    def inbox(self) -> Inbox[Any]:
        """Make an inbox that is empty."""
        ...

    def wait(self, futures: Collection[Future[Any]], timeout_s: float, /) -> bool:
        """Wait until all of them are done, at most so many seconds; return whether they are."""
        ...

    def spawn(self, name: str, work: Callable[[], None], /) -> Spawned:
        """Start work in a thread of its own, which does not keep the process alive."""
        ...

    def give_back_memory(self) -> None:
        """Give back what was freed: an allocator keeps most of it. Takes some ms, in which others may have to wait."""
        ...

    def end_process(self, exit_code: int, why: str, /) -> NoReturn:
        """End the process on the spot: no `finally` runs, nothing is flushed. `why` and all stacks go to stderr."""
        ...
