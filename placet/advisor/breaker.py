"""The circuit breaker: after so many failures in a row nobody is asked for a while, then one probe tells.

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
    """Whether the model is asked."""

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
        """Return where it stands."""
        if self._opened_at_s is None:
            return BreakerPhase.CLOSED
        return BreakerPhase.OPEN if now_s < self._opened_at_s + self._open_s else BreakerPhase.HALF_OPEN

    def begin(self, now_s: float) -> bool:
        """Ask to think; False: not now, see `wait_s`. Whoever got True tells `learn` how it went."""
        match self.phase(now_s):
            case BreakerPhase.CLOSED:
                return True
            case BreakerPhase.HALF_OPEN if not self._probing:
                self._probing = True
                return True
        return False

    def wait_s(self, now_s: float) -> float | None:
        """Return how long it stays open; None when it does not, or when a probe is under way."""
        if self._opened_at_s is None or self._probing:
            return None
        return max(0.0, self._opened_at_s + self._open_s - now_s)

    def learn(self, result: str, now_s: float) -> None:
        """Take in what became of what was begun: `answered`, `given_up`; anything else tells nothing."""
        match result:
            case "answered":
                self.succeeded()
            case "given_up":
                self.failed(now_s)
            case _:
                self.withdrawn()

    def succeeded(self) -> None:
        """Close it. What was begun before it opened, and comes to an end only now, is a sign of life too."""
        self._in_a_row, self._opened_at_s, self._probing = 0, None, False

    def failed(self, now_s: float) -> None:
        """Count a failure; open it when it is one too many, or the probe's."""
        self._in_a_row += 1
        if self._in_a_row < self._failures:
            return
        if self._opened_at_s is not None and not self._probing:
            return  # begun before it opened: known already
        self._opened_at_s, self._probing = now_s, False
        self.opened += 1

    def withdrawn(self) -> None:
        """Forget that it was begun: nothing was learned."""
        self._probing = False
