"""Avro bytes to values, compiled from the writer's schema and ours: bounded, strict, and faster than fastavro.

A reader is a function `(bytes, position, out, slots) -> next position`: it reads one value for each slot into
`out[slot]`. So a run of columns of one type is read in one call, into a list or a dict, and resolution costs little:
what the writer has and we don't goes into a spare slot, what it lacks is filled in from our defaults.

What holds on any bytes: a reader takes at least one byte for each value, so no announced count outlives the bytes;
lengths and counts are never negative; a varint has at most 64 bits in 10 bytes. A reader may run beyond the end: then
it raises IndexError or struct.error, or returns a position past the end; `read_record` turns all of that into
DecodeError. Avro 1.12 specification, "Binary Encoding" and "Schema Resolution".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from struct import error as TornNumber  # noqa: N812  lower case in the standard library
from typing import Any, NamedTuple

from placet.schemas.avro_scalars import (
    READERS,
    Reader,
    Unfit,
    as_doubles,
    read_decimals,
    read_nullable_longs,
    read_nullable_strings,
    read_strings,
    to_decimal,
    varint,
)
from placet.schemas.avro_shapes import (
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

__all__ = ["Unresolvable", "default_of", "read_record"]


class Plan(NamedTuple):
    """How a record's columns are read: which reader into which slots, in order; and what is to be set right after it.

    `finish` fills in the columns that the writer lacks, and drops what only the writer has; None where both agree.
    """

    steps: tuple[tuple[Reader, tuple[Any, ...]], ...]
    finish: Callable[[Any], None] | None


class Unresolvable(DecodeError):
    """A writer's schema that can't be read as ours. Reaction: refuse what it wrote."""


def read_record(writer: Record, reader: Record) -> Callable[[bytes, int], list[Any]]:
    """Compile a function that reads one record, up to the last byte, as values in the order of our columns.

    Records inside become dicts; a choice becomes `(full record name, dict)`; decimals are `Decimal`s of the declared
    scale; timestamps stay int. The function raises DecodeError on any bytes that are no such record, and `Unfit`.

    Raises:
        Unresolvable: the writer's schema can't be read as ours.
    """
    steps, finish = _plan(writer, reader, range(len(reader.columns)))
    template = [None] * (len(reader.columns) + 1)  # the last is the spare slot

    def read_values(data: bytes, start: int) -> list[Any]:
        values, end = template.copy(), start
        try:
            for read, into in steps:
                end = read(data, end, values, into)
        except (IndexError, TornNumber):
            raise DecodeError(f"the record is torn: {len(data) - start} bytes are too few") from None
        except UnicodeDecodeError as error:
            raise DecodeError(f"a string is no UTF-8: {error.reason}") from None
        except Unfit as error:
            error.values = values
            raise
        if end != len(data):
            raise DecodeError(f"the record ends at byte {end - start}, the bytes at {len(data) - start}")
        if finish:
            finish(values)
        return values

    return read_values


def _plan(writer: Record, reader: Record, slots: Sequence[Any]) -> Plan:
    """Compile the reading of a record's columns into `slots`, one for each of our columns."""
    ours = {column.name: (slot, column.shape) for slot, column in zip(slots, reader.columns, strict=True)}
    spare = len(slots)
    steps: list[tuple[Reader, list[Any]]] = []
    for column in writer.columns:
        slot, shape = ours.pop(column.name, (spare, column.shape))
        read = _reader(column.shape, shape, column.name)
        if steps and steps[-1][0] is read:
            steps[-1][1].append(slot)
        else:
            steps.append((read, [slot]))
    defaults = tuple((ours[c.name][0], default_of(c)) for c in reader.columns if c.name in ours)

    def finish(out: Any) -> None:
        for slot, value in defaults:
            out[slot] = value.copy() if isinstance(value, list | dict) else value
        if isinstance(out, dict):
            out.pop(spare, None)

    agreed = len(writer.columns) == len(reader.columns) and not defaults
    return Plan(tuple((read, tuple(into)) for read, into in steps), None if agreed else finish)


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


def _reader(writer: Shape, reader: Shape, path: str) -> Reader:
    """Compile the reading of one type as another."""
    match writer, reader:
        case Nullable(value, null), Nullable(wanted):
            return _nullables(_reader(value, wanted, path), null)
        case Nullable(value, null), _:
            return _never_null(_reader(value, reader, path), null, path)
        case _, Nullable(wanted):
            return _reader(writer, wanted, path)
        case Scalar(), Scalar():
            return _scalars(writer, reader, path)
        case ListOf(item), ListOf(wanted):
            return _lists(_reader(item, wanted, path))
        case MapOf(value), MapOf(wanted):
            return _maps(_reader(value, wanted, path))
        case Record(name), Record(wanted) if name == wanted:
            return _records(_plan(writer, reader, [column.name for column in reader.columns]))
        case Choice(), Choice():
            return _choices(writer, reader)
    raise Unresolvable(f"`{path}`: {writer} can't be read as {reader}")


