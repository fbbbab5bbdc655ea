"""The input and the result of an advisor's function, and the limits for its calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Final, TypeAlias

from placet.advisor.waiting import Drop
from placet.client.snapshot import Snapshot
from placet.schemas.errors import SettingsError
from placet.schemas.messages import Value
from placet.schemas.times import Given

__all__ = ["Advice", "Limits", "Signal", "Think"]


_MAX_AGE_MS: Final = 600_000


@dataclass(frozen=True)
class Signal:
    """A fact on the log, as its source sent it, without the gate's decision on it. Times in ms since the epoch.

    Attributes:
        entity_id: the entity that it is about.
        name: one of the definition's signals.
        payload: its payload, with the definition's types.
        signal_id: names the fact; a proposal because of this signal has it as `caused_by`.
        event_time: when the fact happened.
        issued_at: when it was first sent.
        log_time: when the broker appended it.
        source: who sent it.
    """

    entity_id: str
    name: str
    payload: Mapping[str, Value]
    signal_id: str
    event_time: int
    issued_at: int
    log_time: int
    source: str = ""


@dataclass(frozen=True)
class Advice:
    """What the harness should propose.

    Attributes:
        name: one of the definition's proposals.
        payload: its payload; fields with a default, and optional ones, may be left out.
        rationale: why, for people.
        model: name of the model that made the proposal.
        metadata: anything else, for people.
        valid_for: the gate refuses the proposal (EXPIRED) after this time; the definition may allow less.
        dedup_key: names the occasion, which is applied once; by default the signal and the proposal's name are it.
    """

    name: str
    payload: Mapping[str, Given] = field(default_factory=dict)
    rationale: str = ""
    model: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    valid_for: timedelta | None = None
    dedup_key: str | None = None


Think: TypeAlias = Callable[[Signal, Snapshot], Awaitable[Advice | None]]
"""An advisor's function: takes a signal and the committed state, returns an advice or None."""


@dataclass(frozen=True)
class Limits:
    """Bounds for an advisor's work. Everything has one.

    Attributes:
        ceiling: signals in work at once: the function runs, or its decision is awaited.
        queue: signals that may wait for a free place.
        drop: which signal is dropped when the queue is full.
        timeout_s: longest time of one call of the function.
        decision_timeout_s: longest wait for one answer of the gate.
        recomputes: how often one signal is thought about again when the gate says RECOMPUTE.
        resends: how often the same proposal is sent again when the gate says LATER, or does not answer.
        failures: so many failures in a row open the breaker. A failure is: the function raised, took too long or
            returned what is no proposal; the state could not be read; the gate did not answer.
        open_s: how long the breaker stays open before one probe.
        max_age_s: older signals are dropped; by default ten minutes, or half the definition's horizon if that is less.
            It must be below the horizon: later the gate no longer knows that a signal was answered before.
        settle_s: longest time, from its log time on, that a signal waits for the gate to decide on it, so that no
            function works on a state that is about to change. After that the function is called without the decision.
        grace_s: how long a stop waits for calls under way.
    """

    ceiling: int = 8
    queue: int = 64
    drop: Drop = Drop.OLDEST
    timeout_s: float = 30.0
    decision_timeout_s: float = 30.0
    recomputes: int = 3
    resends: int = 5
    failures: int = 5
    open_s: float = 30.0
    max_age_s: float | None = None
    settle_s: float = 10.0
    grace_s: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.drop, Drop):
            raise SettingsError(f"the advisor's limit `drop` is {self.drop!r}: it must be one of {[*map(str, Drop)]}")
        least = {"ceiling": 1, "queue": 1, "failures": 1, "recomputes": 0, "resends": 0, "settle_s": 0, "grace_s": 0}
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is None or limit.name == "drop":
                continue
            lowest = least.get(limit.name)
            if value < lowest if lowest is not None else value <= 0:
                bound = "more than 0" if lowest is None else f"at least {lowest}"
                raise SettingsError(f"the advisor's limit `{limit.name}` is {value}: it must be {bound}")

    def max_age_ms(self, horizon_ms: int) -> int:
        """Return the age at which signals are dropped.

        Raises:
            SettingsError: `max_age_s` is not below the horizon.
        """
        if self.max_age_s is None:
            return min(_MAX_AGE_MS, horizon_ms // 2)
        age_ms = round(self.max_age_s * 1000)
        if age_ms >= horizon_ms:
            raise SettingsError(
                f"max_age_s is {self.max_age_s:g}, but the definition's horizon is {horizon_ms / 1000:g} s: beyond it "
                "a trigger that comes again could be applied twice. Set it to less, best to half of it."
            )
        return age_ms
