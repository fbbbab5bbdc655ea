"""Values to Avro bytes: one writer for each shape of a schema.

A writer adds the bytes of a value to `out`, whose parts are joined once for each record: an Avro record is nothing but
its columns' bytes in order. Writers trust their values, which were checked against the definition before; an int out
of range or a decimal with too many digits raises ValueError all the same. Maps are written in the order of their keys:
equal values, equal bytes. Avro 1.12 specification, "Binary Encoding".
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from struct import Struct
from typing import Any, Final, TypeAlias, final

from placet.schemas.avro.scalar_readers import EXACT
from placet.schemas.avro.schema import Choice, ListOf, MapOf, Nullable, Record, Scalar, Shape

__all__ = [
    "AttributesWriter",
    "Out",
    "RecordWriter",
    "RepeatedLong",
    "ShapeWriter",
    "encoded_long",
    "encoded_string",
    "write_boolean",
    "write_bytes",
    "write_long",
    "write_string",
    "writer_of",
]

Out: TypeAlias = list[bytes]
"""The parts of a record that were written so far."""

_ENDS: Final = [bytes([raw]) if raw < 128 else bytes([raw & 127 | 128, raw >> 7]) for raw in range(1 << 14)]
"""Varints of one or two bytes, by their raw value."""
_GOES_ON: Final = [bytes([raw & 127 | 128, raw >> 7 | 128]) for raw in range(1 << 14)]
"""Two bytes of a longer varint, by the 14 bits that they hold."""
_TRUE: Final = b"\x01"
_FALSE: Final = b"\x00"
_EMPTY: Final = b"\x00"
_INT_MAX: Final = 1 << 31
_pack_double: Final = Struct("<d").pack


def write_long(out: Out, value: int) -> None:
    """Write an int or a long: zigzag, then seven bits a byte.

    Raises:
        ValueError: it has more than 64 bits.
    """
    raw = value << 1 ^ value >> 63
    if raw > 16383:
        if raw >> 64:
            raise ValueError(f"{value} has more than 64 bits")
        while raw > 16383:
            out.append(_GOES_ON[raw & 16383])
            raw >>= 14
    out.append(_ENDS[raw])


def write_bytes(out: Out, value: bytes) -> None:
    """Write bytes as their length and themselves."""
    length = len(value)
    if length < 8192:
        out.append(_ENDS[length << 1])
    else:
        write_long(out, length)
    out.append(value)


def write_string(out: Out, value: str) -> None:
    """Write a string as its length in bytes and its UTF-8.

    Raises:
        UnicodeEncodeError: it holds half a surrogate pair.
    """
    data = value.encode()
    length = len(data)
    if length < 8192:  # as `write_bytes` does, without the call
        out.append(_ENDS[length << 1])
    else:
        write_long(out, length)
    out.append(data)


def write_boolean(out: Out, value: bool) -> None:  # noqa: FBT001  it is the value
    """Write a boolean."""
    out.append(_TRUE if value else _FALSE)


def encoded_long(value: int) -> bytes:
    """Return an int's or a long's bytes, for what is written again and again."""
    out: Out = []
    write_long(out, value)
    return b"".join(out)


@final
class RepeatedLong:
    """Writes a long that is the same as the one before it more often than not, such as a time."""

    def __init__(self) -> None:
        self._value = 0
        self._encoded = encoded_long(0)

    def write(self, out: Out, value: int) -> None:
        """Add a value's bytes."""
        if value != self._value:
            self._value, self._encoded = value, encoded_long(value)
        out.append(self._encoded)


def encoded_string(value: str) -> bytes:
    """Return a string's bytes, for what is written again and again."""
    out: Out = []
    write_string(out, value)
    return b"".join(out)


class ShapeWriter:
    """Writes values of one shape."""

    def write(self, out: Out, value: Any) -> None:
        """Add a value's bytes.

        Raises:
            ValueError: the value is out of the shape's range.
        """
        raise NotImplementedError

    def encoded(self, value: Any) -> bytes:
        """Return a value's bytes."""
        out: Out = []
        self.write(out, value)
        return b"".join(out)


def writer_of(shape: Shape, record: Callable[[Record], ShapeWriter] | None = None) -> ShapeWriter:
    """Return the writer of a shape.

    Args:
        shape: the type.
        record: makes the writers of the records inside; they are dicts unless given, and a choice is
            `(full name, dict)`.
    """
    record = record or RecordWriter
    match shape:
        case Scalar(logical="decimal"):
            return _DecimalWriter(shape)
        case Scalar():
            return _SCALARS[shape.type]
        case Nullable(value, null):
            return _NullableWriter(writer_of(value, record), null)
        case ListOf(item):
            return _ListWriter(writer_of(item, record))
        case MapOf(value):
            return _MapWriter(writer_of(value, record))
        case Record():
            return record(shape)
        case Choice(records):
            return _ChoiceWriter(records, record)


