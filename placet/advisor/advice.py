"""What an advisor's function gets and gives, and the limits that it works within."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Final, TypeAlias

from placet.advisor.waiting import Drop
from placet.client.snapshot import Snapshot
from placet.schemas.errors import SettingsError
from placet.schemas.messages import Value

__all__ = ["Advice", "Limits", "Signal", "Think"]


_MAX_AGE_MS: Final = 600_000


@dataclass(frozen=True)
class Signal:
    """A fact on the log, as its source sent it: what the gate makes of it is not said. Times in ms since the epoch.

    Attributes:
        entity_id: whom it is about.
        name: one of the definition's signals.
        payload: as the definition types it.
        signal_id: names the fact; the occasion of what is proposed because of it.
        event_time: when it happened.
        issued_at: when it was first sent.
        log_time: when the broker took it.
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
    """What should be proposed.

    Attributes:
        name: one of the definition's proposals.
        payload: its payload; fields with a default, and optional ones, may be left out.
        rationale: why, for people.
        model: what thought of it.
        metadata: anything else.
        valid_for: refuse it (EXPIRED) after this time; the definition may allow less.
        dedup_key: what it is about, where that is not the signal: the same key is applied once.
    """

    name: str
    payload: Mapping[str, Value] = field(default_factory=dict)
    rationale: str = ""
    model: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    valid_for: timedelta | None = None
    dedup_key: str | None = None


Think: TypeAlias = Callable[[Signal, Snapshot], Awaitable[Advice | None]]
"""An advisor's function: a fact and the committed state in, an advice or None out."""


@dataclass(frozen=True)
class Limits:
    """How much is thought at once, how long, how often. Nothing has no bound.

    Attributes:
        ceiling: so many thoughts at once.
        queue: so many triggers may wait for them.
        drop: who goes when more come.
        timeout_s: how long one call of the function may take.
        decision_timeout_s: how long the gate may take to answer.
        recomputes: so often one trigger is thought about again when the gate says RECOMPUTE.
        resends: so often the same is sent again when the gate says LATER, or nothing.
        failures: so many in a row open the breaker: the function raised, took too long or advised what is no
            proposal, or the gate did not answer.
        open_s: how long it stays open before one probe.
        max_age_s: triggers older than that are dropped; by default ten minutes, or half the definition's horizon where
            that is less. Beyond the horizon the gate no longer knows that a trigger was answered before.
        settle_s: so long after it came a signal may wait for the gate to decide on it, so that nobody thinks about a
            state that it is about to change. When the gate is further behind, thoughts begin without it.
        grace_s: how long a stop waits for thoughts under way.
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
        """Return the age at which triggers are dropped.

        Raises:
            SettingsError: it is beyond the horizon.
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
