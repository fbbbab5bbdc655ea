"""How a task's state lies in its store, and which headers of the changelog put it there without decoding.

    s<entity>                                state: 0x00 + msgpack, or 0x01 + a changelog record as it was read
    d<length><entity><kind><dedup key>       dedup memory: 8 bytes of log time + msgpack
    u<ledger key>                            memory that lives in the ledger: log time of it, or `dump_needed_by`
    a<due><entity>                           a timer may be due then: its entity is to be looked at
    x<entity>                                a deleted entity that is still remembered: log time of the deletion
    t<log time><key>                         reminds of one of d, u and x, in order of time
    t<log time>0x00<sequence><number>        reminds of many that a transaction remembered: msgpack
    m<name>                                  the task's own: stamp, last commit, positions

A restore copies bytes: states are kept as they came and decoded when they are first needed, and the dedup memory of a
change travels in a header in the form in which it is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from struct import Struct
from typing import Any, Final, TypeAlias

import msgspec

from placet.schemas.codec.codec import Codec
from placet.schemas.errors import DecodeError
from placet.schemas.ledger import Commit, KeptWindow
from placet.schemas.memory import Memory
from placet.schemas.messages import Kind
from placet.schemas.state import ABSENT, Change, EntityState
from placet.schemas.stored import decode_memory, decode_state, encode_memory, encode_state
from placet.streams.records import Headers

__all__ = [
    "ARMED_HEADER",
    "CHANGED",
    "COMMIT",
    "DELETED_HEADER",
    "MADE_AT",
    "MEMORY_HEADER",
    "OFFSET_MARK",
    "STAMP",
    "WINDOWS",
    "StateFormat",
    "applied_ledger_key",
    "armed_keys",
    "change_headers",
    "commit_from_bytes",
    "commit_to_bytes",
    "counted_ledger_key",
    "deleted_key",
    "disarmed_ledger_key",
    "due_of",
    "dump_log_time",
    "dump_memory",
    "dump_needed_by",
    "dump_windows",
    "expiring_keys",
    "is_needed",
    "keep_change",
    "keep_headers",
    "ledger_index_key",
    "load_memory",
    "load_windows",
    "log_time_of",
    "memory_key",
    "memory_ledger_key",
    "position_key",
    "position_writes",
    "remember",
    "reminders",
    "state_key",
]

STAMP: Final = b"mstamp"
COMMIT: Final = b"mcommit"
MADE_AT: Final = b"mmade"
WINDOWS: Final = b"mwindows"
CHANGED: Final = b"mchanged"
"""The newest transaction whose changes are in the store: its sequence."""
OFFSET_MARK: Final = "@"
"""Among the headers of a record in the store: its offset, so that one that can't be decoded can be named."""
MEMORY_HEADER: Final = "placet-memory"
DELETED_HEADER: Final = "placet-deleted"
ARMED_HEADER: Final = "placet-armed"

ReadHeaders: TypeAlias = Sequence[tuple[str, Any]]
"""Headers as they lie on the log: bytes, or None in a record that no gate wrote."""

_KINDS: Final = {kind: bytes([kind]) for kind in Kind}
_u16: Final = Struct(">H")
_u32: Final = Struct(">I")
_u64: Final = Struct(">Q")
_decode_commit: Final = msgspec.msgpack.Decoder(Commit).decode
_encode_raw: Final = msgspec.msgpack.Encoder().encode
_decode_keys: Final = msgspec.msgpack.Decoder(list[bytes]).decode
_REMINDED_AT_ONCE: Final = 64
_decode_raw: Final = msgspec.msgpack.Decoder(tuple[bytes, list[tuple[str, bytes | None]]]).decode


def state_key(entity: bytes) -> bytes:
    """Return the key of an entity's state."""
    return b"s" + entity


def memory_key(kind: Kind, entity: bytes, dedup_key: str) -> bytes:
    """Return the key of a dedup memory. The length keeps `a` + `bc` and `ab` + `c` apart."""
    return b"d" + _u16.pack(len(entity)) + entity + _KINDS[kind] + dedup_key.encode()


def ledger_index_key(ledger_key: bytes) -> bytes:
    """Return the key that reminds of a ledger entry to be deleted after the horizon."""
    return b"u" + ledger_key


def deleted_key(entity: bytes) -> bytes:
    """Return the key that reminds of a deleted entity's late tombstone."""
    return b"x" + entity


