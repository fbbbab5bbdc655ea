"""A machine on which a test stages what a real one does seldom: it replaces some calls, all others are real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from placet.streams.host import LocalHost
from placet.streams.state.store import StateStore

__all__ = ["StagedHost"]


class StagedHost(LocalHost):
    """A machine with some parts of a test's own.

    Args:
        now_ms: the wall clock.
        monotonic_s: the clock that never goes back.
        client: what each consumer, producer or admin client is, instead of librdkafka's.
        open_store: opens a folder's store.
        calls: other calls by name, such as `rename`.
    """

    def __init__(
        self,
        *,
        now_ms: Callable[[], int] | None = None,
        monotonic_s: Callable[[], float] | None = None,
        client: Any = None,
        open_store: Callable[[Path], StateStore] | None = None,
        **calls: Callable[..., Any],
    ) -> None:
        if now_ms is not None:
            self.now_ms = now_ms  # type: ignore[method-assign]
        if monotonic_s is not None:
            self.monotonic_s = monotonic_s  # type: ignore[method-assign]
        if client is not None:
            self.consumer = self.producer = self.admin = lambda _options: client  # type: ignore[method-assign,assignment]
        if open_store is not None:
            self.open_store = open_store  # type: ignore[method-assign,assignment]
        vars(self).update(calls)
