"""How long a transaction waits for the markers of the one before it."""

from __future__ import annotations

from typing import Final

__all__ = ["MarkerPause"]

_MOST_S: Final = 0.02
_TOLD_TO_WAIT_S: Final = (0.018, 0.03)
"""How much longer records take then, about: librdkafka's pause. What takes less or more has another reason."""
_TELLS_NOTHING_S: Final = 0.05
_UP: Final = 1.25
_STEP_S: Final = 0.000_25
_DOWN: Final = 0.997
_DOWN_AT_FIRST: Final = 0.9
_SMOOTHING: Final = 8


class MarkerPause:
    """A pause that follows what the markers take on this cluster.

    A coordinator answers a commit, and writes the markers then. A transaction whose first record comes before they are
    written is told CONCURRENT_TRANSACTIONS, and librdkafka asks again after 20 ms, whatever it is told to do. Nobody
    says how long markers take: two milliseconds beside the broker, more where replicas are far away. So the pause
    begins as long as asking again, shrinks with each transaction, and grows by a quarter after one whose records took
    that much longer; that is about one of a hundred. Up to the first of them it shrinks fast.

    Attributes:
        pause_s: between a commit and the first record of the next transaction.
    """

    def __init__(self) -> None:
        self.pause_s = _MOST_S
        self._down = _DOWN_AT_FIRST
        self._usual_s = 0.0

    def learn(self, after_s: float, delivery_s: float) -> None:
        """Take note of a transaction that committed.

        Args:
            after_s: between the commit before it and its first record. Long after, the markers are there in any case.
            delivery_s: how long its records took from the last one on.
        """
        if after_s > _TELLS_NOTHING_S:
            return
        longer_s = delivery_s - self._usual_s
        if self._usual_s and _TOLD_TO_WAIT_S[0] < longer_s < _TOLD_TO_WAIT_S[1]:
            self.pause_s, self._down = min(_MOST_S, self.pause_s * _UP + _STEP_S), _DOWN
            self._usual_s += longer_s / _SMOOTHING**2  # where all of them take longer now, it is another reason
        else:
            self.pause_s *= self._down
            self._usual_s += min(longer_s, self._usual_s) / _SMOOTHING if self._usual_s else longer_s
