"""Says how far the inputs of a partition are read, and whether a timer's log time stands at its place among them.

Written from docs/definition.md, without a look at the gate's code. Where the docs were silent, what the gate's output
shows was taken over: `observed` marks these places.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.model.second_log import LoggedRecord, Row

__all__ = ["FiringOrder"]

_SKEW_MS: Final = 5_000  # a gate whose clock is off the brokers' by more stops


class FiringOrder:
    """The inputs of one partition, and which of them are decided so far.

    Attributes:
        read_to: of each topic and offset the newest time up to there. A time that steps back counts as the one before.
    """

    def __init__(self, inputs: Mapping[str, Mapping[int, LoggedRecord]], say: Callable[[str], None]) -> None:
        self.read_to: dict[str, dict[int, int]] = {}
        self._offsets = {topic: list(records) for topic, records in inputs.items()}
        self._next = dict.fromkeys(inputs, 0)
        self._say = say
        for topic, records in inputs.items():
            newest, read_to = 0, self.read_to.setdefault(topic, {})
            for offset, record in records.items():
                read_to[offset] = newest = max(newest, record.timestamp)

    def take(self, topic: str, offset: int) -> int:
        """Take an input that is decided now; return to which time its topic is read with it."""
        self._next[topic] = offset + 1
        return self.read_to[topic][offset]

    def check_log_time(self, fired: Row, before: int, spans: Sequence[Row]) -> None:
        """A timer's log time passes no undecided input, and no broker's clock.

        Args:
            fired: the timer's decision.
            before: the log time before it.
            spans: what its transaction takes.
        """
        log_time, what = fired["log_time"], f"the timer {fired['name']!r} of {fired['entity_id']!r}"
        if log_time <= before:
            return
        clocks = [fired["decided_at"] + _SKEW_MS]
        for topic, offsets in self._offsets.items():
            number = bisect_left(offsets, self._next[topic])
            if number == len(offsets):
                continue
            offset = offsets[number]
            time = self.read_to[topic][offset]
            if time < log_time:
                self._say(f"{what}: its log time {log_time} passed the undecided input {topic}@{offset}")
            if any(span["topic"] == topic and offset < span["end"] for span in spans):
                clocks.append(time)
        if log_time > max(clocks):
            self._say(f"{what}: its log time {log_time} lies beyond the time of decision and its transaction's inputs")
