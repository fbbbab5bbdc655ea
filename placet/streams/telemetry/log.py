"""Logs: one JSON object for each line on stderr; readable lines where stderr is a terminal.

`configure_logs` is called once, at start, before any logger is used. Only the outer layer logs: schemas and processors
decide, and what they decide is in the decisions.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

__all__ = ["client_logger", "configure_logs", "get_logger", "log_thread_errors"]

_LIBRDKAFKA = "placet.librdkafka"
_CONNECTION = re.compile(r"(?:FAIL|ERROR|GETPID|REQTMOUT) (?:.*?([^\s/\]:]+:\d+)[/:])?(?:.*?(\w+Coordinator)/)?")
"""A line that tells of trouble with the connection to a broker, and the broker's address or role in it."""
_QUIET_S = 60.0
"""An outage is over when nothing was said of it for this long; librdkafka tries again every ten seconds at least."""
_LOADING = re.compile(r"GETPID .*: Broker: Coordinator (?:load in progress|not available): retrying")
"""A broker that was just started says so to each new producer, which asks again half a second later."""
_LOADS_FOR_S: Final = 5.0
_LEADERLESS = re.compile(r"METADATAUPDATE .*: new leader ?-1 not found in cache")
"""A partition has no leader while its broker comes back: each client says so with every answer that it gets."""
_PAD_EVENT: Final = 16


def configure_logs(level: str = "info", stream: TextIO | None = None, **context: str) -> None:
    """Say how and from which level on is logged, by us and by librdkafka.

    Args:
        level: debug, info, warning or error.
        stream: where to; stderr by default. A terminal gets readable lines, everything else JSON.
        context: key and value of every line that is JSON, such as app and instance.
    """
    out = stream or sys.stderr
    readable = out.isatty()
    rendering = _rendering(readable=readable)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    # At a terminal sits somebody who knows the day, and which gate this is: lines stay short.
    time = structlog.processors.TimeStamper(fmt="%H:%M:%SZ" if readable else "iso", utc=True)
    common: list[Processor] = [_adding({} if readable else context), structlog.processors.add_log_level, time]
    structlog.configure(
        processors=[*common, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    client = client_logger()
    client.handlers, client.propagate = [handler], False
    client.setLevel(threshold)


def log_thread_errors() -> None:
    """Let a bug that ends a thread be one line of the log: Python would print a traceback amid the JSON."""
    threading.excepthook = _log_thread_error


def _log_thread_error(died: threading.ExceptHookArgs) -> None:
    error = None if died.exc_value is None else (died.exc_type, died.exc_value, died.exc_traceback)
    name = "" if died.thread is None else died.thread.name
    get_logger("threads").error("a bug ended a thread", thread=name, exc_info=error)


def _adding(context: dict[str, str]) -> Processor:
    # No contextvars: a thread that is started later would not see them.
    def add(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**context, **event}

    return add


def _rendering(*, readable: bool) -> list[Processor]:
    # Never the locals of a frame: they hold records and secrets.
    if readable:
        colors = not os.environ.get("NO_COLOR")
        return [
            structlog.dev.ConsoleRenderer(
                colors=colors,
                exception_formatter=structlog.dev.plain_traceback,
                sort_keys=False,
                pad_event_to=_PAD_EVENT,
                pad_level=False,
            )
        ]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]


def get_logger(name: str, **context: Any) -> FilteringBoundLogger:
    """A logger whose lines have `component: name` and what else is given."""
    return cast("FilteringBoundLogger", structlog.get_logger(component=name, **context))


class _OneLineAnOutage(logging.Filter):
    """Lets the first line about a broker that is away through: each client of librdkafka says it with every try."""

    def __init__(self) -> None:
        super().__init__()
        self._last_s: dict[str, float] = {}
        self._loading_s = self._loaded_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to log a line."""
        line = record.getMessage()
        if _LOADING.match(line) and self._loads(record.created):
            return False
        found = _CONNECTION.match(line)
        if found is None and not _LEADERLESS.match(line):
            return True
        # A coordinator without address, or a leader that is missing, is the broker that was named before, if any was.
        if found is None or not found[1]:
            last_s, self._last_s[""] = max(self._last_s.values(), default=0.0), record.created
        else:
            last_s, self._last_s[found[1]] = self._last_s.get(found[1], 0.0), record.created
        return record.created - last_s > _QUIET_S

    def _loads(self, now_s: float) -> bool:
        """Tell whether a broker is only loading, as it does after its start, and not for longer than that takes."""
        if now_s - self._loaded_s > _QUIET_S:
            self._loading_s = now_s
        self._loaded_s = now_s
        return now_s - self._loading_s <= _LOADS_FOR_S


_once = _OneLineAnOutage()


def client_logger() -> logging.Logger:
    """What librdkafka logs into, in the same form: pass it as `logger=` to Consumer, Producer and AdminClient."""
    logger = logging.getLogger(_LIBRDKAFKA)
    logger.addFilter(_once)  # a second time it changes nothing
    return logger
