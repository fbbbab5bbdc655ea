"""Inputs whose schema is not known: who may know it is asked before they are refused.

The control topic is read to an end that is asked for after the input came, and the registry is asked for the ids that
were met. Nobody waits for the answers but the tasks that have such an input next: theirs are left over meanwhile, so an
outage delays them, and refuses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Final, Protocol

from placet.schemas.errors import PlacetError
from placet.streams.errors import LogUnreachable
from placet.streams.loop.observer import Observer
from placet.streams.loop.task import Task
from placet.streams.rules.control import Control
from placet.streams.runtime import Runtime

__all__ = ["SchemaQuestion", "Schemas"]

_AGAIN_AFTER_S: Final = 1.0
_LATE_S: Final = 5.0


class Schemas(Protocol):
    """Schemas that somebody outside knows."""

    @property
    def known(self) -> int:
        """How many were answered for."""
        ...

    def ask(self) -> None:
        """Ask for all that were met and are not known. Takes its time.

        Raises:
            PlacetError: no answer.
        """
        ...


class SchemaQuestion:
    """One question at a time, for all tasks that have an input of an unknown schema next.

    Args:
        runtime: a clock, and a thread for each question.
        control: the topic of rules, which the loop follows.
        ask_end: asks for its end, without waiting.
        schemas: asks the registry.
        observer: is told when no answer comes, and when one comes again.

    Attributes:
        why: no answer came, "" where nothing is wrong.
        waiting: the tasks that wait.
    """

    def __init__(
        self,
        runtime: Runtime,
        control: Control,
        ask_end: Callable[[], Future[int]],
        schemas: Schemas,
        observer: Observer,
    ) -> None:
        self._runtime = runtime
        self._control = control
        self._ask_end = ask_end
        self._schemas = schemas
        self._observer = observer
        self.why = ""
        self.waiting: set[Task] = set()
        self._asked: dict[Task, tuple[int, dict[str, int]]] = {}  # for which time, up to which positions
        self._answers: tuple[Future[int], Future[None]] | None = None
        self._again_at_s = self._asked_at_s = 0.0
        self._known = 0

    def look(self, tasks: Iterable[Task]) -> tuple[list[Task], list[Task]]:
        """Ask where it is needed, and look whether there is an answer. The rules must have been followed just before.

        Returns:
            The tasks that wait from now on, and those that go on: they decide what they left over.
        """
        waiting = {task for task in tasks if task.asking.number}
        begin, self.waiting = [task for task in waiting if task not in self.waiting], waiting
        if not waiting:
            self.why = ""
        elif self._answers is None and self._runtime.monotonic_s() >= self._again_at_s:
            self._ask()
        whole = self._is_answered()
        if whole is None:
            return begin, []
        asked, self._asked, self._answers = self._asked, {}, None
        goes_on = [task for task, (number, _) in asked.items() if task in waiting and task.asking.number == number]
        for task in goes_on:
            task.asking.go_on(asked[task][1] if whole else {})
        self.waiting = waiting.difference(goes_on)
        return [task for task in begin if task not in goes_on], goes_on

    def _ask(self) -> None:
        self._asked = {task: (task.asking.number, task.next_positions) for task in self.waiting}
        self._asked_at_s, self._known = self._runtime.monotonic_s(), self._schemas.known
        fetched: Future[None] = Future()

        def fetch() -> None:
            try:
                self._schemas.ask()
                fetched.set_result(None)
            except PlacetError as error:
                fetched.set_exception(error)
            except Exception as error:  # noqa: BLE001 - the thread's top: whatever it is, nobody answered
                fetched.set_exception(LogUnreachable(f"{type(error).__name__}: {error}"))

        self._answers = (self._ask_end(), fetched)
        self._runtime.spawn("ask for schemas", fetch)

    def _is_answered(self) -> bool | None:
        """Tell whether all was answered, or only some: then tasks go on, and refuse nothing. None: nothing new yet."""
        if self._answers is None:
            return None
        end, fetched = self._answers
        if not (end.done() and fetched.done()):
            self._tell_if_late("the control topic's leader or the registry")
            return None
        try:
            position = end.result()
            fetched.result()
        except PlacetError as error:
            self._tell(str(error))
            self._again_at_s = self._runtime.monotonic_s() + _AGAIN_AFTER_S
            if self._schemas.known > self._known:
                return False
            self._answers = None
            return None
        if self._control.position < position:
            self._control.hurry()
            self._tell_if_late(f"the control topic from {self._control.position} to {position}")
            return None
        if self.why:
            self._observer.event("inputs wait for a schema no longer", tasks=self._names())
        self.why = ""
        return True

    def _tell_if_late(self, who: str) -> None:
        if self._runtime.monotonic_s() > self._asked_at_s + _LATE_S:
            self._tell(f"no answer for {_LATE_S:g} s: {who}")

    def _tell(self, why: str) -> None:
        if not self.waiting:
            return
        if not self.why:
            self._observer.event("inputs wait for a schema", tasks=self._names(), why=why)
        self.why = why

    def _names(self) -> list[str]:
        return sorted(str(task.task_id) for task in self.waiting)
