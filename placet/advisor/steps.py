"""What to do after a decision: nothing, think again, or send the same again later. Pure."""

from __future__ import annotations

from typing import Final

from placet.schemas.decision import Decision, Reason, Retry

__all__ = ["backoff_s", "sends_again_in_s", "thinks_again"]

_OF_THE_STATE: Final = frozenset({Reason.ILLEGAL_TRANSITION, Reason.GUARD_FAILED, Reason.INVARIANT_VIOLATED})
"""Refusals that depend on state and payload alone: the same state gives the same decision."""

_WAIT_FIRST_S: Final = 0.5
_WAIT_MOST_S: Final = 10.0


def thinks_again(decision: Decision, version: int, rethought: int, most: int) -> bool:
    """Return whether to think again on a fresh state.

    Args:
        decision: what the gate said.
        version: version of the state that the function got.
        rethought: how often the function was called again already.
        most: how often it may be called again.
    """
    learned = decision.reason not in _OF_THE_STATE or decision.version_before != version
    return decision.retry is Retry.RECOMPUTE and rethought < most and learned


def sends_again_in_s(decision: Decision | None, resent: int, most: int) -> float | None:
    """Return how long to wait before sending the same again, in seconds; None: don't.

    Args:
        decision: the gate's decision; None if no answer came.
        resent: how often the proposal was sent again already.
        most: how often it may be sent again.
    """
    later = decision is None or decision.retry is Retry.LATER
    return backoff_s(resent) if later and resent < most else None


def backoff_s(times: int) -> float:
    """Return how long to wait after so many waits: doubled each time, within bounds."""
    return min(_WAIT_MOST_S, _WAIT_FIRST_S * 2.0 ** min(times, 16))
