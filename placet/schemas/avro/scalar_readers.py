"""Avro's scalars from bytes to values: strict and bounded.

A reader takes bytes and a position, and returns a value and the next position. On torn bytes it raises IndexError or
struct.error, or returns a position past the end; `reader.RecordReader` makes one error of all that. Avro 1.12
specification, "Binary Encoding".
"""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from struct import Struct
from typing import Any, Final, final

from placet.schemas.avro.schema import Scalar
from placet.schemas.errors import DecodeError, InvalidPayload

__all__ = [
    "EXACT",
    "READERS",
    "DecimalReader",
    "ShapeReader",
    "Unfit",
    "WholeAsDouble",
    "read_text",
    "to_decimal",
    "varint",
]

EXACT: Final = Context(prec=40, traps=[Inexact, InvalidOperation, Overflow])
"""Arithmetic on decimals of up to 38 digits: it raises where it would round, whatever the thread's own context is."""

_SHIFTED: Final = tuple(tuple((byte & 127) << 7 * place for byte in range(256)) for place in range(1, 10))
"""What a varint's second to tenth byte adds to its first."""
_UINT64: Final = 1 << 64
_INT32: Final = 1 << 31
_unpack_double: Final = Struct("<d").unpack_from


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


def read_text(data: bytes, i: int) -> tuple[str, int]:
    """Read one string."""
    length, i = varint(data, i)
    if length < 0:
        raise DecodeError("a length is negative")
    end = i + length
    return data[i:end].decode(), end


class ShapeReader:
    """Reads values of one shape."""

    def read(self, data: bytes, i: int) -> tuple[Any, int]:
        """Return the value at a position, and the next position.

        Raises:
            IndexError, struct.error: the bytes end before.
            DecodeError: they are no such value.
        """
        raise NotImplementedError


@final
class _LongReader(ShapeReader):
    def read(self, data: bytes, i: int) -> tuple[Any, int]:
        byte = data[i]
        if byte < 128:  # as `varint` does, without the call
            return byte >> 1 ^ -(byte & 1), i + 1
        return varint(data, i)


@final
class _IntReader(ShapeReader):
    def read(self, data: bytes, i: int) -> tuple[Any, int]:
        value, i = varint(data, i)
        if not -_INT32 <= value < _INT32:
            raise DecodeError("an int has more than 32 bits")
        return value, i


@final
class _BytesReader(ShapeReader):
    def read(self, data: bytes, i: int) -> tuple[Any, int]:
        length, i = varint(data, i)
        if length < 0:
            raise DecodeError("a length is negative")
        return data[i : i + length], i + length


@final
class _StringReader(ShapeReader):
    def read(self, data: bytes, i: int) -> tuple[Any, int]:
        byte = data[i]
        if byte < 128 and not byte & 1:  # as `read_text` does, without the calls
            i += 1
            end = i + (byte >> 1)
            return data[i:end].decode(), end
        return read_text(data, i)


@final
class _BooleanReader(ShapeReader):
    def read(self, data: bytes, i: int) -> tuple[Any, int]:
        byte = data[i]
        if byte > 1:
            raise DecodeError(f"a boolean is {byte}")
        return byte == 1, i + 1


@final
class _DoubleReader(ShapeReader):
    def read(self, data: bytes, i: int) -> tuple[Any, int]:
        return _unpack_double(data, i)[0], i + 8


READERS: Final[dict[str, ShapeReader]] = {
    "boolean": _BooleanReader(),
    "int": _IntReader(),
    "long": _LongReader(),
    "double": _DoubleReader(),
    "string": _StringReader(),
    "bytes": _BytesReader(),
}


@final
class WholeAsDouble(ShapeReader):
    """Reads a whole number as a float."""

    def __init__(self, whole: ShapeReader) -> None:
        self._whole = whole

    def read(self, data: bytes, i: int) -> tuple[Any, int]:
        """Return the float."""
        value, i = self._whole.read(data, i)
        return float(value), i


@final
class DecimalReader(ShapeReader):
    """Reads decimals."""

    def __init__(self, shape: Scalar) -> None:
        self._shape = shape

    def read(self, data: bytes, i: int) -> tuple[Any, int]:
        """Return the decimal.

        Raises:
            Unfit: the bytes are none of this precision.
        """
        length, i = varint(data, i)
        if length < 0:
            raise DecodeError("a length is negative")
        return to_decimal(data[i : i + length], self._shape), i + length


def to_decimal(raw: bytes, shape: Scalar) -> Decimal:
    """Return the decimal in two's complement, big-endian. fastavro takes 300 bytes for a decimal(4, 2): not here."""
    unscaled = int.from_bytes(raw[:17], "big", signed=True)
    if not 0 < len(raw) <= 17 or abs(unscaled) >= 10**shape.precision:
        raise Unfit(f"{len(raw)} bytes are no {shape}")
    return Decimal(unscaled).scaleb(-shape.scale, EXACT)
