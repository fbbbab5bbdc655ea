"""How long an answer is waited for, when nobody says that it will not come."""

from __future__ import annotations

from typing import Final

__all__ = ["AdaptiveTimeout"]

_SLACK: Final = 4


class AdaptiveTimeout:
    """A limit that follows what answers take, as TCP's retransmission timeout does (RFC 6298).

    A broker that fell silent is asked in vain, however long one waits: what helps is to ask anew, with a new client,
    which looks for who leads and coordinates now. A broker that is only slow is given longer after each answer that did
    not come in time, and keeps what it needed.

    Args:
        at_first_s: the limit before the first answer.
        least_s: the shortest limit after it.
        most_s: the longest.
        growth: factor of the limit after an answer that did not come.
    """

    def __init__(self, at_first_s: float, least_s: float, most_s: float, growth: float) -> None:
        self.limit_s = at_first_s
        self._least_s = least_s
        self._most_s = most_s
        self._growth = growth

    def answered(self, took_s: float) -> None:
        """Take note of an answer, and of how long it took."""
        self.limit_s = min(self._most_s, max(self._least_s, _SLACK * took_s))

    def in_vain(self) -> None:
        """Take note of an answer that did not come in time."""
        self.limit_s = min(self._most_s, self._growth * self.limit_s)
