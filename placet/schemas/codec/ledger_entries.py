"""Ledger entries as records, and back: by the schema, from attributes of the same names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from placet.schemas.avro.schema import Choice, parse_schema
from placet.schemas.avro.writer import AttributesWriter, ShapeWriter, encoded_long
from placet.schemas.codec.contracts import LEDGER
from placet.schemas.errors import DecodeError
from placet.schemas.ledger import AppliedEntry, Commit, Disarmed, Genesis, Held, LedgerEntry, MemoryEntry, Span
from placet.schemas.memory import Applied, Memory

__all__ = ["ledger_entry_of", "write_ledger"]


def _ledger_writers() -> dict[type, tuple[bytes, ShapeWriter]]:
    shape = parse_schema(LEDGER).columns[0].shape
    assert isinstance(shape, Choice)
    types = {entry.__name__: entry for entry in (Genesis, Commit, MemoryEntry, AppliedEntry, Held, Disarmed)}
    return {
        types[record.name.rpartition(".")[2]]: (encoded_long(index), AttributesWriter(record))
        for index, record in enumerate(shape.records)
        if record is not None
    }


_LEDGER_WRITERS: Final = _ledger_writers()

_LEDGER_ENTRIES: Final[dict[str, Callable[[dict[str, Any]], LedgerEntry]]] = {
    "placet.ledger.Genesis": lambda v: Genesis(**v),
    "placet.ledger.Commit": lambda v: Commit(**{**v, "spans": tuple(Span(**span) for span in v["spans"])}),
    "placet.ledger.MemoryEntry": lambda v: MemoryEntry(**{**v, "memory": Memory(**v["memory"])}),
    "placet.ledger.AppliedEntry": lambda v: AppliedEntry(**{**v, "applied": Applied(**v["applied"])}),
    "placet.ledger.Held": lambda v: Held(**v),
    "placet.ledger.Disarmed": lambda v: Disarmed(**v),
}


def write_ledger(entry: LedgerEntry) -> bytes:
    """Return a ledger entry's body."""
    head, writer = _LEDGER_WRITERS[type(entry)]
    return head + writer.encoded(entry)


def ledger_entry_of(values: Sequence[Any]) -> LedgerEntry:
    """Return the ledger entry in a record's values.

    Raises:
        DecodeError: an entry that this release does not know.
    """
    name, columns = values[0]
    if name not in _LEDGER_ENTRIES:
        raise DecodeError(f"an unknown ledger entry: {name}")
    return _LEDGER_ENTRIES[name](columns)