def _scalars(writer: Scalar, reader: Scalar, path: str) -> Reader:
    if writer == reader:
        return read_decimals(writer) if writer.logical == "decimal" else READERS[writer.type]
    decimal = "decimal" in (writer.logical, reader.logical)
    if reader.type == "double" and writer.type in ("int", "long") and not writer.logical:
        return as_doubles(READERS[writer.type])
    if decimal or (writer.type != reader.type and (writer.type, reader.type) != ("int", "long")):
        raise Unresolvable(f"`{path}`: {writer} can't be read as {reader}")
    return READERS[writer.type]


_NULLABLES = {READERS["string"]: read_nullable_strings, READERS["long"]: read_nullable_longs}
"""Those written out, as every record has several."""


@cache
def _nullables(read: Reader, null: int) -> Reader:
    if null == 0 and read in _NULLABLES:
        return _NULLABLES[read]
    nothing, something = null << 1, 2 - (null << 1)

    def maybe(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
        for slot in slots:
            branch = data[i]
            i += 1
            if branch == nothing:
                out[slot] = None
            elif branch == something:
                i = read(data, i, out, (slot,))
            else:
                raise DecodeError(f"a union of two has no branch {branch}")
        return i

    return maybe


def _never_null(read: Reader, null: int, path: str) -> Reader:
    maybe = _nullables(read, null)

    def always(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
        i = maybe(data, i, out, slots)
        if any(out[slot] is None for slot in slots):
            raise Unfit(f"`{path}` is null: it was optional once")
        return i

    return always


def _blocks(data: bytes, i: int) -> tuple[int, int]:
    """Read the count of an array's or map's next block, 0 at the end, and the next position."""
    count, i = varint(data, i)
    if count < 0:
        count = -count
        _, i = varint(data, i)  # the block's size in bytes: for those who skip it
    if count > len(data) - i:
        raise DecodeError(f"{count} items are announced in {len(data) - i} bytes")
    return count, i


def _lists(read: Reader) -> Reader:
    def lists(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
        for slot in slots:
            items: list[Any] = []
            out[slot] = items
            if data[i] == 0:
                i += 1
                continue
            count, i = _blocks(data, i)
            while count:
                start = len(items)
                items.extend([None] * count)
                i = read(data, i, items, range(start, start + count))
                count, i = _blocks(data, i)
        return i

    return lists


def _maps(read: Reader) -> Reader:
    def maps(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
        for slot in slots:
            values: dict[str, Any] = {}
            out[slot] = values
            if data[i] == 0:
                i += 1
                continue
            key: list[str] = [""]
            count, i = _blocks(data, i)
            while count:
                for _ in range(count):
                    i = read_strings(data, i, key, (0,))
                    i = read(data, i, values, key)
                count, i = _blocks(data, i)
        return i

    return maps


def _records(plan: Plan) -> Reader:
    steps, finish = plan

    def records(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
        for slot in slots:
            values: dict[str, Any] = {}
            out[slot] = values
            for read, into in steps:
                i = read(data, i, values, into)
            if finish:
                finish(values)
        return i

    return records


def _choices(writer: Choice, reader: Choice) -> Reader:
    wanted = {record.name: record for record in reader.records if record}
    branches = [_branch(record, wanted) for record in writer.records]

    def choose(data: bytes, i: int, out: Any, slots: Sequence[Any]) -> int:
        for slot in slots:
            branch, i = varint(data, i) if data[i] > 127 else (data[i] >> 1 ^ -(data[i] & 1), i + 1)
            if not 0 <= branch < len(branches):
                raise DecodeError(f"a union of {len(branches)} has no branch {branch}")
            name, (steps, finish) = branches[branch]
            values: dict[str, Any] = {}
            for read, into in steps:
                i = read(data, i, values, into)
            if finish:
                finish(values)
            out[slot] = (name, values)
        return i

    return choose


def _branch(record: Record | None, wanted: dict[str, Record]) -> tuple[str, Plan]:
    """Compile one branch of a choice. One that can't be ours is read under a name that is none of ours."""
    if record is None:
        return "null", Plan((), None)
    names = [column.name for column in record.columns]
    if record.name not in wanted:
        return record.name, _plan(record, record, names)
    ours = wanted[record.name]
    try:
        return record.name, _plan(record, ours, [column.name for column in ours.columns])
    except Unresolvable as error:
        return f"{record.name} of another contract: {error}", _plan(record, record, names)
