"""Limits each kind of log line to one a minute: faust's Kafka client logs a lost broker ten times in 100 ms."""

from __future__ import annotations

import logging
from typing import Final

from placet.streams.telemetry.log import get_logger

__all__ = ["Sparse", "tame_client_logs"]

_LOGGERS: Final = ("aiokafka", "faust", "mode")
_EVERY_S: Final = 60.0


class Sparse(logging.Handler):
    """Passes the first line of a kind on to our own log, and one in a minute after that."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._log = get_logger("faust")
        self._said_s: dict[tuple[str, str], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        kind = record.name, str(record.msg)
        if record.created < self._said_s.get(kind, 0.0) + _EVERY_S:
            return
        self._said_s[kind] = record.created
        self._log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


def tame_client_logs() -> None:
    """Send the lines of faust and its Kafka client to our own log, limited. Only for a process that runs an advisor."""
    handler = Sparse()
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
