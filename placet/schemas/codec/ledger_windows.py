"""Ledger entries of windows as records, and back. They have a contract of their own, and never a registry's framing.

So a ledger without windows has the bytes that it always had: logs of before are verified byte by byte.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from placet.schemas.avro.schema import Choice
from placet.schemas.avro.writer import AttributesWriter, ShapeWriter, encoded_long
from placet.schemas.codec.contracts import FIXED
from placet.schemas.codec.wire import SINGLE_OBJECT
from placet.schemas.codec.writer_schemas import RECORD_BYTES_MAX, WriterSchemas
from placet.schemas.errors import DecodeError
from placet.schemas.ledger import Counted, CountedPart, KeptWindow, Windows

__all__ = ["decode_windows", "encode_windows", "is_of_windows"]

_ROLE: Final = "ledger_windows"
_ENTRIES: Final[dict[str, Callable[[dict[str, Any]], Windows | Counted]]] = {
    "placet.ledger.Windows": lambda v: Windows(**{**v, "windows": tuple(KeptWindow(**one) for one in v["windows"])}),
    "placet.ledger.Counted": lambda v: Counted(**{**v, "parts": tuple(CountedPart(**one) for one in v["parts"])}),
}


@cache
def _schemas() -> WriterSchemas:
    return WriterSchemas(_ROLE, FIXED[_ROLE], SINGLE_OBJECT, RECORD_BYTES_MAX)


@cache
def _writers() -> dict[str, tuple[bytes, ShapeWriter]]:
    shape = _schemas().record.columns[0].shape
    assert isinstance(shape, Choice)
    return {
        record.name: (encoded_long(index), AttributesWriter(record))
        for index, record in enumerate(shape.records)
        if record is not None
    }


def encode_windows(entry: Windows | Counted) -> bytes:
    """Return an entry's bytes."""
    head, writer = _writers()[f"placet.ledger.{type(entry).__name__}"]
    return _schemas().head + head + writer.encoded(entry)


def is_of_windows(value: bytes) -> bool:
    """Tell whether a record of the ledger is one of these."""
    return value.startswith(_schemas().head)


def decode_windows(value: bytes) -> Windows | Counted:
    """Return the entry.

    Raises:
        DecodeError: the bytes are none.
    """
    name, columns = _schemas().values(value)[0]
    entry = _ENTRIES[name](columns)
    if isinstance(entry, Counted) and any(len(part.times) != len(part.amounts) for part in entry.parts):
        raise DecodeError("a window's times and amounts are not as many")
    return entry
