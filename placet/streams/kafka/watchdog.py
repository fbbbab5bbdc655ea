"""Ends the process when a call into librdkafka hangs that should have heeded its timeout.

A stuck handle can't be mended from inside. Dying is safe: nothing was committed, or it was, and the log tells.
A process that was frozen (SIGSTOP, a paused container or machine) did not hang: a look that comes far too late tells,
and the watched call then gets its time anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from placet.streams.runtime import Runtime

__all__ = ["EXIT_HUNG", "Deadline", "Watchdog"]

EXIT_HUNG: Final = 70
"""Exit code of a process that the watchdog ended (EX_SOFTWARE)."""
_LATE_S: Final = 1.0
"""A look that is later than this was not kept back by a busy machine: the process stood still."""


class Deadline:
    """How long one call is waited for. Moments are given, in seconds of a steady clock.

    One thread arms and disarms, another one looks: each of them writes fields of its own only.

    Args:
        limit_s: the longest that an armed call may take.
        now_s: the present moment.
    """

    def __init__(self, limit_s: float, now_s: float) -> None:
        self.limit_s = limit_s
        self.pause_s = min(1.0, limit_s / 4)
        self._armed: tuple[float, str] | None = None
        self._looked_s = self._awake_since_s = now_s

    def arm(self, call: str, now_s: float) -> None:
        """Watch over a call from now on."""
        self._armed = (now_s, call)

    def disarm(self) -> None:
        """Watch no longer: the call has returned."""
        self._armed = None

    def look(self, now_s: float) -> str:
        """Return the call that hangs, or "". To be asked every `pause_s`: what is much longer was a freeze."""
        if now_s - self._looked_s > self.pause_s + _LATE_S:
            self._awake_since_s = now_s
        self._looked_s = now_s
        armed = self._armed
        if armed is None or now_s - max(armed[0], self._awake_since_s) <= self.limit_s:
            return ""
        return armed[1]


class Watchdog:
    """A thread that looks at one call.

    Args:
        runtime: the thread's, and the process's end.
        limit_ms: the longest that one armed call may take.
        look_too: is called with each look, and told how many seconds lie between two.
    """

    def __init__(self, runtime: Runtime, limit_ms: int, look_too: Callable[[float], None] = lambda _: None) -> None:
        self._runtime, self._look_too = runtime, look_too
        self._deadline = Deadline(limit_ms / 1000, runtime.monotonic_s())
        self._stop = runtime.flag()
        runtime.spawn("watchdog", self._watch)

    @contextmanager
    def armed(self, call: str) -> Iterator[None]:
        """Watch over one call."""
        self._deadline.arm(call, self._runtime.monotonic_s())
        try:
            yield
        finally:
            self._deadline.disarm()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _watch(self) -> None:
        deadline = self._deadline
        while not self._stop.wait(deadline.pause_s):
            self._look_too(deadline.pause_s)
            hung = deadline.look(self._runtime.monotonic_s())
            if hung:
                why = f"{hung} hung for {deadline.limit_s:.0f} s; the process ends itself"
                self._runtime.end_process(EXIT_HUNG, why)
