"""The advisory pipeline: signals in, thoughts under a ceiling, positions out.

take ──► progress ──► waiting: settles, then waits ──► pump: ceiling, breaker ──► thinking ──► progress ──► positions

All of it runs in one event loop. Every change calls `_pump`, which starts the thoughts that may start. A trigger is
over when its thought has ended or it was dropped on purpose; only then may the group's position pass its offset.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from time import monotonic
from typing import Any, Final

from placet.advisor.advice import Limits
from placet.advisor.breaker import Breaker, BreakerPhase
from placet.advisor.meter import Meter
from placet.advisor.progress import Progress
from placet.advisor.thinking import Thinking
from placet.advisor.triggers import Reader, Trigger
from placet.advisor.waiting import Drop, TriggerQueue
from placet.client.aio import AsyncClient
from placet.client.errors import ReadTimeout
from placet.schemas.errors import DecodeError, UnknownSchema
from placet.streams.errors import LogUnreachable
from placet.streams.records import ConsumerRecord
from placet.streams.telemetry.log import get_logger

__all__ = ["Pipeline"]

_OFFSETS_MAX: Final = 100_000
"""Most offsets of a partition that are kept behind a thought that takes long; then reading waits for it."""
_PAUSE_S: Final = 0.03
_PAUSE_MOST_S: Final = 0.3
_LOOKS: Final = 7
"""How often to look for the gate's change in the local view; a signal that changes nothing has none."""


