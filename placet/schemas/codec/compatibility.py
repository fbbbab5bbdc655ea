"""Do new contracts still read what old ones wrote, and the other way round?

    BACKWARD   the new schema reads what the old one wrote: inputs
    FULL       and the old schema reads what the new one writes: changelog, decisions, ledger

Each against all earlier versions, for a log keeps them all ("transitive", in a registry's words). Compared is what the
reader of this package does, and more: logical types, which fingerprints don't see, must be equal, as a field is never
given another type; a default that changed is told, as records that lack the field come out differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

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

__all__ = ["LEVELS", "Finding", "Level", "check", "check_all", "level_of"]


class Level(StrEnum):
    """Who must be able to read whom."""

    BACKWARD = "BACKWARD"
    FULL = "FULL"


LEVELS: dict[str, Level] = {"Signal": Level.BACKWARD, "Proposal": Level.BACKWARD}
"""By a record's own name; all others are FULL: they are read by whoever comes, as long as the log is kept."""

_WIDER = {("int", "long"), ("int", "double"), ("long", "double")}


class Finding(NamedTuple):
    """What stands between two schemas.

    Attributes:
        path: the column, with the record's full name in front and dots between.
        sentence: what is the matter, and what to do.
        breaks: whether records can't be read; otherwise it is good to know.
    """

    path: str
    sentence: str
    breaks: bool = True


def level_of(record: Record) -> Level:
    """Return what is asked of a contract."""
    return LEVELS.get(record.name.rpartition(".")[2], Level.FULL)


def check(old: Record, new: Record, level: Level) -> list[Finding]:
    """Compare two versions of one contract; nothing found means that they go together."""
    found = [*_readable(old, new, new.name, "was written"), *_defaults(old, new, new.name)]
    if level is Level.FULL:
        seen = {finding.path for finding in found if finding.breaks}
        back = _readable(new, old, new.name, "is written now")
        found += [finding for finding in back if finding.path not in seen]
    return list(dict.fromkeys(found))


def check_all(versions: Sequence[Mapping[str, Record]]) -> list[Finding]:
    """Compare the last of several versions with all before it, contract by contract.

    Args:
        versions: the contracts of each version by full name, oldest first.

    Raises:
        DecodeError: two versions have no contract in common, as those of two entity types.
    """
    *earlier, new = versions
    found: list[Finding] = []
    for old in earlier:
        if old and not old.keys() & new.keys():
            raise DecodeError(f"nothing in common: {', '.join(old)} and {', '.join(new)}")
        found += [
            Finding(name, "this contract is gone: records of it can't be read any more")
            for name in old.keys() - new.keys()
        ]
        for name in old.keys() & new.keys():
            found += check(old[name], new[name], level_of(new[name]))
    return sorted(dict.fromkeys(found))


def _readable(writer: Shape, reader: Shape, path: str, when: str) -> Iterator[Finding]:
    """Find what hinders a reader's schema to read a writer's. `when` says which of both is the older."""
    match writer, reader:
        case Nullable(value), Nullable(wanted):
            yield from _readable(value, wanted, path, when)
        case Nullable(value), _:
            yield Finding(path, f"null {when}, and {reader} has no place for it: an optional field stays optional")
            yield from _readable(value, reader, path, when)
        case _, Nullable(wanted):
            yield from _readable(writer, wanted, path, when)
        case Scalar(), Scalar():
            yield from _same_scalar(writer, reader, path, when)
        case ListOf(item), ListOf(wanted):
            yield from _readable(item, wanted, f"{path}[]", when)
        case MapOf(value), MapOf(wanted):
            yield from _readable(value, wanted, f"{path}{{}}", when)
        case Record(), Record():
            yield from _same_record(writer, reader, path, when)
        case Choice(), Choice():
            yield from _same_choice(writer, reader, path, when)
        case _:
            yield _retyped(writer, reader, path, when)


def _retyped(writer: Shape, reader: Shape, path: str, when: str) -> Finding:
    return Finding(
        path, f"{writer} {when}, and can't be read as {reader}: a field keeps its type, or gets another name"
    )


def _same_scalar(writer: Scalar, reader: Scalar, path: str, when: str) -> Iterator[Finding]:
    widened = (writer.type, reader.type) in _WIDER and not writer.logical and not reader.logical
    if writer != reader and not widened:
        yield _retyped(writer, reader, path, when)


def _same_record(writer: Record, reader: Record, path: str, when: str) -> Iterator[Finding]:
    if writer.name != reader.name:
        yield Finding(path, f"{writer.name} {when}, and can't be read as {reader.name}: a record keeps its name")
        return
    written = {column.name: column for column in writer.columns}
    for column in reader.columns:
        inner = f"{path}.{column.name}"
        if column.name in written:
            yield from _readable(written[column.name].shape, column.shape, inner, when)
        elif column.default is MISSING:
            yield Finding(inner, f"it is missing in what {when}, and has no default: give it one, or make it optional")


def _same_choice(writer: Choice, reader: Choice, path: str, when: str) -> Iterator[Finding]:
    wanted = {record.name: record for record in reader.records if record}
    for record in writer.records:
        if record is None:
            continue  # stands where there is nothing to choose yet: it was never written
        if record.name not in wanted:
            yield Finding(path, f"{record.name} {when}, and can't be read: keep the name until such records are gone")
        else:
            short = record.name.rpartition(".")[2]
            yield from _same_record(record, wanted[record.name], f"{path}.{short}", when)


def _defaults(old: Shape, new: Shape, path: str) -> Iterator[Finding]:
    """Find defaults that changed: no record becomes unreadable, but one that lacks the field reads differently."""
    match old, new:
        case Nullable(value), _:
            yield from _defaults(value, new, path)
        case _, Nullable(value):
            yield from _defaults(old, value, path)
        case ListOf(item), ListOf(other):
            yield from _defaults(item, other, path)
        case Record(_, columns), Record(_, others):
            yield from _column_defaults(columns, others, path)
        case Choice(records), Choice(others):
            news = {record.name: record for record in others if record}
            for record in records:
                if record and record.name in news:
                    yield from _defaults(record, news[record.name], f"{path}.{record.name.rpartition('.')[2]}")


def _column_defaults(olds: tuple[Column, ...], news: tuple[Column, ...], path: str) -> Iterator[Finding]:
    before = {column.name: column for column in olds}
    for column in news:
        old = before.get(column.name)
        if old is None:
            continue
        inner = f"{path}.{column.name}"
        if old.default != column.default and MISSING not in (old.default, column.default):
            sentence = f"its default was {old.default!r} and is {column.default!r}: older records read differently"
            yield Finding(inner, sentence, breaks=False)
        yield from _defaults(old.shape, column.shape, inner)
