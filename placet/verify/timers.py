"""When timers fired, compared with what lay in the input topics: not before an answer that was in time, nor too late.

appended before the due time    decided before the timer
appended after it               the timer fires first
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from placet.processors.replay import Replay
from placet.processors.timers import first_due
from placet.schemas.decision import Decision
from placet.streams.records import ConsumerRecord
from placet.verify.report import TaskReport

__all__ = ["Timers"]

_RUNG_1: Final = 100
_LATE_MS: Final = 60_000
_FIRED_MAX: Final = 100_000


class Timers:
    """Walks along with the decisions of a task.

    Args:
        replay: the re-run.
        report: takes what is found at the end.
    """

    def __init__(self, replay: Replay, report: TaskReport) -> None:
        self._replay = replay
        self._report = report
        self._fired: dict[str, int] = {}
        self._read_to: dict[str, int] = {}

    def fired(self, entity_id: str, due: int) -> None:
        """Take note of a timer that fired."""
        self._fired[entity_id] = due
        if len(self._fired) > _FIRED_MAX:  # what is behind all topics can't be beaten any more
            read_to = min(self._read_to.values(), default=0)
            self._fired = {entity: due for entity, due in self._fired.items() if due >= read_to}

    def wrong_with(self, decision: Decision, source: ConsumerRecord) -> Iterator[str]:
        """Say what is wrong with the place of an input among the timers of its entity.

        A time that steps back in a topic counts as the one before it, or as it is: either may be.
        """
        read_to = self._read_to[source.topic] = max(self._read_to.get(source.topic, 0), source.timestamp)
        if decision.reason // _RUNG_1 == 1:
            return
        beaten = self._fired.get(decision.entity_id)
        if beaten is not None and read_to <= beaten:
            yield f"it was appended at {source.timestamp}, and a timer fired before it that was due at {beaten}"
        due = first_due(self._replay.state(decision.entity_id), source.timestamp)
        if due is not None:
            yield f"it was appended at {source.timestamp}, and timer {due[1]} was due at {due[0]} and did not fire"

    def check_rest(self, log_time: int) -> None:
        """Tell of timers that are overdue, where the log goes on long after their time.

        Args:
            log_time: of the last transaction.
        """
        overdue = self._replay.overdue(log_time - _LATE_MS)
        if overdue:
            entity_id, due = overdue[0]
            self._report.warnings.append(
                f"{len(overdue)} timers were due more than {_LATE_MS // 1000} s before the last transaction, and did "
                f"not fire: the first, of {entity_id!r}, at {due[0]} ({due[1]})"
            )
