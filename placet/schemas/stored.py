"""States and memories as bytes, msgpack: how local storage holds them, and what limits on their size count."""

from __future__ import annotations

from typing import Any, Final, TypeAlias, cast

import msgspec

from placet.schemas.memory import Applied, Armed, Counts, Memory, StateRow
from placet.schemas.state import EntityState

__all__ = ["decode_memory", "decode_state", "encode_memory", "encode_state"]

_pack: Final = msgspec.msgpack.Encoder().encode
_unpack_row: Final = msgspec.msgpack.Decoder(StateRow).decode
_unpack_memory: Final = msgspec.msgpack.Decoder(Memory).decode
_Row: TypeAlias = tuple[
    int, int, str, dict[str, Any], dict[str, int], dict[str, Applied], int, dict[str, Any] | None,
    dict[str, Armed] | None, Counts | None,
]  # fmt: skip
_parts: Final = msgspec.structs.astuple


def encode_state(state: EntityState) -> bytes:
    """Return a state's bytes. One without armed timers and windows has no place for them: most have none."""
    parts = (
        state.version,
        state.incarnation,
        state.status,
        state.fields,
        state.field_versions,
        state.applied,
        state.deleted_at,
        state.carried,
    )
    if state.counts is not None:
        return _pack((*parts, state.armed, state.counts))
    return _pack(parts if state.armed is None else (*parts, state.armed))


def decode_state(data: bytes) -> EntityState:
    """Return the state; decimals are still text.

    Raises:
        msgspec.MsgspecError: the bytes are no state.
    """
    version, incarnation, status, fields, versions, applied, deleted_at, carried, armed, counts = cast(
        "_Row",
        _parts(_unpack_row(data)),
    )
    return EntityState(version, incarnation, status, fields, versions, applied, deleted_at, carried, armed, counts)


def encode_memory(memory: Memory) -> bytes:
    """Return a memory's bytes."""
    return _pack(memory)


def decode_memory(data: bytes) -> Memory:
    """Return the memory.

    Raises:
        msgspec.MsgspecError: the bytes are no memory.
    """
    return _unpack_memory(data)
