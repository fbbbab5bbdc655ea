"""Inputs whose schema is not known: who may know it is asked before they are refused.

The control topic is read to an end that is asked for after the input came, and the registry is asked for the ids that
were met. Nobody waits for the answers but the tasks that have such an input next: theirs are left over meanwhile, so an
outage delays them, and refuses nothing. Each waits for its own schema alone: an id to which no answer comes holds up no
other one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Final, NamedTuple, Protocol

from placet.schemas.errors import PlacetError
from placet.streams.errors import LogUnreachable
from placet.streams.loop.observer import Observer, SchemaWait
from placet.streams.loop.task import Task
from placet.streams.rules.control import Control
from placet.streams.runtime import Runtime

__all__ = ["SchemaQuestion", "Schemas"]

_AGAIN_AFTER_S: Final = 1.0
_LATE_S: Final = 5.0
_REASONS_MAX: Final = 3
_WHAT: Final = (
    "nothing is refused meanwhile, and they go on by themselves once there is an answer; where there never will be one "
    "to this id alone, PLACET_REGISTRY__UNKNOWN_IDS lets it count as unknown"
)


class Schemas(Protocol):
    """Schemas that somebody outside knows, by id."""

    def ask(self) -> Mapping[int, str]:
        """Ask for all that were met and are not known. Takes its time.

        Returns:
            The ids to which no answer came, each with the reason.
        """
        ...

    def knows(self, schema_id: int) -> bool:
        """Tell whether the schema of an id was given."""
        ...


class _Answers(NamedTuple):
    """What came of a question.

    Attributes:
        unanswered: the ids to which no answer came, each with the reason.
        why_not_control: why the control topic was not read to the end that was asked for; "" where it was.
    """

    unanswered: Mapping[int, str]
    why_not_control: str = ""


class SchemaQuestion:
    """One question at a time, for all tasks that have an input of an unknown schema next.

    Args:
        runtime: clocks, and a thread for each question.
        control: the topic of rules, which the loop follows.
        ask_end: asks for its end, without waiting.
        schemas: asks the registry.
        observer: is told when no answer comes, and when one comes again.

    Attributes:
        waiting: the tasks that wait, each since when, in ms since the epoch.
        told: those of them that were told of because no answer came, by name.
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
        self.waiting: dict[Task, int] = {}
        self.told: dict[str, SchemaWait] = {}
        self._why: dict[Task, str] = {}  # no answer came
        self._asked: dict[Task, tuple[int, dict[str, int]]] = {}  # for which time, up to which positions
        self._answers: tuple[Future[int], Future[Mapping[int, str]]] | None = None
        self._again_at_s = self._asked_at_s = 0.0

    def look(self, tasks: Iterable[Task]) -> tuple[list[Task], list[Task]]:
        """Ask where it is needed, and look whether there is an answer. The rules must have been followed just before.

        Returns:
            The tasks that wait from now on, and those that go on: they decide what they left over.
        """
        before = self.waiting
        self.waiting = {task: before.get(task) or self._runtime.now_ms() for task in tasks if task.asking.number}
        begin = [task for task in self.waiting if task not in before]
        if self.waiting and self._answers is None and self._runtime.monotonic_s() >= self._again_at_s:
            self._ask()
        answer = self._answered()
        goes_on = [] if answer is None else self._take(answer)
        if self._why or self.told:
            self._tell(goes_on)
        return [task for task in begin if task not in goes_on], goes_on

    def _ask(self) -> None:
        self._asked = {task: (task.asking.number, task.next_positions) for task in self.waiting}
        self._asked_at_s = self._runtime.monotonic_s()
        fetched: Future[Mapping[int, str]] = Future()

        def fetch() -> None:
            try:
                fetched.set_result(self._schemas.ask())
            except Exception as error:  # noqa: BLE001 - the thread's top: whatever it is, nobody answered
                fetched.set_exception(LogUnreachable(f"{type(error).__name__}: {error}"))

        self._answers = (self._ask_end(), fetched)
        self._runtime.spawn("ask for schemas", fetch)

    def _answered(self) -> _Answers | None:
        """Return what came of the question; None: nothing new yet."""
        if self._answers is None:
            return None
        end, fetched = self._answers
        if not (end.done() and fetched.done()):
            self._note_if_late("the control topic's leader or the registry")
            return None
        try:
            position, unanswered = end.result(), fetched.result()
        except PlacetError as error:
            return _Answers({} if fetched.exception() else fetched.result(), str(error))
        if self._control.position < position:
            self._control.hurry()
            self._note_if_late(f"the control topic from {self._control.position} to {position}")
            return None
        return _Answers(unanswered)

    def _take(self, answer: _Answers) -> list[Task]:
        """Let the tasks go on that have an answer."""
        asked, self._asked, self._answers = self._asked, {}, None
        goes_on = []
        for task, (number, positions) in asked.items():
            if task not in self.waiting or task.asking.number != number:
                continue
            why = self._why_not(task.asking.schema_id, answer)
            if why:
                self._why[task] = why
                self._again_at_s = self._runtime.monotonic_s() + _AGAIN_AFTER_S
            else:
                task.asking.go_on({} if answer.why_not_control else positions, frozenset(answer.unanswered))
                del self.waiting[task]
                goes_on.append(task)
        return goes_on

    def _why_not(self, schema_id: int | None, answer: _Answers) -> str:
        """Say why nobody has answered for a schema; "" where somebody has. Of a fingerprint no registry is asked."""
        if schema_id is not None and schema_id in answer.unanswered:
            return answer.unanswered[schema_id]
        known = schema_id is not None and self._schemas.knows(schema_id)
        return "" if known else answer.why_not_control

    def _note_if_late(self, who: str) -> None:
        if self._runtime.monotonic_s() > self._asked_at_s + _LATE_S:
            self._why = dict.fromkeys(self.waiting, f"no answer for {_LATE_S:g} s: {who}")

    def _tell(self, goes_on: list[Task]) -> None:
        """Tell of each task once that no answer comes, and once that one has come."""
        self._why = {task: why for task, why in self._why.items() if task in self.waiting}
        told = {
            str(task.task_id): SchemaWait(task.asking.schema, self.waiting[task], why)
            for task, why in self._why.items()
        }
        if new := sorted(told.keys() - self.told.keys()):
            reasons = dict.fromkeys(f"schema {told[name].schema}: {told[name].why}" for name in new)
            self._observer.event(
                "inputs wait for a schema", tasks=new, why="; ".join([*reasons][:_REASONS_MAX]), what=_WHAT
            )
        if over := sorted(self.told.keys() & {str(task.task_id) for task in goes_on}):
            self._observer.event("inputs wait for a schema no longer", tasks=over)
        self.told = told
