"""Records of the control topic: definitions as they are published. They belong to no entity type."""

from __future__ import annotations

from functools import cache
from typing import Final

import msgspec

from placet.schemas.avro.writer import writer_of
from placet.schemas.codec.contracts import EARLIER, FIXED
from placet.schemas.codec.wire import SINGLE_OBJECT
from placet.schemas.codec.writer_schemas import RECORD_BYTES_MAX, WriterSchemas
from placet.schemas.errors import DecodeError

__all__ = ["NO_BASE", "Published", "decode_control", "encode_control"]

_PUBLISHED: Final = "placet.control.Published"
NO_BASE: Final = bytes(16)
"""The base of an entity type's first publication."""


class Published(msgspec.Struct, frozen=True):
    """A definition as the control topic holds it: all that is needed to decode and judge again what it ruled.

    Attributes:
        entity: the entity type.
        version: version of the definition.
        digest: 16 bytes, the record's key too.
        ladder: version of the decision ladder that its publisher runs.
        document: canonical JSON; `parse_definition` reads it.
        schemas: Avro schemas as JSON text, by role: signal, proposal, change.
        published_at: ms since the epoch.
        base: digest of the version that it was checked against: it counts only where that one is in force. `NO_BASE`
            where none was; b"" from earlier releases, which always counts.
    """

    entity: str
    version: int
    digest: bytes
    ladder: int
    document: str
    schemas: dict[str, str]
    published_at: int
    base: bytes = b""


@cache
def _schemas() -> WriterSchemas:
    schemas = WriterSchemas("control", FIXED["control"], SINGLE_OBJECT, RECORD_BYTES_MAX)
    for schema in EARLIER["control"]:
        schemas.learn(schema)
    return schemas


def encode_control(entry: Published) -> bytes:
    """Return a control record's bytes.

    Raises:
        ValueError: a number is out of range.
    """
    schemas = _schemas()
    writer = writer_of(schemas.record.columns[0].shape)
    return schemas.head + writer.encoded((_PUBLISHED, msgspec.structs.asdict(entry)))


def decode_control(value: bytes) -> Published:
    """Return a control record.

    Raises:
        DecodeError: the bytes are no control record that this release knows.
    """
    name, entry = _schemas().values(value)[0]
    if name != _PUBLISHED:
        raise DecodeError(f"an unknown control record: {name}")
    return Published(**entry)