@final
class RecordWriter(ShapeWriter):
    """Writes a record from a dict with a value for each column."""

    def __init__(self, record: Record) -> None:
        self._columns = [(column.name, writer_of(column.shape)) for column in record.columns]

    def write(self, out: Out, value: Any) -> None:
        """Write the columns in order."""
        values: dict[str, Any] = value
        for name, writer in self._columns:
            writer.write(out, values[name])

    def write_known(self, out: Out, values: dict[str, Any]) -> None:
        """Write the columns in order; what the dict does not have is None."""
        for name, writer in self._columns:
            writer.write(out, values.get(name))


@final
class AttributesWriter(ShapeWriter):
    """Writes a record from an object with an attribute for each column; so are records inside."""

    def __init__(self, record: Record) -> None:
        self._columns = [(column.name, writer_of(column.shape, AttributesWriter)) for column in record.columns]

    def write(self, out: Out, value: Any) -> None:
        """Write the columns in order."""
        for name, writer in self._columns:
            writer.write(out, getattr(value, name))


@final
class _LongWriter(ShapeWriter):
    def write(self, out: Out, value: Any) -> None:
        write_long(out, value)


@final
class _IntWriter(ShapeWriter):
    def write(self, out: Out, value: Any) -> None:
        number: int = value
        if not -_INT_MAX <= number < _INT_MAX:
            raise ValueError(f"{number} has more than 32 bits")
        write_long(out, number)


@final
class _StringWriter(ShapeWriter):
    def write(self, out: Out, value: Any) -> None:
        write_string(out, value)


@final
class _BytesWriter(ShapeWriter):
    def write(self, out: Out, value: Any) -> None:
        write_bytes(out, value)


@final
class _BooleanWriter(ShapeWriter):
    def write(self, out: Out, value: Any) -> None:
        write_boolean(out, value)


@final
class _DoubleWriter(ShapeWriter):
    def write(self, out: Out, value: Any) -> None:
        out.append(_pack_double(value))


_SCALARS: Final[dict[str, ShapeWriter]] = {
    "boolean": _BooleanWriter(),
    "int": _IntWriter(),
    "long": _LongWriter(),
    "double": _DoubleWriter(),
    "string": _StringWriter(),
    "bytes": _BytesWriter(),
}


@final
class _DecimalWriter(ShapeWriter):
    def __init__(self, shape: Scalar) -> None:
        self._shape = shape
        self._scale = shape.scale
        self._limit = 10**shape.precision

    def write(self, out: Out, value: Any) -> None:
        number: Decimal = value
        try:
            scaled = number.scaleb(self._scale, EXACT)
            unscaled = int(scaled)
        except ArithmeticError:
            raise ValueError(f"{number} is no {self._shape}") from None
        if unscaled != scaled or abs(unscaled) >= self._limit:
            raise ValueError(f"{number} is no {self._shape}")
        size = (unscaled + (unscaled < 0)).bit_length() // 8 + 1  # the shortest two's complement, as Java writes it
        write_bytes(out, unscaled.to_bytes(size, "big", signed=True))


@final
class _NullableWriter(ShapeWriter):
    def __init__(self, inner: ShapeWriter, null: int) -> None:
        self._inner = inner
        self._nothing = encoded_long(null)
        self._something = encoded_long(1 - null)

    def write(self, out: Out, value: Any) -> None:
        if value is None:
            out.append(self._nothing)
        else:
            out.append(self._something)
            self._inner.write(out, value)


@final
class _ListWriter(ShapeWriter):
    def __init__(self, item: ShapeWriter) -> None:
        self._item = item

    def write(self, out: Out, value: Any) -> None:
        if value:
            write_long(out, len(value))
            for item in value:
                self._item.write(out, item)
        out.append(_EMPTY)


@final
class _MapWriter(ShapeWriter):
    def __init__(self, item: ShapeWriter) -> None:
        self._item = item

    def write(self, out: Out, value: Any) -> None:
        if value:
            values: dict[str, Any] = value
            write_long(out, len(values))
            for key in sorted(values):
                write_string(out, key)
                self._item.write(out, values[key])
        out.append(_EMPTY)


@final
class _ChoiceWriter(ShapeWriter):
    def __init__(self, records: tuple[Record | None, ...], record: Callable[[Record], ShapeWriter]) -> None:
        self._heads: dict[str, bytes] = {}
        self._writers: dict[str, ShapeWriter] = {}
        for index, one in enumerate(records):
            if one is not None:
                self._heads[one.name] = encoded_long(index)
                self._writers[one.name] = record(one)

    def write(self, out: Out, value: Any) -> None:
        name: str = value[0]
        out.append(self._heads[name])
        self._writers[name].write(out, value[1])
