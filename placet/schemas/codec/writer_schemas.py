"""The schemas that records of one role are written with: ours, those of other definitions, those of a registry.

A record's head finds the reader compiled for it in one look-up; whoever wrote it, its values come out as ours. Only a
head that nobody here knows is asked for outside, once: what is refused stays refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from placet.schemas.avro.reader import RecordReader, Unresolvable
from placet.schemas.avro.schema import Record, as_text, parse_schema, without_defaults
from placet.schemas.codec.contracts import Schema
from placet.schemas.codec.wire import Wire, head_size, single_object_head
from placet.schemas.errors import DecodeError, PlacetError, UnknownSchema

__all__ = ["RECORD_BYTES_MAX", "WriterSchemas"]

RECORD_BYTES_MAX = 1 << 20
"""Longest record that is decoded, in bytes: what a broker takes unless it is told otherwise."""


class WriterSchemas:
    """All ways in which records of one role may be written, and the head under which ours are.

    Args:
        role: signal, proposal, change, decision, ledger, control or dead_letter.
        schema: ours, as JSON text or parsed.
        wire: how our records are framed, and who knows other heads.
        record_bytes_max: longer values are refused before anything else is done with them.
        roles: every head known, with its role; shared by the roles of one entity type.
        defaults: of columns that a writer does not have, as a schema would write them, where ours says null.
        others: tell what columns are not the same, see `RecordReader`.
    """

    def __init__(
        self,
        role: str,
        schema: Schema | str,
        wire: Wire,
        record_bytes_max: int,
        roles: dict[bytes, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        *,
        others: bool = False,
    ) -> None:
        text = as_text(schema)
        self.role, self.record = role, parse_schema(text)
        self._wanted = _with_defaults(text, as_text(defaults or {}))
        self.names = [column.name for column in self.record.columns]
        self.head = wire.head(role, text)
        self._size, self._bytes_max, self._wire = len(self.head), record_bytes_max, wire
        self._roles = {} if roles is None else roles
        self._others = others
        self._readers: dict[bytes, RecordReader] = {}
        self._records: dict[bytes, Record] = {}
        self._refused: dict[bytes, str] = {}
        for head in {self.head: None, single_object_head(text): None}:
            self._add(head, self.record)

    def values(self, value: bytes) -> list[Any]:
        """Return a record's values in the order of our columns.

        Raises:
            DecodeError: the bytes are no record of this role.
            UnknownSchema: nobody knows their schema.
        """
        if len(value) > self._bytes_max:
            raise DecodeError(f"the value has {len(value)} bytes; at most {self._bytes_max}")
        size = self._size
        reader = self._readers.get(value[:size])
        if reader is None:
            size = head_size(value)
            reader = self._readers.get(value[:size]) or self._reader_for(value[:size])
        return reader.values(value, size)

    def learn(self, schema: object) -> None:
        """Take in the schema of another definition, under its fingerprint and under the registry's id, if it has one.

        Raises:
            Unresolvable: it can't be read as ours, or has the fingerprint of a known one and means something else.
        """
        text = as_text(schema)
        record, head = parse_schema(text), single_object_head(text)
        known = self._records.get(head)
        if known is not None and known != record and without_defaults(known) != without_defaults(record):
            raise Unresolvable(
                f"{record.name}: two schemas differ in a logical type only, so that their records can't be told apart; "
                "a field is never given another type: give it another name"
            )
        if known is None:
            self._add(head, record)
            with suppress(PlacetError):  # not registered, or nobody to ask: then a record's id is asked for when met
                other = self._wire.head(self.role, text)
                if other != head:
                    self._add(other, record)

    def refuse(self, schema: object, why: str) -> None:
        """Say why a schema can't be read: whoever meets a record of it is told."""
        text = as_text(schema)
        self._refused.setdefault(single_object_head(text), why)
        with suppress(PlacetError):
            self._refused.setdefault(self._wire.head(self.role, text), why)

    def _add(self, head: bytes, record: Record) -> RecordReader:
        if record.name != self.record.name:
            raise Unresolvable(f"{record.name} is not {self.record.name}")
        reader = self._readers[head] = RecordReader(record, self._wanted, others=self._others)
        self._records[head], self._roles[head] = record, self.role
        return reader

    def _reader_for(self, head: bytes) -> RecordReader:
        """Find the reader of a head that is new here."""
        if head in self._roles:
            raise DecodeError(f"a {self._roles[head]} record stands where a {self.role} is expected")
        if head in self._refused:
            raise DecodeError(self._refused[head])
        text = self._wire.schema_of(self.role, head)
        if text is None:
            raise UnknownSchema(f"nobody here knows the schema {head.hex()}")
        try:
            return self._add(head, parse_schema(text))
        except DecodeError as error:
            self._refused[head] = str(error)
            raise


@lru_cache(maxsize=64)
def _with_defaults(schema: str, defaults: str) -> Record:
    """Return the record of a schema with other defaults, both as JSON text: the same one for all codecs of a schema."""
    record, others = parse_schema(schema), json.loads(defaults)
    columns = (column._replace(default=others.get(column.name, column.default)) for column in record.columns)
    return Record(record.name, tuple(columns))
