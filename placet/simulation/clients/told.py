"""What a producer tells of its connections: by `error_cb`, or by a line of its log alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError

from placet.simulation.brokers.network import NOBODY_LISTENS, TRANSPORT
from placet.simulation.scheduler import Scheduler

__all__ = ["Told"]

_INFO: Final = 20  # as the binding hands on librdkafka's 6
_WARNING: Final = 30
_WAITING_MAX: Final = 10
_SAME_NS: Final = 30_000_000_000
"""After the second line that says the same of a broker, none does for so long."""


class Told:
    """Events that the next call serves.

    A broker that can't be connected to is an error. That a connection was closed, or a request got no answer in time,
    is a line of the log: what was under way is sent again, and the call may well succeed (librdkafka 2.16).

    Args:
        scheduler: the time.
        options: librdkafka's.

    Attributes:
        waiting: events that were not served yet.
    """

    def __init__(self, scheduler: Scheduler, options: Mapping[str, Any]) -> None:
        self.waiting: deque[Callable[[], object]] = deque()
        self._scheduler = scheduler
        self._error_cb: Callable[[KafkaError], None] | None = options.get("error_cb")
        self._logger: Any = options.get("logger")
        self._lines: dict[tuple[int, str], list[int]] = {}

    def note(self, number: int, code: int, value: object) -> None:
        """Tell of a request without an answer.

        Args:
            number: the broker; 0 for the transaction's coordinator, which the client takes for a broker of its own.
            code: `TRANSPORT` or `TIMED_OUT`.
            value: how the connection failed, see `NOBODY_LISTENS`.
        """
        if value == NOBODY_LISTENS:
            error = KafkaError(TRANSPORT, f"broker {number}: Connect failed: {NOBODY_LISTENS}")
            if self._error_cb is not None and len(self.waiting) < _WAITING_MAX:
                self.waiting.append(partial(self._error_cb, error))
        elif code == TRANSPORT:
            self._log(number, _INFO, "FAIL", "Disconnected: connection closed by peer")
        else:
            self._log(number, _WARNING, "REQTMOUT", "Timed out 1 in-flight, 0 retry-queued, 0 out-queue requests")

    def serve(self) -> int:
        """Serve all events; return how many."""
        served = len(self.waiting)
        while self.waiting:
            self.waiting.popleft()()
        return served

    def _log(self, number: int, level: int, facility: str, text: str) -> None:
        now_ns = self._scheduler.now_ns
        said = [ns for ns in self._lines.get((number, facility), []) if ns > now_ns - _SAME_NS]
        if self._logger is not None and len(said) < 2:
            self._lines[number, facility] = [*said, now_ns]
            name = "rdkafka#producer-1"
            self.waiting.append(partial(self._logger.log, level, "%s [%s] %s", facility, name, f"{number}: {text}"))
