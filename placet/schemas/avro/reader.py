"""Avro bytes to values, compiled from the writer's schema and ours: bounded, strict, and faster than fastavro.

A reader is a function `(bytes, position) -> (value, next position)`. That of a record is written out as source, one
column after the other, the commonest types in place: a call for each column was half of the time. So resolution costs
nothing: what the writer has and we don't is read and dropped, what it lacks stands there as our default.

What holds on any bytes: a reader takes at least one byte for each value, so no announced count outlives the bytes;
lengths and counts are never negative; a varint has at most 64 bits in 10 bytes. A reader may run beyond the end: then
it raises IndexError or struct.error, or returns a position past the end; `read_record` turns all of that into
DecodeError. Avro 1.12 specification, "Binary Encoding" and "Schema Resolution".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from struct import error as TornNumber  # noqa: N812  lower case in the standard library
from textwrap import indent
from typing import Any, NamedTuple

from placet.schemas.avro.scalar_readers import (
    IN_PLACE,
    READERS,
    Reader,
    Unfit,
    as_double,
    decimal_reader,
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

__all__ = ["Unresolvable", "default_of", "read_record"]


class _Piece(NamedTuple):
    """Source that reads `{v}` at `i` and moves `i` on, and the names in it."""

    source: str
    names: dict[str, Any]


class Unresolvable(DecodeError):
    """A writer's schema that can't be read as ours. Reaction: refuse what it wrote."""


def read_record(writer: Record, reader: Record, *, others: bool = False) -> Callable[[bytes, int], list[Any]]:
    """Compile a function that reads one record, up to the last byte, as values in the order of our columns.

    Args:
        writer: the schema that it is written with.
        reader: ours.
        others: where the columns are not the same, a pair follows the values: a dict of those columns that only the
            writer has, which are dropped else, and the names of those that only we have.

    Records inside become dicts; a choice becomes `(full record name, dict)`; decimals are `Decimal`s of the declared
    scale; timestamps stay int. The function raises DecodeError on any bytes that are no such record, and `Unfit`.

    Raises:
        Unresolvable: the writer's schema can't be read as ours.
    """
    return _compiled_reader(_Pair(writer, reader, others))


class _Pair:
    """A writer's schema and ours, as a key: schemas may hold defaults that have no hash."""

    __slots__ = ("others", "reader", "writer")

    def __init__(self, writer: Record, reader: Record, others: bool) -> None:  # noqa: FBT001 - private
        self.writer = writer
        self.reader = reader
        self.others = others

    def __hash__(self) -> int:
        names = (tuple(column.name for column in record.columns) for record in (self.writer, self.reader))
        return hash((self.writer.name, *names, self.others))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Pair) or self.others is not other.others:
            return False
        if self.writer is other.writer and self.reader is other.reader:
            return True  # as a rule: each text is parsed once
        return repr((self.writer, self.reader)) == repr(
            (other.writer, other.reader)
        )  # 1, 1.0 and True are not the same


@lru_cache(maxsize=256)
def _compiled_reader(pair: _Pair) -> Callable[[bytes, int], list[Any]]:
    """Compile once for all codecs of the same schemas: that is most of the time that a codec takes to be made."""
    read = _record(pair.writer, pair.reader, outermost=True, others=pair.others)

    def read_values(data: bytes, start: int) -> list[Any]:
        try:
            values, end = read(data, start)
        except (IndexError, TornNumber):
            raise DecodeError(f"the record is torn: {len(data) - start} bytes are too few") from None
        except UnicodeDecodeError as error:
            raise DecodeError(f"a string is no UTF-8: {error.reason}") from None
        if end != len(data):
            raise DecodeError(f"the record ends at byte {end - start}, the bytes at {len(data) - start}")
        return values  # type: ignore[no-any-return]  # the outermost is a list

    return read_values


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


def _record(writer: Record, reader: Record, *, outermost: bool = False, others: bool = False) -> Reader:
    """Compile the reading of a record: into a dict, or the outermost into a list in the order of our columns."""
    ours = {column.name: column.shape for column in reader.columns}
    found: dict[str, str] = {}
    names: dict[str, Any] = {}
    lines = []
    for index, (name, shape, *_) in enumerate(writer.columns):
        piece = _piece(shape, ours.get(name, shape), name, f"c{index}")
        found[name] = f"c{index}"
        names |= piece.names
        lines.append(piece.source.format(v=f"c{index}"))
    for index, column in enumerate(reader.columns):
        if column.name not in found:
            default = names[f"d{index}"] = default_of(column)
            found[column.name] = f"d{index}.copy()" if isinstance(default, list | dict) else f"d{index}"
    if outermost:
        values = [found[column.name] for column in reader.columns]
        theirs = [f"{name!r}: {local}" for name, local in found.items() if name not in ours]
        missing = tuple(name for name, local in found.items() if local.startswith("d"))
        values += [f"({{{', '.join(theirs)}}}, {missing!r})"] if others and (theirs or missing) else []
        lines.append(f"return [{', '.join(values)}], i\n")
        local = [found[column.name] for column in reader.columns]
        names |= {"Unfit": Unfit, "keep": lambda error, have: setattr(error, "values", [have.get(n) for n in local])}
        guarded = indent("".join(lines), "    ")
        lines = [f"try:\n{guarded}except Unfit as error:\n    keep(error, locals())\n    raise\n"]
    else:
        pairs = ", ".join(f"{column.name!r}: {found[column.name]}" for column in reader.columns)
        lines.append(f"return {{{pairs}}}, i\n")
    return _written_out("".join(lines), names)


