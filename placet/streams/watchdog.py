"""Ends the process when a call into librdkafka hangs that should have heeded its timeout.

A stuck handle can't be mended from inside. Dying is safe: nothing was committed, or it was, and the log tells.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic
from typing import Final

__all__ = ["EXIT_HUNG", "Watchdog"]

EXIT_HUNG: Final = 70
"""Exit code of a process that the watchdog ended (EX_SOFTWARE)."""


class Watchdog:
    """A thread that looks at one deadline.

    Args:
        limit_ms: the longest that one armed call may take.
    """

    def __init__(self, limit_ms: int) -> None:
        self._limit_s = limit_ms / 1000
        self._deadline: tuple[float, str] | None = None
        self._stop = Event()
        self._thread = Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def armed(self, call: str) -> Iterator[None]:
        """Watch over one call."""
        self._deadline = (monotonic() + self._limit_s, call)
        try:
            yield
        finally:
            self._deadline = None

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self._limit_s / 4)):
            deadline = self._deadline
            if deadline is not None and monotonic() > deadline[0]:
                sys.stderr.write(f"placet: {deadline[1]} hung for {self._limit_s:.0f} s; the process ends itself\n")
                faulthandler.dump_traceback(all_threads=True)
                os._exit(EXIT_HUNG)
