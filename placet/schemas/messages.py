"""What comes in: signals (facts) and proposals (what an AI would like), after decoding; and timers that are due."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import Any, TypeAlias, final

__all__ = ["Kind", "Message", "Priority", "Value"]

Value: TypeAlias = str | int | float | bool | Decimal | bytes | list[Any] | dict[str, Any] | None
"""A field's value: what Avro decodes to. Timestamps are milliseconds since the epoch, as int."""


class Kind(IntEnum):
    """Where an input comes from: a topic, or an armed timer. Pinned: the numbers are part of dedup memory's keys."""

    SIGNAL = 1
    PROPOSAL = 2
    TIMER = 3


class Priority(IntEnum):
    """How much an input matters when not all can be served."""

    CRITICAL = 0
    NORMAL = 1
    LOW = 2


@final
@dataclass(init=False)
class Message:
    """One decoded input. Times are milliseconds since the epoch.

    Attributes:
        input_id: `signal_id` or `proposal_id`, chosen by the producer.
        event_time: when it happened; a proposal's is its `issued_at`.
        issued_at: when it was first sent; a retry keeps it.
        dedup_key: the occasion, as given by the producer, or None.
        caused_by: id of the signal or task that made the proposer think, or None.
        valid_until: as given by the proposer, or None; the definition's `valid_for` bounds it.
        base_version: version of the state that the proposal is based on (proposals only).
        base_incarnation: incarnation of that state, 0 for an entity never seen; None is not compared, and protects
            less: an entity that was deleted, forgotten and created again may have reached the same version.
        priority: as chosen by the proposer; None leaves it to the definition. Of a decoded proposal it is never None.
        proposer: who sent it; a signal's source.
        read_at: when the state that the proposal is based on was read, or None; asked for by `max_state_age` alone.
    """

    kind: Kind
    name: str
    input_id: str
    entity_id: str
    payload: dict[str, Value]
    event_time: int
    issued_at: int
    dedup_key: str | None
    caused_by: str | None
    valid_until: int | None
    base_version: int
    base_incarnation: int | None
    priority: Priority | None
    proposer: str
    read_at: int | None

    def __init__(
        self,
        kind: Kind,
        name: str,
        input_id: str,
        entity_id: str,
        payload: dict[str, Value],
        event_time: int,
        issued_at: int,
        dedup_key: str | None = None,
        caused_by: str | None = None,
        valid_until: int | None = None,
        base_version: int = 0,
        base_incarnation: int | None = None,
        priority: Priority | None = None,
        proposer: str = "",
        read_at: int | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.input_id = input_id
        self.entity_id = entity_id
        self.payload = payload
        self.event_time = event_time
        self.issued_at = issued_at
        self.dedup_key = dedup_key
        self.caused_by = caused_by
        self.valid_until = valid_until
        self.base_version = base_version
        self.base_incarnation = base_incarnation
        self.priority = priority
        self.proposer = proposer
        self.read_at = read_at
