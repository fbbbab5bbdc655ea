"""Avro schemas, parsed into the few shapes that Placet uses. What does not parse is refused before a byte is read.

    Record ─ Column ─┬─ Scalar     string int long double boolean bytes, timestamp-millis, decimal
                     ├─ Nullable   ["null", T] or [T, "null"]
                     ├─ ListOf     array of scalars or of records
                     ├─ MapOf      map of scalars, string keys
                     ├─ Record     in place, never by reference: so no schema is recursive
                     └─ Choice     a union of records, such as one payload for each name

Hostile bytes can end a process that trusts a schema (5,000 bytes against a recursive one; 7 bytes that announce 10^9
items of no size): here nothing recurses, nesting is bounded, and every item of an array or map has at least one byte.
Avro 1.12 specification, "Schema Declaration"; fastavro does the canonical form and the fingerprint.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from fastavro import schema as avro

from placet.schemas.errors import DecodeError

__all__ = [
    "MISSING",
    "Choice",
    "Column",
    "ListOf",
    "MapOf",
    "Nullable",
    "Record",
    "Scalar",
    "Shape",
    "as_text",
    "fingerprint",
    "parse_schema",
    "without_defaults",
]

SCHEMA_BYTES_MAX: Final = 1 << 20
NESTING_MAX: Final = 6
"""Deepest nesting of records, arrays and unions. Ours need four."""


class _Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""The default of a column that has none."""


class Scalar(NamedTuple):
    """A value without parts. `logical` is "", "timestamp-millis" or "decimal"."""

    type: str
    logical: str = ""
    precision: int = 0
    scale: int = 0

    def __str__(self) -> str:
        details = f"({self.precision}, {self.scale})" if self.logical == "decimal" else ""
        return f"{self.logical or self.type}{details}"


class Nullable(NamedTuple):
    """A value or null. `null` is the branch that stands for null: 0 or 1."""

    value: Shape
    null: int = 0

    def __str__(self) -> str:
        return f"{self.value} | null"


class ListOf(NamedTuple):
    """An array."""

    item: Shape

    def __str__(self) -> str:
        return f"array of {self.item}"


class MapOf(NamedTuple):
    """A map with string keys."""

    value: Shape

    def __str__(self) -> str:
        return f"map of {self.value}"


class Column(NamedTuple):
    """A record's field. `default` is the JSON of the schema, or MISSING."""

    name: str
    shape: Shape
    default: Any = MISSING


class Record(NamedTuple):
    """A record: its full name, dots included, and its columns in order."""

    name: str
    columns: tuple[Column, ...]

    def __str__(self) -> str:
        return f"record {self.name}"


class Choice(NamedTuple):
    """A union of records. None stands for null, where nothing can be chosen yet."""

    records: tuple[Record | None, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(record.name if record else 'null' for record in self.records)}"


Shape: TypeAlias = Scalar | Nullable | ListOf | MapOf | Record | Choice

_SCALARS: dict[str, frozenset[str]] = {
    "boolean": frozenset({""}),
    "int": frozenset({""}),
    "long": frozenset({"", "timestamp-millis"}),
    "double": frozenset({""}),
    "string": frozenset({""}),
    "bytes": frozenset({"", "decimal"}),
}
"""Which logical types a primitive may carry."""


def parse_schema(schema: object) -> Record:
    """Return a schema, given as JSON text or as parsed JSON, as a record of known shapes.

    Raises:
        DecodeError: it is no Avro schema, or none of the shapes that Placet reads.
    """
    if isinstance(schema, str) and len(schema) > SCHEMA_BYTES_MAX:
        raise DecodeError(f"the schema has {len(schema)} characters; at most {SCHEMA_BYTES_MAX}")
    return _parsed(as_text(schema))


def as_text(schema: object) -> str:
    """Return a schema as JSON text; one that is text already, as it is.

    Raises:
        DecodeError: it is no JSON.
    """
    if isinstance(schema, str):
        return schema
    try:
        return json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise DecodeError(f"the schema is no JSON: {error}") from None


@lru_cache(maxsize=64)
def _parsed(text: str) -> Record:
    """Parse a text once: each codec of an entity type begins with the same few."""
    shape = _shape(_json(text), "", "", 0)
    if not isinstance(shape, Record):
        raise DecodeError(f"the schema is no record but {shape}")
    return shape


def fingerprint(record: Record) -> bytes:
    """Return the 8 bytes of CRC-64-AVRO over the Parsing Canonical Form, little-endian as single-object framing has it.

    TRAP: the canonical form drops logical types, defaults and docs. Two schemas that differ only in a decimal's scale
    have one fingerprint; `compatibility` compares logical types itself.
    """
    canonical = avro.to_parsing_canonical_form(_canonical(record))
    return bytes.fromhex(avro.fingerprint(canonical, "CRC-64-AVRO"))


