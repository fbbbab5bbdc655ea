"""Avro's scalars from bytes to values: strict and bounded.

A reader is a function `(bytes, position) -> (value, next position)`. On torn bytes it raises IndexError or
struct.error, or returns a position past the end; `reader.read_record` makes one error of all that. Avro 1.12
specification, "Binary Encoding".
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from struct import Struct
from typing import Any, TypeAlias

from placet.schemas.avro.schema import Scalar
from placet.schemas.errors import DecodeError, InvalidPayload

__all__ = ["EXACT", "IN_PLACE", "READERS", "Reader", "Unfit", "as_double", "decimal_reader", "to_decimal", "varint"]

Reader: TypeAlias = Callable[[bytes, int], tuple[Any, int]]

EXACT = Context(prec=40, traps=[Inexact, InvalidOperation, Overflow])
"""Arithmetic on decimals of up to 38 digits: it raises where it would round, whatever the thread's own context is."""

_SHIFTED = tuple(tuple((byte & 127) << 7 * place for byte in range(256)) for place in range(1, 10))
"""What a varint's second to tenth byte adds to its first."""
_UINT64 = 1 << 64
_INT32 = 1 << 31
_unpack_double = Struct("<d").unpack_from


class Unfit(InvalidPayload):
    """Bytes that decode, with a value that our schema has no place for. `values`: the columns read so far."""

    values: list[Any]


def varint(data: bytes, i: int) -> tuple[int, int]:
    """Read one long."""
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


def _int(data: bytes, i: int) -> tuple[int, int]:
    value, i = varint(data, i)
    if not -_INT32 <= value < _INT32:
        raise DecodeError("an int has more than 32 bits")
    return value, i


def _bytes(data: bytes, i: int) -> tuple[bytes, int]:
    length, i = varint(data, i)
    if length < 0:
        raise DecodeError("a length is negative")
    return data[i : i + length], i + length


def _string(data: bytes, i: int) -> tuple[str, int]:
    value, i = _bytes(data, i)
    return value.decode(), i


def _boolean(data: bytes, i: int) -> tuple[bool, int]:
    byte = data[i]
    if byte > 1:
        raise DecodeError(f"a boolean is {byte}")
    return byte == 1, i + 1


def _double(data: bytes, i: int) -> tuple[float, int]:
    return _unpack_double(data, i)[0], i + 8


READERS: dict[str, Reader] = {
    "boolean": _boolean,
    "int": _int,
    "long": varint,
    "double": _double,
    "string": _string,
    "bytes": _bytes,
}


_SMALL = tuple(byte >> 1 ^ -(byte & 1) if byte < 128 else None for byte in range(256))
"""A long of one byte; None for the first byte of a longer one."""
_SPAN = tuple((byte >> 1) + 1 if byte < 128 and byte & 1 == 0 else -1 for byte in range(256))
"""How many bytes a short string takes, with its length; -1 for all that takes a closer look."""

_LONG_IN_PLACE = """\
{v} = SMALL[data[i]]
if {v} is None:
    {v}, i = long(data, i)
else:
    i += 1
"""
_STRING_IN_PLACE = """\
end = i + SPAN[data[i]]
if end > i:
    {v} = data[i + 1 : end].decode()
    i = end
else:
    {v}, i = string(data, i)
"""
IN_PLACE: dict[Reader, tuple[str, dict[str, Any]]] = {
    varint: (_LONG_IN_PLACE, {"SMALL": _SMALL, "long": varint}),
    _string: (_STRING_IN_PLACE, {"SPAN": _SPAN, "string": _string}),
}
"""What the commonest readers do, as source that reads `{v}` at `i` and moves `i` on, and the names in it."""


def as_double(read: Reader) -> Reader:
    """Return a reader of a whole number that gives a float."""

    def promote(data: bytes, i: int) -> tuple[float, int]:
        value, i = read(data, i)
        return float(value), i

    return promote


def decimal_reader(shape: Scalar) -> Reader:
    """Return a reader of decimals."""

    def read(data: bytes, i: int) -> tuple[Decimal, int]:
        raw, i = _bytes(data, i)
        return to_decimal(raw, shape), i

    return read


def to_decimal(raw: bytes, shape: Scalar) -> Decimal:
    """Return the decimal in two's complement, big-endian. fastavro takes 300 bytes for a decimal(4, 2): not here."""
    unscaled = int.from_bytes(raw[:17], "big", signed=True)
    if not 0 < len(raw) <= 17 or abs(unscaled) >= 10**shape.precision:
        raise Unfit(f"{len(raw)} bytes are no {shape}")
    return Decimal(unscaled).scaleb(-shape.scale, EXACT)
