"""A producer's log, overheard: only there does librdkafka tell that a connection was closed under a request.

For librdkafka that is no error (2.16: `error_cb` hears of connections that can't be made). It connects again, sends
again what was under way, and the call succeeds. The broker may still do what it was sent first, at any later time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["TALKATIVE", "OverheardLog"]

_BROKEN: Final = frozenset({"FAIL", "REQTMOUT"})
"""What librdkafka calls lines of connections that broke, and of requests that were not answered in time."""
TALKATIVE: Final[dict[str, object]] = {"log_level": 6, "log.connection.close": True}
"""Options without which it would not write those lines."""


class OverheardLog:
    """A logger of librdkafka's lines: those of broken connections are noticed, and all of them are handed on.

    The lines come in calls that serve events. The third one that says the same of a broker is withheld for half a
    minute: by then the first has cost this producer its place.

    Args:
        noticed: is told such a line.
        logger: has a method `log(level, format, *arguments)`; None where nobody reads.
    """

    def __init__(self, noticed: Callable[[str], None], logger: Any) -> None:
        self._noticed = noticed
        self._logger = logger

    def log(self, level: int, line: str, *arguments: object) -> None:
        """Take a line; the first argument is librdkafka's name for what it is about."""
        if arguments and arguments[0] in _BROKEN:
            self._noticed(line % arguments)
        if self._logger is not None:
            self._logger.log(level, line, *arguments)
