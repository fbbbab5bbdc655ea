"""Avro bytes to values: one reader for each pair of shapes, the writer's and ours. Bounded and strict.

What the writer has and we don't is read and dropped; what it lacks stands there as our default. All of that is settled
when a reader is made, so that a record is one walk over its bytes.

What holds on any bytes: a reader takes at least one byte for each value, so no announced count outlives the bytes;
lengths and counts are never negative; a varint has at most 64 bits in 10 bytes. A reader may run beyond the end: then
it raises IndexError or struct.error, or returns a position past the end; `RecordReader.values` turns all of that into
DecodeError. Avro 1.12 specification, "Binary Encoding" and "Schema Resolution".
"""

from __future__ import annotations

from struct import error as TornNumber  # noqa: N812  lower case in the standard library
from typing import Any, final

from placet.schemas.avro.scalar_readers import (
    READERS,
    DecimalReader,
    ShapeReader,
    Unfit,
    WholeAsDouble,
    read_text,
    to_decimal,
    varint,
)
from placet.schemas.avro.schema import (
    MISSING,
    Choice,
    Column,
    ListOf,
    MapOf,
    Nullable,
    Record,
    Scalar,
    Shape,
)
from placet.schemas.errors import DecodeError

__all__ = ["RecordReader", "Unresolvable", "default_of"]


class Unresolvable(DecodeError):
    """A writer's schema that can't be read as ours. Reaction: refuse what it wrote."""


@final
class RecordReader:
    """Reads whole records of a writer's schema as values in the order of our columns.

    Records inside become dicts; a choice becomes `(full record name, dict)`; decimals are `Decimal`s of the declared
    scale; timestamps stay int.

    Args:
        writer: the schema that they are written with.
        reader: ours.
        others: where the columns are not the same, a pair follows the values: a dict of those columns that only the
            writer has, which are dropped else, and the names of those that only we have.

    Raises:
        Unresolvable: the writer's schema can't be read as ours.
    """

    def __init__(self, writer: Record, reader: Record, *, others: bool = False) -> None:
        self._columns = _Columns(writer, reader)
        self._count = len(reader.columns)
        self._others = others and bool(self._columns.theirs or self._columns.missing)

    def values(self, data: bytes, start: int) -> list[Any]:
        """Return a record's values: it begins at `start`, and ends with the bytes.

        Raises:
            DecodeError: the bytes are no such record.
            Unfit: they are, with a value that ours has no place for.
        """
        try:
            values, end = self._columns.read(data, start)
        except (IndexError, TornNumber):
            raise DecodeError(f"the record is torn: {len(data) - start} bytes are too few") from None
        except UnicodeDecodeError as error:
            raise DecodeError(f"a string is no UTF-8: {error.reason}") from None
        if end != len(data):
            raise DecodeError(f"the record ends at byte {end - start}, the bytes at {len(data) - start}")
        if len(values) > self._count:
            theirs = values[self._count :]
            del values[self._count :]
            if self._others:
                values.append((dict(zip(self._columns.theirs, theirs, strict=True)), self._columns.missing))
        elif self._others:
            values.append(({}, self._columns.missing))
        return values


@final
class _Columns:
    """The columns of a record in the writer's order, each with its place among ours; those that we lack come behind.

    Attributes:
        theirs: names of the columns that only the writer has.
        missing: names of those that only we have.
    """

    def __init__(self, writer: Record, reader: Record) -> None:
        ours = {column.name: column.shape for column in reader.columns}
        written = {column.name for column in writer.columns}
        self.theirs = [column.name for column in writer.columns if column.name not in ours]
        self.missing = tuple(name for name in ours if name not in written)
        places = {name: place for place, name in enumerate([*ours, *self.theirs])}
        self._readers = [
            (places[name], _reader_of(shape, ours.get(name, shape), name)) for name, shape, *_ in writer.columns
        ]
        defaults = [None if column.name in written else default_of(column) for column in reader.columns]
        self._defaults: list[Any] = [*defaults, *[None for _ in self.theirs]]
        self._copied = [place for place, default in enumerate(defaults) if isinstance(default, list | dict)]

    def read(self, data: bytes, i: int) -> tuple[list[Any], int]:
        values = self._defaults.copy()
        for place in self._copied:
            values[place] = values[place].copy()
        try:
            for place, reader in self._readers:
                value, i = reader.read(data, i)
                values[place] = value
        except Unfit as error:
            error.values = values
            raise
        return values, i


def default_of(column: Column) -> Any:
    """Return a column's default as a value.

    Raises:
        Unresolvable: it has none.
    """
    default, shape = column.default, column.shape
    if default is MISSING:
        raise Unresolvable(f"`{column.name}` is missing and has no default")
    if isinstance(shape, Nullable):
        if default is None:
            return None
        shape = shape.value
    if isinstance(shape, Scalar) and shape.logical == "decimal":
        return to_decimal(str(default).encode("latin-1"), shape)
    if isinstance(shape, Scalar) and shape.type == "double":
        return float(default)
    return str(default).encode("latin-1") if shape == Scalar("bytes") else default