def _written_out(body: str, names: dict[str, Any]) -> Reader:
    """Make a function of source. Names in it come from checked schemas only, as literals."""
    found: dict[str, Reader] = {}
    source = f"def read(data, i):\n{indent(body, '    ')}"
    # Compiled first: a Ctrl-C that meets an `exec` of text ends `python -m …` with -2, whoever handles it (CPython).
    exec(compile(source, "<a reader of Avro>", "exec"), names, found)  # noqa: S102
    return found["read"]


def _piece(writer: Shape, reader: Shape, path: str, tag: str) -> _Piece:
    """Compile the reading of one type as another; `tag` keeps its names apart from other columns'."""
    match writer, reader:
        case Nullable(value, null), Nullable(wanted):
            return _nullable(_piece(value, wanted, path, tag), null)
        case Nullable(value, null), _:
            maybe = _nullable(_piece(value, reader, path, tag), null)
            names = {f"null_{tag}": Unfit, f"why_{tag}": f"`{path}` is null: it was optional once"}
            never = f"if {{v}} is None:\n    raise null_{tag}(why_{tag})\n"
            return _Piece(maybe.source + never, maybe.names | names)
        case _, Nullable(wanted):
            return _piece(writer, wanted, path, tag)
        case Scalar(), Scalar():
            read = _scalar(writer, reader, path)
            return _Piece(*IN_PLACE[read]) if read in IN_PLACE else _call(read, tag)
        case ListOf(item), ListOf(wanted):
            return _call(_list(_function(_piece(item, wanted, path, tag))), tag)
        case MapOf(value), MapOf(wanted):
            return _call(_map(_function(_piece(value, wanted, path, tag))), tag)
        case Record(name), Record(wanted) if name == wanted:
            return _call(_record(writer, reader), tag)
        case Choice(), Choice():
            return _call(_choice(writer, reader), tag)
    raise Unresolvable(f"`{path}`: {writer} can't be read as {reader}")


def _call(read: Reader, tag: str) -> _Piece:
    return _Piece(f"{{v}}, i = read_{tag}(data, i)\n", {f"read_{tag}": read})


def _function(piece: _Piece) -> Reader:
    return _written_out(piece.source.format(v="v") + "return v, i\n", dict(piece.names))


def _scalar(writer: Scalar, reader: Scalar, path: str) -> Reader:
    if writer == reader:
        return decimal_reader(writer) if writer.logical == "decimal" else READERS[writer.type]
    decimal = "decimal" in (writer.logical, reader.logical)
    if reader.type == "double" and writer.type in ("int", "long") and not writer.logical:
        return as_double(READERS[writer.type])
    if decimal or (writer.type != reader.type and (writer.type, reader.type) != ("int", "long")):
        raise Unresolvable(f"`{path}`: {writer} can't be read as {reader}")
    return READERS[writer.type]


def _nullable(piece: _Piece, null: int) -> _Piece:
    nothing, something = null << 1, 2 - (null << 1)
    source = f"""\
branch = data[i]
i += 1
if branch == {nothing}:
    {{v}} = None
elif branch == {something}:
{indent(piece.source, "    ")}else:
    no_branch(branch)
"""
    return _Piece(source, piece.names | {"no_branch": _no_branch})


def _no_branch(branch: int) -> None:
    raise DecodeError(f"a union of two has no branch {branch >> 1}")


def _block(data: bytes, i: int) -> tuple[int, int]:
    """Read the count of an array's or map's next block, 0 at the end, and the next position."""
    count, i = varint(data, i)
    if count < 0:
        count = -count
        _, i = varint(data, i)  # the block's size in bytes: for those who skip it
    if count > len(data) - i:
        raise DecodeError(f"{count} items are announced in {len(data) - i} bytes")
    return count, i


def _list(read: Reader) -> Reader:
    def items(data: bytes, i: int) -> tuple[list[Any], int]:
        values: list[Any] = []
        count, i = _block(data, i)
        while count:
            for _ in range(count):
                value, i = read(data, i)
                values.append(value)
            count, i = _block(data, i)
        return values, i

    return items


def _map(read: Reader) -> Reader:
    read_key = READERS["string"]

    def pairs(data: bytes, i: int) -> tuple[dict[str, Any], int]:
        values: dict[str, Any] = {}
        count, i = _block(data, i)
        while count:
            for _ in range(count):
                key, i = read_key(data, i)
                values[key], i = read(data, i)
            count, i = _block(data, i)
        return values, i

    return pairs


def _choice(writer: Choice, reader: Choice) -> Reader:
    wanted = {record.name: record for record in reader.records if record}
    branches = [_branch(record, wanted) for record in writer.records]

    def choose(data: bytes, i: int) -> tuple[tuple[str, Any], int]:
        branch, i = varint(data, i)
        if not 0 <= branch < len(branches):
            raise DecodeError(f"a union of {len(branches)} has no branch {branch}")
        name, read = branches[branch]
        value, i = read(data, i)
        return (name, value), i

    return choose


def _branch(record: Record | None, wanted: dict[str, Record]) -> tuple[str, Reader]:
    """Compile one branch of a choice. One that can't be ours is read under a name that is none of ours."""
    if record is None:
        return "null", lambda _data, i: ({}, i)
    if record.name not in wanted:
        return record.name, _record(record, record)
    try:
        return record.name, _record(record, wanted[record.name])
    except Unresolvable as error:
        return f"{record.name} of another contract: {error}", _record(record, record)
