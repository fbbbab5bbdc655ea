"""The changelog header for what no column holds, as msgpack: field versions, applied, carried, timers, windows."""

from __future__ import annotations

import msgspec

from placet.schemas.codec.carried import Carried
from placet.schemas.memory import Applied, Armed, Counts
from placet.schemas.state import EntityState

__all__ = ["STATE_HEADER", "Hidden", "hidden_of", "state_header"]

STATE_HEADER = "placet-state"


class Hidden(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The content of `STATE_HEADER`. A later part is appended, with a default."""

    field_versions: dict[str, int]
    applied: dict[str, Applied]
    carried: Carried | None = None
    armed: dict[str, Armed] | None = None
    counts: Counts | None = None


_pack = msgspec.msgpack.Encoder(order="deterministic").encode


def state_header(state: EntityState) -> bytes:
    """Return the content of `STATE_HEADER`."""
    if state.counts:
        return _pack((state.field_versions, state.applied, state.carried, state.armed, state.counts))
    if state.armed:
        return _pack((state.field_versions, state.applied, state.carried, state.armed))
    if state.carried:
        return _pack((state.field_versions, state.applied, state.carried))
    return _pack((state.field_versions, state.applied))


hidden_of = msgspec.msgpack.Decoder(Hidden).decode
"""Decode the content of `STATE_HEADER`; it raises what msgspec raises."""
