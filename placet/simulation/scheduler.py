"""Simulated threads: one runs at a time, and another one may go on at each call that it makes of its host.

A thread is a greenlet: a switch costs less than a microsecond, and a crash can unwind it. Time is a number of
nanoseconds that moves on when nobody has anything to do, and a little with each turn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from typing import Final

from greenlet import getcurrent, greenlet

from placet.simulation.choices import Choices

__all__ = ["Crashed", "Process", "Scheduler", "StandsStill", "Waiters"]

_TURN_NS: Final = 1_000


class Crashed(BaseException):
    """The process is dead. Each call of its host raises this, in `finally` blocks too: the dead do nothing any more."""


class StandsStill(Exception):
    """Nothing will ever happen any more, or too much time went by, and what was waited for did not come."""


class Process:
    """A process: threads that die together.

    Attributes:
        name: for people, and in the digest of a history.
        dead: whether it crashed.
        frozen: whether it stands still, as after SIGSTOP.
        exit_code: of a process that ended itself.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen = False
        self.exit_code: int | None = None

    def check(self) -> None:
        """Raise `Crashed` once it is dead."""
        if self.dead:
            raise Crashed


class Waiters:
    """Fibers that wait for one thing."""

    def __init__(self) -> None:
        self.fibers: list[Fiber] = []


class Fiber:
    """A simulated thread."""

    __slots__ = ("done", "ended", "greenlet", "label", "process", "ticket", "woken")

    def __init__(self, process: Process, label: str) -> None:
        self.process = process
        self.label = label
        self.ended = Waiters()
        self.done = False
        self.ticket = 0  # counts waits: a timer of an earlier one means nothing
        self.woken = False  # by what it waited for, not by time
        self.greenlet: greenlet


_tell: list[Callable[[sys.UnraisableHookArgs], object]] = []


def _tell_of_the_living(told: sys.UnraisableHookArgs) -> None:
    if not isinstance(told.exc_value, Crashed):
        _tell[-1](told)


def _ignore_finalizers_of_the_dead() -> None:
    """Python closes a generator that nobody refers to any more, and tells of what it raises: `Crashed`, of the dead.

    That may be long after the simulation, where an error's frames keep each other: so it stays that way.
    """
    if sys.unraisablehook is not _tell_of_the_living:
        _tell.append(sys.unraisablehook)
        sys.unraisablehook = _tell_of_the_living


