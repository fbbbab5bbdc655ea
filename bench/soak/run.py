"""A long run from its first fault to what was seen of it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final

from bench.soak.follower import Follower
from bench.soak.schedule import Kind, in_turn
from bench.soak.site import KILLED, Life, Site, SoakError
from bench.soak.waits import Waits

__all__ = ["Event", "Run", "Seen"]

BETWEEN_S: Final = 3.0
"""Facts that come so shortly before a fault wait because of it, and count for neither fault."""
FLOWS_AFTER_S: Final = 20.0
"""Behind a fault. A copier that copies nothing then hangs for good (librdkafka #5511)."""

VERIFIED_WITHIN_S: Final = 1_800.0


@dataclass
class Event:
    """A fault that was brought about.

    Attributes:
        kind: its name.
        since_s: when it began; since the epoch, in seconds.
        over_s: when it was over.
        until_s: when the calm behind it was over, but for the last moment before the next one.
        said: what was done, in order.
        copier_anew: whether the copier hung after it and was started anew.
        failed: what did not go as it should.
    """

    kind: str
    since_s: float
    over_s: float = 0.0
    until_s: float = 0.0
    said: list[str] = field(default_factory=list)
    copier_anew: bool = False
    failed: str = ""


@dataclass
class Seen:
    """All that was seen of a run.

    Attributes:
        events: the faults, in order.
        left_out: kinds that there was no time for.
        waits: of all inputs.
        lives: the gates' processes.
        trouble: what did not go as it should, beside the gates' own ends.
        verify: its exit code and its report, or what it said instead.
        interrupted: whether the run ended early, because it was told to.
    """

    events: list[Event]
    left_out: list[str]
    waits: Waits
    lives: list[Life]
    trouble: list[str]
    verify: tuple[int, dict[str, Any] | str]
    interrupted: bool


class Run:
    """Brings faults about, one after the other, and looks at what is left.

    Args:
        site: all runs there.
        follower: reads everything there.
        kinds: of faults.
        seed: of their order and their details.
        minutes: until the calm behind the last one is over.
        calm_s: between them, in seconds.
    """

    def __init__(
        self, site: Site, follower: Follower, kinds: tuple[Kind, ...], seed: int, minutes: float, calm_s: float
    ) -> None:
        self._site, self._follower, self._kinds = site, follower, kinds
        self._seed, self._calm_s = seed, calm_s
        self._until_s = time.monotonic() + minutes * 60
        self.events: list[Event] = []

    def faults(self) -> None:
        """Bring them about, until the time is over or the run shall end."""
        site, pick = self._site, Random(self._seed)
        site.until(site.all_tasks_run, 120, "all tasks run")
        for kind in in_turn(self._kinds, self._seed, self._calm_s, lambda: self._until_s - time.monotonic()):
            if site.stop.is_set():
                break
            event = Event(kind.name, time.time())
            self.events.append(event)
            site.amid = kind.name
            try:
                kind.bring(site, pick)
            except Exception as error:  # noqa: BLE001 - told in the report; the others have their turn
                event.failed = f"{kind.name}: {type(error).__name__}: {error}"
                site.says(event.failed)
            event.over_s = time.time()
            self._calm(event)
            event.until_s = time.time()
            site.pause(BETWEEN_S)
            for what, holds in (
                ("the load has ended", site.outage.loads),
                (self._follower.failed, not self._follower.failed),
            ):
                if not holds:
                    raise SoakError(what)

    def _calm(self, event: Event) -> None:
        began_s = time.monotonic()
        self._site.pause(min(FLOWS_AFTER_S, self._calm_s / 2))
        if not self._site.stop.is_set() and self._site.copier_stands():
            event.copier_anew = True
            self._site.outage.restart_copier()
        self._site.pause(self._calm_s - BETWEEN_S - (time.monotonic() - began_s))

    def look(self) -> Seen:
        """End the load, wait until all is decided, end the gates, verify what they wrote."""
        site = self._site
        site.amid = "the end"
        trouble = [event.failed for event in self.events if event.failed] + site.trouble
        steps: tuple[Callable[[], None], ...] = (
            site.outage.end_load,
            partial(site.until, self._all_is_decided, 120, "all inputs are decided", though_stopping=True),
            partial(site.until, self._all_is_read, 120, "all that was decided is read", though_stopping=True),
            *(partial(site.end, name) for name in site.now),
        )
        for step in steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - told in the report, and the other steps are taken
                trouble.append(f"at the end: {type(error).__name__}: {error}")
                site.says(trouble[-1])
        ran = {event.kind for event in self.events}
        return Seen(
            self.events, [kind.name for kind in self._kinds if kind.name not in ran], self._follower.close(),
            site.lives, trouble, self._verified(), site.stop.is_set(),
        )  # fmt: skip

    def _verified(self) -> tuple[int, dict[str, Any] | str]:
        self._site.says("placet verify decides everything again")
        try:
            done = self._site.world.placet("verify", "--output", "json", check=False, timeout_s=VERIFIED_WITHIN_S)
        except subprocess.TimeoutExpired:
            return KILLED, f"it did not end within {VERIFIED_WITHIN_S:g} s"
        return done.returncode, json.loads(done.stdout) if done.stdout.startswith("{") else done.stderr

    def _all_is_decided(self) -> bool:
        world = self._site.world
        return world.ends(world.topics.inputs) == world.committed()

    def _all_is_read(self) -> bool:
        """Whether the follower has seen all; of copies what there is, for a copier may hang."""
        world = self._site.world
        return self._follower.has_read(world.ends([*world.topics.inputs, world.topics.decisions]))
