"""An answer to come: a future without locks, of which one simulated history makes hundreds."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any

__all__ = ["SimulatedFuture"]


class SimulatedFuture(Future[Any]):
    """A future for one thread: asking for what is not there yet is a mistake, and waiting is the scheduler's work."""

    def __init__(self) -> None:  # not Future's own: that makes a lock
        self._found: tuple[Any, BaseException | None] | None = None
        self._callbacks: list[Callable[[Future[Any]], object]] = []

    def done(self) -> bool:
        """See `Future`."""
        return self._found is not None

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002 - it never waits
        """See `Future`."""
        value, error = self._settled()
        if error is not None:
            raise error
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:  # noqa: ARG002 - it never waits
        """See `Future`."""
        return self._settled()[1]

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """See `Future`."""
        if self._found is None:
            self._callbacks.append(fn)
        else:
            fn(self)

    def set_result(self, result: Any) -> None:
        """See `Future`."""
        self._settle(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        """See `Future`."""
        self._settle(None, exception)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        if self._found is not None:
            raise InvalidStateError
        self._found = (value, error)
        callbacks, self._callbacks = self._callbacks, []
        for call in callbacks:
            call(self)

    def _settled(self) -> tuple[Any, BaseException | None]:
        if self._found is None:
            raise InvalidStateError("nobody has answered yet: wait with the host's `wait`")
        return self._found