def dump_needed_by(state: EntityState) -> bytes:
    """Encode what stands under `u` for a timer that fired: its entry is needed until the entity changes, or is gone."""
    return _u64.pack(0) + _u64.pack(state.incarnation) + _u64.pack(state.version)


def is_needed(value: bytes, state: EntityState) -> bool:
    """Tell whether it is, by the entity's state as it is."""
    incarnation, version = _u64.unpack_from(value, 8)[0], _u64.unpack_from(value, 16)[0]
    return bool(0 < state.version <= version and state.incarnation == incarnation)


def armed_keys(state: EntityState, entity: bytes) -> set[bytes]:
    """Return the keys under which an entity is found when its timers are due.

    A restore may leave keys of timers that are armed no more: whoever finds an entity there looks at its state.
    """
    return {b"a" + _u64.pack(due) + entity for due in _dues(state)}


def due_of(key: bytes) -> tuple[int, bytes]:
    """Return the time and the entity of such a key."""
    return _u64.unpack_from(key, 1)[0], key[9:]


def _dues(state: EntityState) -> list[int]:
    return sorted({timer.due for timer in (state.armed or {}).values()})


def remember(writes: dict[bytes, bytes | None], key: bytes, value: bytes) -> None:
    """Write one of d, u and x, whose value begins with its log time, and what reminds of it in order of time."""
    writes[key] = value
    writes[b"t" + value[:8] + key] = b""