class Pipeline:
    """One advisor's work.

    Args:
        client: an open client.
        reader: makes triggers of records.
        limits: the bounds.
        max_age_ms: gives the age from which on triggers are dropped; it depends on the rules in force.
        meter: counts.
        has_taken: tells by partition and offset whether the gate has decided on a signal.
        clock_ms: the machine's clock, ms since the epoch.
    """

    def __init__(
        self,
        client: AsyncClient,
        reader: Reader,
        limits: Limits,
        max_age_ms: Callable[[], int],
        meter: Meter,
        has_taken: Callable[[int, int], Awaitable[bool]],
        clock_ms: Callable[[], int],
    ) -> None:
        self._client = client
        self._reader = reader
        self._limits = limits
        self._max_age_ms = max_age_ms
        self._meter = meter
        self._has_taken = has_taken
        self._clock_ms = clock_ms
        self._breaker = Breaker(limits.failures, limits.open_s)
        self._waiting: TriggerQueue[Trigger] = TriggerQueue(limits.queue, limits.drop)
        self._thinking = Thinking(client, limits, meter, self._is_too_old)
        self._progress: dict[int, Progress] = {}
        self._in_hand: set[Hashable] = set()
        self._thoughts: set[asyncio.Task[None]] = set()
        self._settling: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._room = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._log = get_logger("advisor")
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        meter.watch({
            "waiting": lambda: len(self._waiting),
            "thinking": lambda: len(self._thoughts),
            "breaker_open": lambda: self._breaker.phase(monotonic()) is not BreakerPhase.CLOSED,
        })  # fmt: skip

    async def take(self, record: ConsumerRecord, generation: int) -> None:
        """Take a record that was read; return when the next one may come."""
        while self._is_full(record.partition) and not self._stopping:
            self._room.clear()
            await self._room.wait()
        if self._stopping:
            return
        progress = self._progress.setdefault(record.partition, Progress())
        if not progress.take(record.offset, generation):
            self._meter.count("repeated")
            return
        trigger = await self._trigger(record)
        if self._stopping:
            return
        if trigger is None:
            progress.end(record.offset)
        elif self._is_too_old(trigger):
            self._end(trigger, "dropped_too_old")
        else:
            self._wait(trigger)

    async def _trigger(self, record: ConsumerRecord) -> Trigger | None:
        """Return a record's trigger. Where its schema is not known, what was published meanwhile is read first."""
        try:
            return self._reader.trigger(record)
        except UnknownSchema:
            while not self._stopping:
                try:
                    await self._client.read_rules()
                    return self._reader.trigger(record, read=True)
                except LogUnreachable:  # the advisor waits for Kafka
                    await asyncio.sleep(_PAUSE_MOST_S)
            return None

    def assigned(self, partitions: frozenset[int]) -> None:
        """Note which partitions are this member's. Another member reads the waiting triggers of other partitions."""
        for trigger in self._waiting.leave(lambda trigger: trigger.partition not in partitions):
            self._meter.count("moved")
            self._log.debug("moved", signal=trigger.signal.signal_id)
        self._progress = {number: kept for number, kept in self._progress.items() if number in partitions}
        for progress in self._progress.values():
            progress.renew()
        self._room.set()

    def positions(self) -> dict[int, int]:
        """Return the next offset to read after a restart, by partition."""
        known = {number: progress.position for number, progress in self._progress.items()}
        return {number: position for number, position in known.items() if position is not None}

    async def stop(self) -> None:
        """Begin nothing more; wait up to `grace_s` for thoughts under way, then cancel them: they are read again."""
        self._stopping = True
        self._room.set()
        self._waiting.leave(lambda _trigger: True)
        if self._timer is not None:
            self._timer.cancel()
        if self._thoughts:
            await asyncio.wait(self._thoughts, timeout=self._limits.grace_s)
        rest = [*self._thoughts, *self._settling]
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=1.0)

    # -- waiting -------------------------------------------------------------------------------------------------------

    def _is_full(self, partition: int) -> bool:
        behind = len(self._progress.get(partition, ()))
        return behind >= _OFFSETS_MAX or (self._waiting.drop is Drop.WAIT and self._waiting.full)

    def _is_too_old(self, trigger: Trigger) -> bool:
        return self._clock_ms() - trigger.signal.log_time > self._max_age_ms()

    def _wait(self, trigger: Trigger) -> None:
        for gone, why in self._waiting.offer(trigger):
            self._end(gone, f"dropped_{why}")
        if trigger in self._waiting:
            self._spawn(self._settle(trigger), self._settling)

    async def _settle(self, trigger: Trigger) -> None:
        """Wait until the gate has decided on the signal, and the changed state can be read."""
        pause_s = _PAUSE_S
        while self._is_unsettled(trigger) and not await self._has_taken(trigger.partition, trigger.offset):
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _PAUSE_MOST_S)
        for _ in range(_LOOKS):
            if not self._is_unsettled(trigger) or await self._is_applied(trigger):
                break
            await asyncio.sleep(_PAUSE_S)
        self._waiting.ready(trigger)
        self._pump()

    def _is_unsettled(self, trigger: Trigger) -> bool:
        age_ms = self._clock_ms() - trigger.signal.log_time
        return trigger in self._waiting and age_ms < self._limits.settle_s * 1000

    async def _is_applied(self, trigger: Trigger) -> bool:
        """Return whether the state that can be read is as new as the signal; never if the signal changed nothing."""
        try:
            change = (await self._client.read(trigger.signal.entity_id)).change
        except (ReadTimeout, DecodeError):  # whoever thinks will meet it again
            return True
        return change is not None and change.log_time >= trigger.signal.log_time

    # -- thinking ------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Start the thoughts that may start."""
        while not self._stopping and len(self._thoughts) < self._limits.ceiling:
            if not self._breaker.begin(monotonic()):
                self._pump_later(self._breaker.wait_s(monotonic()))
                return
            trigger = self._waiting.take(self._in_hand)
            if trigger is None:
                self._breaker.withdrawn()
                return
            self._room.set()
            self._in_hand.add(trigger.topic)
            self._spawn(self._think(trigger), self._thoughts)

    def _pump_later(self, wait_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait_s is not None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._pump)

    async def _think(self, trigger: Trigger) -> None:
        result = await self._thinking.answer(trigger)
        opened = self._breaker.opened
        self._breaker.learn(result, monotonic())
        if self._breaker.opened > opened:
            self._meter.breaker_opened()
            self._log.warning("breaker opened", failures=self._limits.failures, open_s=self._limits.open_s)
        self._in_hand.discard(trigger.topic)
        self._end(trigger, result)

    def _end(self, trigger: Trigger, result: str) -> None:
        self._meter.count(result)
        progress = self._progress.get(trigger.partition)
        if progress is not None:
            progress.end(trigger.offset)
        self._room.set()

    def _spawn(self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        among.add(task)
        task.add_done_callback(lambda ended: self._ended(ended, among))

    def _ended(self, task: asyncio.Task[None], among: set[asyncio.Task[None]]) -> None:
        among.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.failed.done():
            self.failed.set_exception(error)
        self._pump()