def without_defaults(shape: Shape) -> Shape:
    """Return the shape with no column's default: equal where bytes mean the same, logical types included."""
    match shape:
        case Nullable(value, null):
            return Nullable(without_defaults(value), null)
        case ListOf(item):
            return ListOf(without_defaults(item))
        case Choice(records):
            bare = (record and without_defaults(record) for record in records)
            return Choice(tuple(record for record in bare if record is None or isinstance(record, Record)))
        case Record(name, columns):
            return Record(name, tuple(Column(column.name, without_defaults(column.shape)) for column in columns))
        case _:
            return shape


def _canonical(shape: Shape | None) -> Any:
    """Return what the canonical form keeps: names, types, order."""
    match shape:
        case None:
            return "null"
        case Scalar():
            return shape.type
        case Nullable(value, null):
            return ["null", _canonical(value)] if null == 0 else [_canonical(value), "null"]
        case ListOf(item):
            return {"type": "array", "items": _canonical(item)}
        case MapOf(value):
            return {"type": "map", "values": _canonical(value)}
        case Choice(records):
            return [_canonical(record) for record in records]
        case Record(name, columns):
            fields = [{"name": column.name, "type": _canonical(column.shape)} for column in columns]
            return {"type": "record", "name": name, "fields": fields}


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the schema is no JSON: {error}") from None


def _shape(schema: object, namespace: str, path: str, depth: int) -> Shape:
    """Parse one type. `path` names the place in error messages."""
    if depth > NESTING_MAX:
        raise DecodeError(f"{path}: nested deeper than {NESTING_MAX}")
    if isinstance(schema, str):
        return _scalar(schema, {}, path)
    if isinstance(schema, list):
        return _union(schema, namespace, path, depth)
    if not isinstance(schema, dict):
        raise DecodeError(f"{path}: {schema!r} is no type")
    kind = schema.get("type")
    if kind == "record":
        return _record(schema, namespace, path, depth)
    if kind == "array":
        return ListOf(_item(schema.get("items"), namespace, f"{path}[]", depth))
    if kind == "map":
        return MapOf(_item(schema.get("values"), namespace, f"{path}{{}}", depth))
    if isinstance(kind, str):
        return _scalar(kind, schema, path)
    return _shape(kind, namespace, path, depth + 1)


def _scalar(name: str, details: dict[str, Any], path: str) -> Scalar:
    logical = details.get("logicalType", "")
    if name not in _SCALARS or not isinstance(logical, str) or logical not in _SCALARS[name]:
        raise DecodeError(f"{path}: {logical or name!r} is no type that Placet reads")
    if logical != "decimal":
        return Scalar(name, logical)
    precision, scale = details.get("precision"), details.get("scale", 0)
    if type(precision) is not int or type(scale) is not int or not 0 <= scale <= precision <= 38 or not precision:
        raise DecodeError(f"{path}: decimal({precision!r}, {scale!r}) is out of range")
    return Scalar(name, logical, precision, scale)


def _union(branches: list[object], namespace: str, path: str, depth: int) -> Nullable | Choice:
    if len(branches) == 2 and branches.count("null") == 1:
        null = branches.index("null")
        inner = _shape(branches[1 - null], namespace, path, depth + 1)
        if not isinstance(inner, Nullable | Choice):
            return Nullable(inner, null)
    records = [None if branch == "null" else _shape(branch, namespace, path, depth + 1) for branch in branches]
    names = [record.name for record in records if isinstance(record, Record)]
    if not records or len(names) < len(records) - records.count(None) or len(set(names)) < len(names):
        raise DecodeError(f"{path}: a union is `T | null`, or one of several records")
    return Choice(tuple(record for record in records if record is None or isinstance(record, Record)))


def _record(schema: dict[str, Any], namespace: str, path: str, depth: int) -> Record:
    name, fields = schema.get("name"), schema.get("fields")
    if not isinstance(name, str) or not isinstance(fields, list):
        raise DecodeError(f"{path}: a record has a name and fields")
    namespace = name.rpartition(".")[0] or str(schema.get("namespace", namespace))
    full = name if "." in name or not namespace else f"{namespace}.{name}"
    columns = tuple(_column(field, namespace, path, depth + 1) for field in fields)
    if len({column.name for column in columns}) < len(columns):
        raise DecodeError(f"{path or full}: two fields have one name")
    return Record(full, columns)


def _column(field: object, namespace: str, path: str, depth: int) -> Column:
    if not isinstance(field, dict) or not isinstance(field.get("name"), str) or "type" not in field:
        raise DecodeError(f"{path}: {field!r} is no field")
    name = field["name"]
    path = f"{path}.{name}" if path else name
    return Column(name, _shape(field["type"], namespace, path, depth), field.get("default", MISSING))


def _item(schema: object, namespace: str, path: str, depth: int) -> Shape:
    shape = _shape(schema, namespace, path, depth + 1)
    if not _has_bytes(shape):
        raise DecodeError(f"{path}: an item needs at least one byte")
    if not isinstance(shape, Scalar | Record):
        raise DecodeError(f"{path}: an item is a scalar or a record, not {shape}")
    return shape


def _has_bytes(shape: Shape) -> bool:
    """Tell whether every value has at least one byte: all but records without any."""
    return not isinstance(shape, Record) or any(_has_bytes(column.shape) for column in shape.columns)
