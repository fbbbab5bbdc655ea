"""What msgpack holds in local storage, part by part. What is remembered of applied inputs never has another form."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

__all__ = ["Applied", "Armed", "Counts", "Memory", "StateRow"]

Counts: TypeAlias = dict[str, dict[str, list[int]]]
"""What windows hold of an entity, by what they count (`WindowRule.what`) and by proposer ("" where they count all): log
time and amount of each accepted input, the next one's, and so on, in order of time. None of it is empty."""


class Applied(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The newest applied input of one name: what `late`, `dedup: newest` and `dedup: once` compare with."""

    event_time: int
    input_id: str
    payload_digest: bytes
    version: int
    log_time: int


class Armed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A timer that waits: the log time from which on it may fire, ms since the epoch, and the version that armed it."""

    due: int
    version: int


class Memory(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is remembered of an applied input under its dedup key, for the horizon and 60 s."""

    payload_digest: bytes
    input_id: str
    version: int
    log_time: int


class StateRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An `EntityState` as it is stored. A later part is appended, with a default."""

    version: int
    incarnation: int
    status: str
    fields: dict[str, Any]
    field_versions: dict[str, int]
    applied: dict[str, Applied]
    deleted_at: int
    carried: dict[str, Any] | None = None
    armed: dict[str, Armed] | None = None
    counts: Counts | None = None