class Scheduler:
    """Runs fibers until something is true.

    Args:
        choices: who goes on.
        start_ns: the wall clock at the beginning, in ns since the epoch.
        stands_still: whether the wall clock stays there: then it moves only with `start_ns`.

    Attributes:
        on_turn: is told the number of each turn, and whose it is, before it is taken.
    """

    def __init__(
        self, choices: Choices, start_ns: int = 1_767_225_600_000_000_000, *, stands_still: bool = False
    ) -> None:
        self.choices = choices
        self.now_ns = 0
        self.start_ns = start_ns
        self._stands_still = stands_still
        self.turns = 0
        self.on_turn: Callable[[int, Process], None] | None = None
        self._ready: list[Fiber] = []
        self._timers: list[tuple[int, int, int, Fiber | Callable[[], None], Process | None]] = []
        self._held: list[tuple[Process, Callable[[], None]]] = []  # what frozen processes would have done
        self._order = 0
        self._at_rest = False
        self._frozen: list[Fiber] = []
        self._waiting: dict[Fiber, None] = {}  # those that neither run nor are ready, in the order in which they came
        self._current: Fiber | None = None
        self._hub = getcurrent()

    def wall_ns(self) -> int:
        """Return the wall clock that all machines follow, in ns since the epoch."""
        return self.start_ns if self._stands_still else self.start_ns + self.now_ns

    # -- called from inside of fibers ----------------------------------------------------------------------------------

    def turn(self, process: Process) -> None:
        """Let others go on first, as it happens. Raises `Crashed` in a dead process."""
        fiber = self._fiber_of(process)
        if self._at_rest and not self._ready and not (self._timers and self._timers[0][0] <= self.now_ns):
            self.now_ns += _TURN_NS  # nobody else could go on
            return
        self._ready.append(fiber)
        self._leave(fiber)

    def wait(self, process: Process, waiters: Waiters | None, timeout_ns: int | None) -> bool:
        """Wait until somebody wakes these waiters, at most so long.

        Args:
            process: that of the caller.
            waiters: None where only time ends the wait.
            timeout_ns: None for no limit.

        Returns:
            Whether it was woken.
        """
        fiber = self._fiber_of(process)
        fiber.ticket += 1
        fiber.woken = False
        self._waiting[fiber] = None
        if waiters is not None:
            waiters.fibers.append(fiber)
        if timeout_ns is not None:
            self._order += 1
            heappush(self._timers, (self.now_ns + max(0, timeout_ns), self._order, fiber.ticket, fiber, None))
        try:
            self._leave(fiber)
        finally:
            if waiters is not None and fiber in waiters.fibers:
                waiters.fibers.remove(fiber)
        return fiber.woken

    # -- called from anywhere ------------------------------------------------------------------------------------------

    def spawn(self, process: Process, name: str, work: Callable[[], None]) -> Fiber:
        """Start a thread of a process."""
        fiber = Fiber(process, f"{process.name}/{name}")
        fiber.greenlet = greenlet(partial(self._begin, fiber, work), self._hub)
        self._ready.append(fiber)
        return fiber

    def later(self, delay_ns: int, work: Callable[[], None], process: Process | None = None) -> None:
        """Do something after a while, in no thread: what brokers and clients' own threads do. It must not wait.

        Args:
            delay_ns: how long after now.
            work: what to do.
            process: whose it is: a dead one does nothing, and a frozen one does it when it goes on.
        """
        self._order += 1
        heappush(self._timers, (self.now_ns + delay_ns, self._order, 0, work, process))

    def do_for(self, process: Process, work: Callable[[], None]) -> None:
        """Do something at once, as a thread of a process: a dead one does nothing, a frozen one does it later."""
        if process.frozen:
            self._held.append((process, work))
        elif not process.dead:
            work()

    def freeze(self, process: Process) -> None:
        """Let a process stand still, wherever it is."""
        process.frozen = True
        self.choices.note(f"{self.now_ns} {process.name} is frozen")

    def thaw(self, process: Process) -> None:
        """Let it go on."""
        process.frozen = False
        self.choices.note(f"{self.now_ns} {process.name} goes on")
        due = [work for held, work in self._held if held is process]
        self._held = [(held, work) for held, work in self._held if held is not process]
        for work in due:
            self.do_for(process, work)
        self._ready += [fiber for fiber in self._frozen if fiber.process is process]
        self._frozen = [fiber for fiber in self._frozen if fiber.process is not process]

    def alive(self, process: Process) -> list[str]:
        """Return the names of a process's threads that have not ended, but for the one that asks."""
        fibers = [*self._waiting, *self._ready, *self._frozen]
        return sorted(fiber.label for fiber in fibers if fiber.process is process)

    def wake(self, waiters: Waiters) -> None:
        """Let all of them go on."""
        for fiber in waiters.fibers:
            fiber.woken = True
            self._end_wait(fiber)
        waiters.fibers.clear()

    def crash(self, process: Process) -> None:
        """Kill a process: its threads unwind, and none of their calls does anything."""
        process.dead = True
        self.choices.note(f"{self.now_ns} {process.name} is killed")
        if process.frozen:
            self.thaw(process)
        for fiber in [fiber for fiber in self._waiting if fiber.process is process]:
            self._end_wait(fiber)

    def run_to_rest(self, until: Callable[[], bool], limit_s: float) -> None:
        """Let fibers run until all of them wait, and something is true. One that is alone goes on without a turn.

        Args:
            until: asked when all wait.
            limit_s: of simulated time, from now on.

        Raises:
            StandsStill: it did not become true.
        """
        self._at_rest = True
        try:
            self.run(lambda: not self._ready and until(), limit_s)
        finally:
            self._at_rest = False

    def run(self, until: Callable[[], bool], limit_s: float, *, every: int = 1) -> None:
        """Let fibers run until something is true.

        Args:
            until: asked after so many turns.
            limit_s: of simulated time, from now on.
            every: how many.

        Raises:
            StandsStill: it did not become true.
        """
        self._hub = getcurrent()
        limit_ns = self.now_ns + round(limit_s * 1e9)
        _ignore_finalizers_of_the_dead()
        left = 0
        while left or not until():
            left = left - 1 if left else every - 1
            if self._timers and self._timers[0][0] <= self.now_ns:
                self._ring()
            if not self._ready:
                if not self._timers:
                    raise StandsStill(f"nobody has anything to do any more: {self._who_waits()}")
                self.now_ns = max(self.now_ns, self._timers[0][0])
                continue
            if self.now_ns > limit_ns:
                raise StandsStill(f"not within {limit_s:g} simulated seconds: {self._who_waits()}")
            self._step()

    def close(self) -> None:
        """Kill everybody: a greenlet that was left amid its work would be kept for good, and with it all it knows.

        Within its own thread only, but in any greenlet: a finalizer may run within another simulation's.
        """
        self._hub = getcurrent()
        for fiber in [*self._waiting, *self._ready, *self._frozen]:
            fiber.process.dead, fiber.process.frozen = True, False
        self._ready += [*self._waiting, *self._frozen]
        self._waiting.clear()
        self._frozen.clear()
        self._timers.clear()
        while self._ready:
            self._step()

    def _step(self) -> None:
        ready = self._ready
        fiber = ready.pop(self.choices.pick(len(ready)) if len(ready) > 1 else 0)
        if fiber.process.frozen:
            self._frozen.append(fiber)
            return
        self.now_ns += _TURN_NS
        self.turns += 1
        self.choices.note(f"{self.now_ns} {fiber.label}")
        self._current = fiber
        if self.on_turn is not None:
            self.on_turn(self.turns, fiber.process)
        if fiber.greenlet.parent is not self._hub:
            fiber.greenlet.parent = self._hub  # where it goes when it ends
        fiber.greenlet.switch()
        self._current = None

    def _ring(self) -> None:
        while self._timers and self._timers[0][0] <= self.now_ns:
            _, _, ticket, due, process = heappop(self._timers)
            if not isinstance(due, Fiber):
                if process is None:
                    due()
                else:
                    self.do_for(process, due)
            elif due.ticket == ticket:
                self._end_wait(due)

    def _end_wait(self, fiber: Fiber) -> None:
        if self._waiting.pop(fiber, self) is None:
            self._ready.append(fiber)

    def _fiber_of(self, process: Process) -> Fiber:
        """Return the running fiber. A finalizer of a dead process may run within another one's: it does nothing."""
        fiber = self._current
        if process.dead or fiber is None or fiber.process is not process:
            raise Crashed
        return fiber

    def _leave(self, fiber: Fiber) -> None:
        self._hub.switch()
        if fiber.process.dead:
            raise Crashed

    def _begin(self, fiber: Fiber, work: Callable[[], None]) -> None:
        try:
            if not fiber.process.dead:
                work()
        except Crashed:
            pass
        finally:
            fiber.done = True
            self.wake(fiber.ended)

    def _who_waits(self) -> str:
        return ", ".join(fiber.label for fiber in self._waiting) or "nobody waits"
