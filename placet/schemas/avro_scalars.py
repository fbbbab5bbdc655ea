"""Avro's scalars from bytes to values: strict, bounded, written for runs of columns.

A reader is a function `(bytes, position, out, slots) -> next position`: it reads one value for each slot into
`out[slot]`, a list or a dict. On torn bytes it raises IndexError or struct.error, or returns a position past the end;
`avro_reader.read_record` makes one error of all that. Avro 1.12 specification, "Binary Encoding".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from functools import cache
from struct import Struct
from typing import Any, TypeAlias

from placet.schemas.avro_shapes import Scalar
from placet.schemas.errors import DecodeError, InvalidPayload

__all__ = [
    "EXACT",
    "READERS",
    "Reader",
    "Unfit",
    "as_doubles",
    "read_decimals",
    "read_nullable_longs",
    "read_nullable_strings",
    "read_strings",
    "to_decimal",
    "varint",
]

Reader: TypeAlias = Callable[[bytes, int, Any, Sequence[Any]], int]

EXACT = Context(prec=40, traps=[Inexact, InvalidOperation, Overflow])
"""Arithmetic on decimals of up to 38 digits: it raises where it would round, whatever the thread's own context is."""

_SHIFTED = tuple(tuple((byte & 127) << 7 * place for byte in range(256)) for place in range(1, 10))
"""What a varint's second to tenth byte adds to its first."""
_UINT64 = 1 << 64
_INT32 = 1 << 31
_double = Struct("<d").unpack_from


class Unfit(InvalidPayload):
    """Bytes that decode, with a value that our schema has no place for. `values`: the columns read so far."""

    values: list[Any]


def varint(data: bytes, i: int) -> tuple[int, int]:
    """Read one long: its value and the next position."""
    byte = data[i]
    i += 1
    if byte < 128:
        return byte >> 1 ^ -(byte & 1), i
    raw = byte - 128
    for shifted in _SHIFTED:
        byte = data[i]
        i += 1
        raw += shifted[byte]
        if byte < 128:
            break
    if byte > 127 or raw >= _UINT64:
        raise DecodeError("a number has more than 64 bits")
    return raw >> 1 ^ -(raw & 1), i


def _longs(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
    for slot in slots:
        byte = data[i]
        i += 1
        if byte < 128:
            out[slot] = byte >> 1 ^ -(byte & 1)
            continue
        raw = byte - 128  # as in varint, in place: most longs are timestamps of six bytes
        for shifted in _SHIFTED:
            byte = data[i]
            i += 1
            raw += shifted[byte]
            if byte < 128:
                break
        if byte > 127 or raw >= _UINT64:
            raise DecodeError("a number has more than 64 bits")
        out[slot] = raw >> 1 ^ -(raw & 1)
    return i


def read_nullable_longs(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
    """Read longs that may be null, null being the first branch."""
    for slot in slots:
        branch = data[i]
        i += 1
        if branch == 0:
            out[slot] = None
        elif branch == 2:
            out[slot], i = varint(data, i)
        else:
            raise DecodeError(f"a union of two has no branch {branch >> 1}")
    return i


def _ints(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
    for slot in slots:
        byte = data[i]
        if byte < 128:
            out[slot] = byte >> 1 ^ -(byte & 1)
            i += 1
            continue
        value, i = varint(data, i)
        if not -_INT32 <= value < _INT32:
            raise DecodeError("an int has more than 32 bits")
        out[slot] = value
    return i


def read_strings(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
    """Read strings."""
    for slot in slots:
        length = data[i]
        i += 1
        if length > 127:
            length, i = varint(data, i - 1)
            length <<= 1
        if length & 1 or length < 0:
            raise DecodeError("a length is negative")
        end = i + (length >> 1)
        out[slot] = data[i:end].decode()
        i = end
    return i


def _bytes(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
    for slot in slots:
        length, i = varint(data, i)
        if length < 0:
            raise DecodeError("a length is negative")
        out[slot] = data[i : i + length]
        i += length
    return i


def _booleans(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
    for slot in slots:
        byte = data[i]
        if byte > 1:
            raise DecodeError(f"a boolean is {byte}")
        out[slot] = byte == 1
        i += 1
    return i


def _doubles(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
    for slot in slots:
        (out[slot],) = _double(data, i)
        i += 8
    return i


def read_nullable_strings(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
    """Read strings that may be null, null being the first branch: in place, as every record has several."""
    for slot in slots:
        branch = data[i]
        if branch == 0:
            out[slot] = None
            i += 1
            continue
        length = data[i + 1]
        i += 2
        if length > 127:
            length, i = varint(data, i - 1)
            length <<= 1
        if length & 1 or length < 0 or branch != 2:
            raise DecodeError("a length is negative" if branch == 2 else f"a union of two has no branch {branch >> 1}")
        end = i + (length >> 1)
        out[slot] = data[i:end].decode()
        i = end
    return i


READERS: dict[str, Reader] = {
    "boolean": _booleans,
    "int": _ints,
    "long": _longs,
    "double": _doubles,
    "string": read_strings,
    "bytes": _bytes,
}


@cache
def as_doubles(read: Reader) -> Reader:
    """Return a reader of whole numbers that gives floats."""

    def promote(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
        i = read(data, i, out, slots)
        for slot in slots:
            out[slot] = float(out[slot])
        return i

    return promote


@cache
def read_decimals(shape: Scalar) -> Reader:
    """Return a reader of decimals."""

    def read(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
        for slot in slots:
            length, i = varint(data, i)
            if length < 0:
                raise DecodeError("a length is negative")
            out[slot] = to_decimal(data[i : i + length], shape)
            i += length
        return i

    return read


def to_decimal(raw: bytes, shape: Scalar) -> Decimal:
    """Return the decimal in two's complement, big-endian. fastavro takes 300 bytes for a decimal(4, 2): not here."""
    unscaled = int.from_bytes(raw[:17], "big", signed=True)
    if not 0 < len(raw) <= 17 or abs(unscaled) >= 10**shape.precision:
        raise Unfit(f"{len(raw)} bytes are no {shape}")
    return Decimal(unscaled).scaleb(-shape.scale, EXACT)
