"""The circuit breaker: after so many failures in a row no function is called for a while, then one as a probe.

    closed ──failures in a row──► open ──open_s──► half open: one probe
      ▲                            ▲                   │
      └────────── success ─────────┼───────────────────┤
                                   └───── failure ─────┘

Pure: times come in, in seconds of a clock that never goes back.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Breaker", "BreakerPhase"]


class BreakerPhase(StrEnum):
    """Whether functions are called."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Counts failures in a row.

    Args:
        failures: so many in a row open it.
        open_s: how long it stays open before one probe.
    """

    def __init__(self, failures: int, open_s: float) -> None:
        self._failures = failures
        self._open_s = open_s
        self._in_a_row = 0
        self._opened_at_s: float | None = None
        self._probing = False
        self.opened = 0

    def phase(self, now_s: float) -> BreakerPhase:
        """Return the phase."""
        if self._opened_at_s is None:
            return BreakerPhase.CLOSED
        return BreakerPhase.OPEN if now_s < self._opened_at_s + self._open_s else BreakerPhase.HALF_OPEN

    def begin(self, now_s: float) -> bool:
        """Ask for permission to begin; False: not now, see `wait_s`. After True the caller tells `learn` the result."""
        match self.phase(now_s):
            case BreakerPhase.CLOSED:
                return True
            case BreakerPhase.HALF_OPEN if not self._probing:
                self._probing = True
                return True
        return False

    def wait_s(self, now_s: float) -> float | None:
        """Return how long it stays open; None if it is closed, or if a probe is under way."""
        if self._opened_at_s is None or self._probing:
            return None
        return max(0.0, self._opened_at_s + self._open_s - now_s)

    def learn(self, result: str, now_s: float) -> None:
        """Take the result of what was begun: `answered` or `given_up`; any other result tells nothing."""
        match result:
            case "answered":
                self.succeeded()
            case "given_up":
                self.failed(now_s)
            case _:
                self.withdrawn()

    def succeeded(self) -> None:
        """Close it. A success that was begun before it opened closes it too."""
        self._in_a_row, self._opened_at_s, self._probing = 0, None, False

    def failed(self, now_s: float) -> None:
        """Count a failure; open the breaker at the limit, or if it was the probe's."""
        self._in_a_row += 1
        if self._in_a_row < self._failures:
            return
        if self._opened_at_s is not None and not self._probing:
            return  # begun before it opened: known already
        self._opened_at_s, self._probing = now_s, False
        self.opened += 1

    def withdrawn(self) -> None:
        """Forget what was begun: it had no result."""
        self._probing = False
