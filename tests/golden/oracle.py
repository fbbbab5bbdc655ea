"""fastavro as the reference: another implementation of Avro reads and writes what ours does, for tests to compare.

Timestamps stay int and decimals stay bytes on its side: logical types are taken out of the schema.
"""

from __future__ import annotations

import io
from typing import Any

import fastavro

__all__ = ["plain", "read", "write"]


def plain(schema: Any) -> Any:
    """Return the schema without logical types; defaults of decimals stay what they are, as they are bytes."""
    if isinstance(schema, dict):
        return {key: plain(value) for key, value in schema.items() if key != "logicalType"}
    return [plain(item) for item in schema] if isinstance(schema, list) else schema


def read(schema: Any, body: bytes, reader: Any = None, *, named: bool = True) -> tuple[Any, int]:
    """Return a record's value as fastavro reads it, and how many bytes it took."""
    stream = io.BytesIO(body)
    parsed = fastavro.parse_schema(plain(schema))
    wanted = None if reader is None else fastavro.parse_schema(plain(reader))
    value = fastavro.schemaless_reader(stream, parsed, wanted, return_record_name=named)
    return value, stream.tell()


def write(schema: Any, value: Any) -> bytes:
    """Return a record's bytes as fastavro writes them."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(plain(schema)), value)
    return stream.getvalue()
