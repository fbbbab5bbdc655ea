"""One trigger, from the first read of the state to the gate's last decision. Exceptions of functions stay in here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from placet.advisor.advice import Advice, Limits
from placet.advisor.meter import Meter
from placet.advisor.steps import sends_again_in_s, thinks_again
from placet.advisor.triggers import Trigger
from placet.client.aio import AsyncClient
from placet.client.errors import DecisionTimeout, NoOccasion, NotDelivered, ReadTimeout
from placet.client.snapshot import Snapshot
from placet.schemas.decision import Decision
from placet.schemas.errors import DecodeError, InvalidPayload, PlacetError
from placet.streams.errors import LogUnreachable
from placet.streams.telemetry.log import get_logger

__all__ = ["GaveUp", "Thinking"]

_NO_ANSWER: Final = (DecisionTimeout, NotDelivered, LogUnreachable)
_NO_PROPOSAL: Final = (InvalidPayload, NoOccasion)
_NO_STATE: Final = (ReadTimeout, DecodeError)


class GaveUp(PlacetError):
    """No try led to a decision. Reaction: the trigger is over, and the breaker counts it.

    Args:
        kind: `timed_out`, `failed`, `invalid`, `unread`, `unanswered`.
        cause: the exception, if there was one.
    """

    def __init__(self, kind: str, cause: BaseException | None = None) -> None:
        self.kind, self.cause = kind, cause
        super().__init__(kind if cause is None else f"{kind}: {cause!r}")


class Thinking:
    """Reads, calls the function, proposes and waits; repeats this when `retry` says so.

    Args:
        client: an open client.
        limits: how long, how often.
        meter: counts.
        is_too_old: tells whether a trigger is.
    """

    def __init__(
        self, client: AsyncClient, limits: Limits, meter: Meter, is_too_old: Callable[[Trigger], bool]
    ) -> None:
        self._client = client
        self._limits = limits
        self._meter = meter
        self._is_too_old = is_too_old
        self._log = get_logger("advisor")
        self._kinds: set[tuple[str, str]] = set()

    async def answer(self, trigger: Trigger) -> str:
        """Work on a trigger to the end; return the result: `answered`, `given_up`, `dropped_too_old`.

        Raises:
            NotConnected: the client has ended.
        """
        try:
            return await self._answer(trigger)
        except GaveUp as error:
            self._note(trigger, error)
            return "given_up"

    async def _answer(self, trigger: Trigger) -> str:
        rethought = 0
        while not self._is_too_old(trigger):
            snapshot = await self._read(trigger)
            advice = await self._think(trigger, snapshot)
            if advice is None:
                return "answered"
            decision = await self._decided(trigger, snapshot, advice)
            if not thinks_again(decision, snapshot.version, rethought, self._limits.recomputes):
                return "answered"
            rethought += 1
            self._meter.count("recomputed")
        return "dropped_too_old"

    async def _read(self, trigger: Trigger) -> Snapshot:
        try:
            return await self._client.read(trigger.signal.entity_id)
        except _NO_STATE as error:
            raise GaveUp("unread", error) from error

    async def _think(self, trigger: Trigger, snapshot: Snapshot) -> Advice | None:
        """Call the function.

        It returns when the call has really ended, even if its cancellation takes long: otherwise more calls would run
        at once than the ceiling allows.
        """
        began_s = monotonic()
        call = asyncio.ensure_future(trigger.think(trigger.signal, snapshot))
        try:
            done, _ = await asyncio.wait({call}, timeout=self._limits.timeout_s)
            if not done:
                call.cancel()
                await asyncio.wait({call})
        finally:
            call.cancel()
            self._meter.thought(monotonic() - began_s)
        return self._advice_of(call, in_time=bool(done))

    def _advice_of(self, call: asyncio.Future[Advice | None], *, in_time: bool) -> Advice | None:
        error = asyncio.CancelledError() if call.cancelled() else call.exception()
        if not in_time:
            raise GaveUp("timed_out")
        if error is not None:
            raise GaveUp("failed", error)
        advice = call.result()
        if advice is not None and not isinstance(advice, Advice):
            raise GaveUp("invalid", TypeError(f"an advisor returns an Advice or None, not {type(advice).__name__}"))
        self._meter.count("silent" if advice is None else "advised")
        return advice

    async def _decided(self, trigger: Trigger, snapshot: Snapshot, advice: Advice) -> Decision:
        """Propose until there is a decision that does not say LATER, as often as allowed."""
        resent = 0
        while True:
            decision = await self._ask(trigger, snapshot, advice)
            wait_s = sends_again_in_s(decision, resent, self._limits.resends)
            if wait_s is not None:
                await asyncio.sleep(wait_s)
                resent += 1
                self._meter.count("resent")
            elif decision is None:
                raise GaveUp("unanswered")
            else:
                return decision

    async def _ask(self, trigger: Trigger, snapshot: Snapshot, advice: Advice) -> Decision | None:
        """Propose once; None: no answer, and the gate may or may not have the proposal. Sending it again is safe."""
        try:
            proposal = self._client.propose(
                snapshot, advice.name, advice.payload, dedup_key=advice.dedup_key, caused_by=trigger.signal.signal_id,
                valid_for=advice.valid_for, rationale=advice.rationale, model=advice.model, metadata=advice.metadata,
                traceparent=trigger.traceparent,
            )  # fmt: skip
            decision = await proposal.decision(self._limits.decision_timeout_s)
        except _NO_PROPOSAL as error:
            raise GaveUp("invalid", error) from error
        except _NO_ANSWER:
            return None
        self._meter.decided(decision)
        return decision

    def _note(self, trigger: Trigger, error: GaveUp) -> None:
        """Count it, and log the first one of its kind: there may be thousands."""
        self._meter.count(error.kind)
        kind = (error.kind, type(error.cause).__name__)
        if kind not in self._kinds:
            self._kinds.add(kind)
            self._log.warning(
                "trigger given up", kind=error.kind, entity=trigger.signal.entity_id, signal=trigger.signal.signal_id,
                exc_info=error.cause,
            )  # fmt: skip
