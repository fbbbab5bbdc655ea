"""Reads a gate's committed log: what a record says, and what each transaction wrote to one partition.

Written from docs/records.md and the Avro contracts, without a look at the gate's code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from struct import unpack_from
from typing import Any, Final, NamedTuple, TypeAlias

from fastavro import parse_schema, schemaless_reader

from tests.model.second_definition import marker

__all__ = [
    "CONTRACTS",
    "TOPICS",
    "History",
    "LoggedRecord",
    "Row",
    "Transaction",
    "cause_of",
    "decoded",
    "entry_of",
    "partition_of",
    "transactions",
]

Row: TypeAlias = Mapping[str, Any]
_Form: TypeAlias = tuple[bytes, Any]  # how the records of a schema begin, and the schema
_FOLDER: Final = Path(__file__).parents[2] / "placet/schemas/contracts"
_WORDS: Final = {
    "Genesis": b"genesis",
    "Commit": b"commit",
    "MemoryEntry": b"memory/",
    "AppliedEntry": b"applied/",
    "Disarmed": b"disarmed/",
    "Counted": b"counted/",
    "Windows": b"windows",
}
TOPICS: Final = ("signals", "proposals", "changelog", "decisions", "ledger")


@dataclass(frozen=True, slots=True)
class LoggedRecord:
    """A committed record. `producer` is equal for the records of one transaction, and for no others."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    producer: int


class History(NamedTuple):
    """What lies on the topics of one entity type, before any compaction, and where its consumer group stands."""

    topics: Mapping[str, Sequence[Sequence[LoggedRecord]]]
    positions: Mapping[tuple[str, int], int]
    ends: Mapping[tuple[str, int], int]
    app: str
    entity: str
    definition: str
    others: Mapping[bytes, str] = {}  # that were in force meanwhile, by their digests


@dataclass(slots=True)
class Transaction:
    """What one transaction wrote to one partition of each output topic."""

    decisions: list[tuple[LoggedRecord, Row]] = field(default_factory=list)
    changes: list[tuple[LoggedRecord, Row]] = field(default_factory=list)
    tombstones: list[LoggedRecord] = field(default_factory=list)
    entries: list[tuple[LoggedRecord, str, Row]] = field(default_factory=list)  # with the entry's kind; "": deleted

    def entries_of(self, kind: str) -> list[tuple[LoggedRecord, Row]]:
        """Return the ledger's entries of one kind."""
        return [(record, row) for record, name, row in self.entries if name == kind]


def _plain(schema: Any) -> Any:
    """Return a schema without logical types: times stay whole numbers."""
    if isinstance(schema, dict):
        return {name: _plain(value) for name, value in schema.items() if name != "logicalType"}
    return [_plain(each) for each in schema] if isinstance(schema, list) else schema


def _contract(name: str) -> _Form:
    schema = json.loads((_FOLDER / f"{name}.avsc").read_bytes())
    return marker(schema), parse_schema(_plain(schema))


CONTRACTS: Final = {name: _contract(name) for name in ("decision", "ledger", "ledger_windows", "dead_letter")}


def decoded(value: bytes | None, form: _Form, *, named: bool = False) -> Any:
    """Return a record; None where the bytes are no such record. `named`: records in a union come with their names."""
    if value is None or not value.startswith(form[0]):
        return None
    stream = BytesIO(value)
    stream.seek(len(form[0]))
    try:
        record = schemaless_reader(stream, form[1], None, return_record_name=named)
    except Exception:  # noqa: BLE001, whatever fastavro makes of hostile bytes
        return None
    return record if stream.tell() == len(value) else None


def entry_of(value: bytes | None) -> Any:
    """Return a record of the ledger, with the name of its entry; None where the bytes are none."""
    entry = decoded(value, CONTRACTS["ledger"], named=True)
    return decoded(value, CONTRACTS["ledger_windows"], named=True) if entry is None else entry


def cause_of(row: Row, prefix: str = "") -> tuple[str, Any]:
    """Return what a decision or a change names as its cause: an input's place, or an entity's timer."""
    topic, offset = row[f"{prefix}topic"], row[f"{prefix}offset"]
    if topic or row[f"{prefix}kind"] != "TIMER":
        return topic, offset
    return topic, (row[f"{prefix}entity_id"], row[f"{prefix}input_id"])


def partition_of(key: bytes, partitions: int) -> int:
    """Kafka's own partitioner: murmur2 as in `org.apache.kafka.common.utils.Utils`."""
    hashed, whole = 0x9747B28C ^ len(key), len(key) & ~3
    for word in unpack_from(f"<{whole >> 2}I", key):
        mixed = word * 0x5BD1E995 & 0xFFFFFFFF
        hashed = (hashed * 0x5BD1E995 ^ (mixed ^ mixed >> 24) * 0x5BD1E995) & 0xFFFFFFFF
    if key[whole:]:
        hashed = (hashed ^ int.from_bytes(key[whole:], "little")) * 0x5BD1E995 & 0xFFFFFFFF
    hashed = (hashed ^ hashed >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return ((hashed ^ hashed >> 15) & 0x7FFFFFFF) % partitions


def transactions(
    logs: Mapping[str, Sequence[LoggedRecord]], forms: Sequence[_Form], say: Callable[[str], None]
) -> tuple[dict[int, Transaction], list[tuple[LoggedRecord, str, Row]]]:
    """Decode what lies on one partition of the outputs; return it by transaction, and the ledger in order."""
    found: dict[int, Transaction] = {}
    ledger: list[tuple[LoggedRecord, str, Row]] = []
    for record in logs["decisions"]:
        row = decoded(record.value, CONTRACTS["decision"])
        if row is None:
            say(f"the decisions' record {record.offset} is no decision")
        else:
            found.setdefault(record.producer, Transaction()).decisions.append((record, row))
    for record in logs["changelog"]:
        rows = (decoded(record.value, form) for form in forms)
        row = next((row for row in rows if row is not None), None)
        if record.value is None:
            found.setdefault(record.producer, Transaction()).tombstones.append(record)
        elif row is None:
            say(f"the changelog's record {record.offset} is no change")
        else:
            found.setdefault(record.producer, Transaction()).changes.append((record, row))
    for record in logs["ledger"]:
        entry = entry_of(record.value)
        if record.value is not None and entry is None:
            say(f"the ledger's record {record.offset} is no entry")
            continue
        name, row = ("", {}) if entry is None else entry["entry"]
        kind = name.rpartition(".")[2]
        if kind and not (record.key or b"").startswith(_WORDS.get(kind, b"?")):
            say(f"the ledger's record {record.offset} is a {kind} with the key {record.key!r}")
        ledger.append((record, kind, row))
        found.setdefault(record.producer, Transaction()).entries.append(ledger[-1])
    return found, ledger