def _reader_of(writer: Shape, reader: Shape, path: str) -> ShapeReader:
    """Return the reader of one type as another."""
    match writer, reader:
        case Nullable(value, null), Nullable(wanted):
            return _NullableReader(_reader_of(value, wanted, path), null)
        case Nullable(value, null), _:
            return _NeverNull(_NullableReader(_reader_of(value, reader, path), null), path)
        case _, Nullable(wanted):
            return _reader_of(writer, wanted, path)
        case Scalar(), Scalar():
            return _scalar(writer, reader, path)
        case ListOf(item), ListOf(wanted):
            return _ListReader(_reader_of(item, wanted, path))
        case MapOf(value), MapOf(wanted):
            return _MapReader(_reader_of(value, wanted, path))
        case Record(name), Record(wanted) if name == wanted:
            return _DictReader(writer, reader)
        case Choice(), Choice():
            return _ChoiceReader(writer, reader)
    raise Unresolvable(f"`{path}`: {writer} can't be read as {reader}")


def _scalar(writer: Scalar, reader: Scalar, path: str) -> ShapeReader:
    if writer == reader:
        return DecimalReader(writer) if writer.logical == "decimal" else READERS[writer.type]
    decimal = "decimal" in (writer.logical, reader.logical)
    if reader.type == "double" and writer.type in ("int", "long") and not writer.logical:
        return WholeAsDouble(READERS[writer.type])
    if decimal or (writer.type != reader.type and (writer.type, reader.type) != ("int", "long")):
        raise Unresolvable(f"`{path}`: {writer} can't be read as {reader}")
    return READERS[writer.type]


@final
class _DictReader(ShapeReader):
    """Reads a record inside another as a dict of our columns."""

    def __init__(self, writer: Record, reader: Record) -> None:
        self._columns = _Columns(writer, reader)
        self._names = [column.name for column in reader.columns]

    def read(self, data: bytes, i: int) -> tuple[Any, int]:
        values, i = self._columns.read(data, i)
        found: dict[str, Any] = {}
        for place, name in enumerate(self._names):
            found[name] = values[place]
        return found, i


@final
class _NullableReader(ShapeReader):
    def __init__(self, inner: ShapeReader, null: int) -> None:
        self._inner = inner
        self._nothing = null << 1
        self._something = 2 - (null << 1)

    def read(self, data: bytes, i: int) -> tuple[Any, int]:
        branch = data[i]
        i += 1
        if branch == self._nothing:
            return None, i
        if branch != self._something:
            raise DecodeError(f"a union of two has no branch {branch >> 1}")
        return self._inner.read(data, i)


@final
class _NeverNull(ShapeReader):
    """Reads what the writer may leave out and we may not."""

    def __init__(self, inner: ShapeReader, path: str) -> None:
        self._inner = inner
        self._path = path

    def read(self, data: bytes, i: int) -> tuple[Any, int]:
        value, i = self._inner.read(data, i)
        if value is None:
            raise Unfit(f"`{self._path}` is null: it was optional once")
        return value, i


def _block(data: bytes, i: int) -> tuple[int, int]:
    """Read the count of an array's or map's next block, 0 at the end, and the next position."""
    count, i = varint(data, i)
    if count < 0:
        count = -count
        _, i = varint(data, i)  # the block's size in bytes: for those who skip it
    if count > len(data) - i:
        raise DecodeError(f"{count} items are announced in {len(data) - i} bytes")
    return count, i


@final
class _ListReader(ShapeReader):
    def __init__(self, item: ShapeReader) -> None:
        self._item = item

    def read(self, data: bytes, i: int) -> tuple[Any, int]:
        values: list[Any] = []
        count, i = _block(data, i)
        while count:
            for _ in range(count):
                value, i = self._item.read(data, i)
                values.append(value)
            count, i = _block(data, i)
        return values, i


@final
class _MapReader(ShapeReader):
    def __init__(self, item: ShapeReader) -> None:
        self._item = item

    def read(self, data: bytes, i: int) -> tuple[Any, int]:
        values: dict[str, Any] = {}
        count, i = _block(data, i)
        while count:
            for _ in range(count):
                key, i = read_text(data, i)
                values[key], i = self._item.read(data, i)
            count, i = _block(data, i)
        return values, i


@final
class _Nothing(ShapeReader):
    """Reads null where a record is expected: an empty one."""

    def read(self, data: bytes, i: int) -> tuple[Any, int]:  # noqa: ARG002 - as all readers
        return {}, i


@final
class _ChoiceReader(ShapeReader):
    def __init__(self, writer: Choice, reader: Choice) -> None:
        wanted = {record.name: record for record in reader.records if record}
        self._branches = [_branch(record, wanted) for record in writer.records]

    def read(self, data: bytes, i: int) -> tuple[Any, int]:
        branch, i = varint(data, i)
        if not 0 <= branch < len(self._branches):
            raise DecodeError(f"a union of {len(self._branches)} has no branch {branch}")
        name, reader = self._branches[branch]
        value, i = reader.read(data, i)
        return (name, value), i


def _branch(record: Record | None, wanted: dict[str, Record]) -> tuple[str, ShapeReader]:
    """Return the reader of one branch of a choice. One that can't be ours is read under a name that is none of ours."""
    if record is None:
        return "null", _Nothing()
    if record.name not in wanted:
        return record.name, _DictReader(record, record)
    try:
        return record.name, _DictReader(record, wanted[record.name])
    except Unresolvable as error:
        return f"{record.name} of another contract: {error}", _DictReader(record, record)
