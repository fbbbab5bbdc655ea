"""W3C trace context (https://www.w3.org/TR/trace-context/): the headers that join a proposal to what made it."""

from __future__ import annotations

import re
import sys
from importlib import import_module

from placet.streams.records import Headers

__all__ = ["trace_headers"]

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def trace_headers(traceparent: str | None = None) -> Headers:
    """Return the headers: the one given, else those of OpenTelemetry's current span where the program uses it.

    Raises:
        ValueError: the given one is no traceparent.
    """
    if traceparent is not None:
        if not _TRACEPARENT.fullmatch(traceparent):
            raise ValueError(f"{traceparent!r} is no traceparent: 00-<32 hex digits>-<16 hex digits>-<2 hex digits>")
        return [("traceparent", traceparent.encode())]
    if "opentelemetry" not in sys.modules:  # a program that uses it has imported it: no need to look for it
        return []
    carrier: dict[str, str] = {}
    import_module("opentelemetry.propagate").inject(carrier)
    return [(name, value.encode()) for name, value in carrier.items()]
