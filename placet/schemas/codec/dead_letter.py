"""Dead letters: the bytes of inputs that did not decode, with the decision that refused them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, Protocol

import msgspec

from placet.schemas.avro.writer import RecordWriter
from placet.schemas.codec.contracts import FIXED
from placet.schemas.codec.wire import SINGLE_OBJECT
from placet.schemas.codec.writer_schemas import RECORD_BYTES_MAX, WriterSchemas
from placet.schemas.decision import Coordinates, Decision, Reason
from placet.schemas.errors import DecodeError

__all__ = ["DeadLetter", "Undecoded", "decode_dead_letter", "encode_dead_letter"]

LETTER_BYTES_MAX: Final = 900_000
"""What of key, headers and value is kept, in bytes together: a broker takes records of 1 MiB unless told otherwise."""

_DETAIL_MAX: Final = 4_096


class DeadLetter(msgspec.Struct, frozen=True):
    """The bytes of an input that did not decode, and why. `value_size` is -1 where there was no value."""

    topic: str
    partition: int
    offset: int
    log_time: int
    reason: Reason
    detail: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    value_size: int


class Undecoded(Protocol):
    """A record as it was read."""

    @property
    def key(self) -> bytes | None:
        """The key."""
        ...

    @property
    def value(self) -> bytes | None:
        """The value."""
        ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]] | None:
        """The headers; a value may be null."""
        ...


@cache
def _schemas() -> WriterSchemas:
    return WriterSchemas("dead_letter", FIXED["dead_letter"], SINGLE_OBJECT, RECORD_BYTES_MAX)


def encode_dead_letter(record: Undecoded, decision: Decision, at: Coordinates) -> bytes:
    """Return the dead letter of a record that did not decode, with the decision that refused it.

    What is too long is cut, so that the letter itself is never refused: first the value, then headers, then the key.
    """
    key, headers, value = _fitting(record)
    schemas = _schemas()
    columns: dict[str, Any] = {
        "topic": at.topic,
        "partition": at.partition,
        "offset": at.offset,
        "log_time": at.log_time,
        "reason": decision.reason.name,
        "reason_code": int(decision.reason),
        "detail": decision.detail[:_DETAIL_MAX],
        "key": key,
        "value": value,
        "headers": headers,
        "value_size": -1 if record.value is None else len(record.value),
    }
    return schemas.head + RecordWriter(schemas.record).encoded(columns)


def decode_dead_letter(value: bytes) -> DeadLetter:
    """Return a dead letter.

    Raises:
        DecodeError: the bytes are no dead letter that this release knows.
    """
    schemas = _schemas()
    columns = dict(zip(schemas.names, schemas.values(value), strict=False))
    del columns["reason"]
    try:
        columns["reason"] = Reason(columns.pop("reason_code"))
    except ValueError as error:
        raise DecodeError(f"a dead letter with an unknown reason: {error}") from None
    columns["headers"] = tuple((header["name"], header["value"]) for header in columns["headers"])
    return DeadLetter(**columns)


def _fitting(record: Undecoded) -> tuple[bytes | None, list[dict[str, Any]], bytes | None]:
    """Return what fits of key, headers and value."""
    left = LETTER_BYTES_MAX
    key = None if record.key is None else record.key[:left]
    left -= len(key or b"")
    headers: list[dict[str, Any]] = []
    for name, content in record.headers or ():
        size = len(name) * 4 + len(content or b"") + 16
        if size > left:
            break
        headers.append({"name": name.encode(errors="replace").decode(), "value": content or b""})
        left -= size
    return key, headers, None if record.value is None else record.value[:left]