def reminders(log_time: int, sequence: int, keys: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Return key and value of what reminds of all that a transaction remembers, many at once.

    Args:
        log_time: the transaction's, ms; all of it is due then.
        sequence: the transaction's, which no other one has.
        keys: each d, u or x, with a value of this log time at most.
    """
    head = b"t" + _u64.pack(log_time) + b"\x00" + _u64.pack(sequence)
    for begin in range(0, len(keys), _REMINDED_AT_ONCE):
        yield head + _u32.pack(begin), _encode_raw(keys[begin : begin + _REMINDED_AT_ONCE])


def expiring_keys(reminder: bytes, keys: bytes) -> list[bytes]:
    """Return the keys that a `t` key and its value remind of; the log time stands at `log_time_of(reminder[1:])`."""
    return _decode_keys(keys) if keys else [reminder[9:]]


def dump_memory(memory: Memory) -> bytes:
    """Encode a memory; its log time comes first, so that housekeeping need not decode."""
    return _u64.pack(memory.log_time) + encode_memory(memory)


def load_memory(data: bytes) -> Memory:
    """Decode a memory."""
    return decode_memory(data[8:])


def log_time_of(data: bytes) -> int:
    """Return the log time at the head of a stored memory or reminder, in ms."""
    return _u64.unpack_from(data)[0]  # type: ignore[no-any-return]


def dump_log_time(log_time: int) -> bytes:
    """Encode a reminder's log time."""
    return _u64.pack(log_time)


def change_headers(change: Change, entity: bytes) -> tuple[Headers, list[tuple[bytes, bytes]]]:
    """Return what lets a restore store a change's dedup memory, and the mark of a deletion, without decoding it.

    Returns:
        The headers, and key and value of what they put into a store: see `keep_headers`.
    """
    headers: Headers = []
    kept: list[tuple[bytes, bytes]] = []
    memory = change.memory
    if memory is not None:
        tail, data = _KINDS[change.kind] + change.dedup_key.encode(), dump_memory(memory)
        headers.append((MEMORY_HEADER, _u16.pack(len(tail)) + tail + data))
        kept.append((b"d" + _u16.pack(len(entity)) + entity + tail, data))
    if change.state.status == ABSENT:
        mark = dump_log_time(change.log_time)
        headers.append((DELETED_HEADER, mark))
        kept.append((deleted_key(entity), mark))
    if change.state.armed:
        headers.append((ARMED_HEADER, b"".join(_u64.pack(due) for due in _dues(change.state))))
    return headers, kept


def keep_change(
    writes: dict[bytes, bytes | None], entity: bytes, value: bytes, headers: ReadHeaders, offset: int
) -> None:
    """Write what a changelog record holds, undecoded: state, memory, reminder. The hot loop of a restore.

    Raises:
        IndexError, TypeError: a header is none that a gate wrote.
    """
    kept: list[tuple[str, Any]] = [(OFFSET_MARK, _u64.pack(offset))]
    keep_headers(writes, entity, headers, kept)
    writes[b"s" + entity] = b"\x01" + _encode_raw((value, kept))


def keep_headers(
    writes: dict[bytes, bytes | None], entity: bytes, headers: ReadHeaders, others: list[tuple[str, Any]]
) -> None:
    """Write what stands in `change_headers`, and what reminds of it.

    Args:
        writes: gets memory and reminders.
        entity: the change's key.
        headers: of a change.
        others: gets the headers that are none of these.
    """
    for header in headers:
        name, data = header
        if name == MEMORY_HEADER:
            end = 2 + (data[0] << 8 | data[1])  # of kind and dedup key: see `change_headers`
            key, memory = b"d" + _u16.pack(len(entity)) + entity + data[2:end], data[end:]
            writes[key] = memory
            writes[b"t" + memory[:8] + key] = b""  # as `remember` does, in the hot loop of a restore
        elif name == DELETED_HEADER:
            remember(writes, deleted_key(entity), data)
        elif name == ARMED_HEADER:
            for begin in range(0, len(data), 8):
                writes[b"a" + data[begin : begin + 8] + entity] = b""
        else:
            others.append(header)


def memory_ledger_key(kind: int, entity_id: str, dedup_key: str) -> bytes:
    """Return the ledger's key of a memory that no change carries."""
    return f"memory/{kind}/{entity_id}/{dedup_key}".encode()


def applied_ledger_key(entity_id: str, name: str) -> bytes:
    """Return the ledger's key of the newest applied input of a name, where it changed nothing."""
    return f"applied/{entity_id}/{name}".encode()


def disarmed_ledger_key(entity_id: str, name: str) -> bytes:
    """Return the ledger's key of a timer that fired and changed nothing."""
    return f"disarmed/{entity_id}/{name}".encode()


def counted_ledger_key(entity_id: str) -> bytes:
    """Return the ledger's key of what windows count of an entity, where no change carries it."""
    return f"counted/{entity_id}".encode()


def dump_windows(windows: tuple[KeptWindow, ...]) -> bytes:
    """Encode the windows that a task keeps."""
    return _encode_raw(windows)


def load_windows(data: bytes | None) -> tuple[KeptWindow, ...]:
    """Decode them; none where nothing is stored."""
    return msgspec.msgpack.decode(data, type=tuple[KeptWindow, ...]) if data else ()


def commit_to_bytes(commit: Commit) -> bytes:
    """Encode the last commit for the store."""
    return msgspec.msgpack.encode(commit)


def commit_from_bytes(data: bytes) -> Commit:
    """Decode the last commit from the store."""
    return _decode_commit(data)


def position_writes(positions: Mapping[str, int]) -> dict[bytes, bytes]:
    """Return the store's entries for how far changelog and ledger are covered, by topic."""
    return {b"mposition/" + topic.encode(): _u64.pack(position) for topic, position in positions.items()}


def position_key(topic: str) -> bytes:
    """Return the key of the position covered of one topic."""
    return b"mposition/" + topic.encode()


class StateFormat:
    """States in the store of one entity type: our own short form, or the changelog record that a restore put there.

    The short form may be that of another version of the definition, which ran on this store before.
    """

    def __init__(self, codec: Codec, decimal_fields: frozenset[str]) -> None:
        self._codec = codec
        self._adopt = codec.known_fields.adopt
        self._decimal_fields = decimal_fields

    def dump(self, state: EntityState) -> bytes:
        """Encode a state."""
        return b"\x00" + encode_state(state)

    def load(self, data: bytes) -> EntityState:
        """Decode a state, whichever form it has. Fields that were never written are missing: their defaults count.

        Raises:
            DecodeError, UnknownSchema: the changelog record is none that this definition can read; its offset is in the
                text.
        """
        if data[0] == 1:
            value, headers = _decode_raw(data[1:])
            try:
                return self._codec.decode_state(value, headers)
            except DecodeError as error:
                raise error.told_as(f"{_offset_in(headers)}{error}") from error  # one of an unknown schema stays that
        state = decode_state(data[1:])
        if self._decimal_fields:
            _restore_decimals(state.fields, self._decimal_fields)
        return self._adopt(state)


def _offset_in(headers: Sequence[tuple[str, bytes | None]]) -> str:
    """Say where a record in the store was read; earlier releases did not keep it."""
    mark = next((content for name, content in headers if name == OFFSET_MARK), None)
    return f"at offset {log_time_of(mark)}: " if mark else ""


def _restore_decimals(fields: dict[str, Any], names: frozenset[str]) -> None:
    """Turn decimals back: msgpack has none and carries them as text."""
    for name in names:
        text = fields.get(name)
        if text is not None:
            fields[name] = Decimal(text)
