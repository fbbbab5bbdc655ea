"""How long the loop pauses before it tries again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["BackOff"]

_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0)


class BackOff:
    """Pauses between rounds that fail, longer with each of them.

    A pause counts from the beginning of the round: one that has waited for a broker in vain has paused already.

    Args:
        wait: waits for some seconds, or until the process is told to stop.
        monotonic_s: a clock that never goes back, in seconds.
    """

    def __init__(self, wait: Callable[[float], object], monotonic_s: Callable[[], float]) -> None:
        self._wait = wait
        self._monotonic_s = monotonic_s
        self._began_s = 0.0
        self._failures = 0

    def begin(self) -> None:
        """Begin a round."""
        self._began_s = self._monotonic_s()

    def pause(self) -> None:
        """Pause after a round that failed."""
        pause_s = _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]
        self._failures += 1
        self._wait(max(0.0, self._began_s + pause_s - self._monotonic_s()))

    def succeeded(self) -> None:
        """Forget the failures: the next pause is the shortest again."""
        self._failures = 0
