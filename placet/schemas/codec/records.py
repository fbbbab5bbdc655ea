"""What the gate writes, as bodies without framing: decisions, changes, ledger entries; and back.

Each writer is compiled from the checked-in schema and takes its values straight from the objects' attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from placet.schemas.avro.schema import Choice, Record, parse_schema
from placet.schemas.avro.writer import (
    Writer,
    attribute_writer,
    batch_writer,
    repeated,
    write_long,
    write_string,
)
from placet.schemas.codec.carried import KnownFields, portable
from placet.schemas.codec.contracts import DECISION, LEDGER, PREFIX
from placet.schemas.codec.state_header import hidden_of
from placet.schemas.decision import REASONS, Conflict, Coordinates, Decision, Fired, First, Outcome, Reason, Resolved
from placet.schemas.errors import DecodeError
from placet.schemas.ledger import (
    AppliedEntry,
    Commit,
    Disarmed,
    Genesis,
    Held,
    LedgerEntry,
    MemoryEntry,
    Span,
)
from placet.schemas.messages import Kind, Value
from placet.schemas.state import Applied, Change, EntityState, Memory

__all__ = [
    "DECISION_BYTES_MAX",
    "change_reader",
    "change_writer",
    "decision_of",
    "ledger_entry_of",
    "write_decision",
    "write_ledger",
]

_KINDS = {kind: write_string(kind.name) for kind in Kind}
_string, _long = repeated(write_string), repeated(write_long)


# Decisions ------------------------------------------------------------------------------------------------------------

DECISION_BYTES_MAX = 65_536
"""Longest decision that is written as it is, in bytes; what is longer repeats a hostile input."""
_TEXTS, _TEXT_MAX = ("name", "input_id", "entity_id", "dedup_key", "detail"), 512

_DECISION = parse_schema(DECISION)
_AT = len(msgspec.structs.fields(Coordinates))
_DECISION_NAMES = [column.name for column in _DECISION.columns]

_BATCH = 7
"""The first columns are the same for all decisions of a transaction on one input topic."""

_write_batch = batch_writer(Record("batch", _DECISION.columns[:_BATCH]))
_write_place = attribute_writer(Record("place", _DECISION.columns[_BATCH:_AT]), special={"log_time": _long})
_write_decided = attribute_writer(
    Record("decided", _DECISION.columns[_AT:]),
    {"reason_code": "reason", "retry": "reason"},
    {
        "kind": _KINDS.__getitem__,
        "outcome": {outcome: write_string(outcome.name) for outcome in Outcome}.__getitem__,
        "reason": {reason: write_string(reason.name) for reason in Reason}.__getitem__,
        "reason_code": {reason: write_long(reason) for reason in Reason}.__getitem__,
        "retry": {reason: write_string(text.retry.name) for reason, text in REASONS.items()}.__getitem__,
        "status_before": _string,
        "status_after": _string,
    },
)


def write_decision(decision: Decision, at: Coordinates) -> bytes:
    """Return a decision's body: the columns of its coordinates, then its own.

    It always fits into a record, or a hostile input could never be decided: texts that only an input of more than
    `DECISION_BYTES_MAX` can have brought are cut.
    """
    decided = _write_decided(decision)
    if len(decided) > DECISION_BYTES_MAX:
        decided = _write_decided(_with_short_texts(decision))
    return _write_batch(at) + _write_place(at) + decided


def _with_short_texts(decision: Decision) -> Decision:
    texts = {name: getattr(decision, name)[:_TEXT_MAX] for name in _TEXTS}
    return msgspec.structs.replace(decision, **texts)


def decision_of(values: Sequence[Any]) -> tuple[Decision, Coordinates]:
    """Return the decision in a record's values.

    Raises:
        DecodeError: an outcome or a reason that this release does not know.
    """
    at = Coordinates(**dict(zip(_DECISION_NAMES[:_AT], values, strict=False)))
    own = dict(zip(_DECISION_NAMES[_AT:], values[_AT:], strict=False))
    del own["reason"], own["retry"]
    try:
        own["outcome"], own["kind"] = Outcome[own["outcome"]], Kind[own["kind"]]
        own["reason"] = Reason(own.pop("reason_code"))
    except (KeyError, ValueError) as error:
        raise DecodeError(f"a decision with an unknown outcome, kind or reason: {error}") from None
    own["first"] = First(**own["first"]) if own["first"] else None
    own["resolves"] = Resolved(**own["resolves"]) if own["resolves"] else None
    own["timer"] = Fired(**own["timer"]) if own["timer"] else None
    own["conflicts"] = tuple(Conflict(item["version"], tuple(item["fields"])) for item in own["conflicts"])
    return Decision(**own), at


# Changes --------------------------------------------------------------------------------------------------------------

_CHANGE_BATCH = 5
"""The first columns are the same for all changes of a transaction that one input topic caused."""
_STATE_COLUMNS = ("version", "incarnation", "status", "deleted_at")


def change_writer(record: Record) -> Callable[[Change], bytes]:
    """Compile the writing of an entity type's changes: the gate's columns, then one for each field of the state."""
    own = [c._replace(name=c.name[len(PREFIX) :]) for c in record.columns if c.name.startswith(PREFIX)]
    write_batch = batch_writer(Record("batch", tuple(own[:_CHANGE_BATCH])))
    rest = record.columns[len(own) :]
    # A column of the state may have the name of one of ours: it is written under one that no definition can give it.
    fields = [column._replace(name=f"state.{column.name}") for column in rest]
    write_rest = attribute_writer(
        Record("rest", (*own[_CHANGE_BATCH:], *fields)),
        {name: f"state.{name}" for name in _STATE_COLUMNS}
        | {field.name: f"state.fields.get({column.name!r})" for field, column in zip(fields, rest, strict=True)},
        {
            "kind": _KINDS.__getitem__,
            "deleted_at": lambda deleted_at: b"\x02" + write_long(deleted_at) if deleted_at else b"\x00",
            "status": _string,
            "log_time": _long,
        },
    )
    return lambda change: write_batch(change) + write_rest(change)


class ChangeReader(Protocol):
    """The way from a change's values and its header to the change."""

    def __call__(self, values: Sequence[Any], header: bytes, *, bare: bool = False) -> Change:
        """Return the change; `bare`: without the fields that the writer did not have.

        Raises:
            DecodeError: the header is none, or the cause is of an unknown kind.
        """
        ...


def change_reader(record: Record, known: KnownFields) -> ChangeReader:
    """Compile the way from a change's values and its header to the change.

    Args:
        record: ours. Behind its columns may come what `read_record` tells of others.
        known: the definition's fields.
    """
    names = [column.name for column in record.columns]
    count = len(names)
    own_names = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    field_names = names[len(own_names) :]

    def read(values: Sequence[Any], header: bytes, *, bare: bool = False) -> Change:
        own = dict(zip(own_names, values, strict=False))
        fields: dict[str, Value] = dict(zip(field_names, values[len(own_names) : count], strict=False))
        version, incarnation, status, deleted_at = (own.pop(name) for name in _STATE_COLUMNS)
        try:
            hidden = hidden_of(header)
            own["kind"] = Kind[own["kind"]]
        except (msgspec.MsgspecError, KeyError, RecursionError) as error:
            raise DecodeError(f"a change with a broken header or kind: {error}") from None
        carried = hidden.carried
        if len(values) > count:
            theirs, missing = values[count]
            foreign = {name: portable(value) for name, value in theirs.items() if not name.startswith(PREFIX)}
            carried = {**(carried or {}), **foreign} or None
            for name in missing if bare else ():
                fields.pop(name, None)
        if carried:
            carried = known.put_back(fields, carried)
        state = EntityState(
            version, incarnation, status, fields, hidden.field_versions, hidden.applied, deleted_at or 0, carried
        )
        return Change(state=state, **own)

    return read


# Ledger ---------------------------------------------------------------------------------------------------------------


def _ledger_writers() -> dict[type, tuple[bytes, Writer]]:
    shape = parse_schema(LEDGER).columns[0].shape
    assert isinstance(shape, Choice)
    types = {entry.__name__: entry for entry in (Genesis, Commit, MemoryEntry, AppliedEntry, Held, Disarmed)}
    return {
        types[record.name.rpartition(".")[2]]: (write_long(index), attribute_writer(record))
        for index, record in enumerate(shape.records)
        if record is not None
    }


_LEDGER_WRITERS = _ledger_writers()

_LEDGER_ENTRIES: dict[str, Callable[[dict[str, Any]], LedgerEntry]] = {
    "placet.ledger.Genesis": lambda v: Genesis(**v),
    "placet.ledger.Commit": lambda v: Commit(**{**v, "spans": tuple(Span(**span) for span in v["spans"])}),
    "placet.ledger.MemoryEntry": lambda v: MemoryEntry(**{**v, "memory": Memory(**v["memory"])}),
    "placet.ledger.AppliedEntry": lambda v: AppliedEntry(**{**v, "applied": Applied(**v["applied"])}),
    "placet.ledger.Held": lambda v: Held(**v),
    "placet.ledger.Disarmed": lambda v: Disarmed(**v),
}


def write_ledger(entry: LedgerEntry) -> bytes:
    """Return a ledger entry's body."""
    head, write = _LEDGER_WRITERS[type(entry)]
    return head + write(entry)


def ledger_entry_of(values: Sequence[Any]) -> LedgerEntry:
    """Return the ledger entry in a record's values.

    Raises:
        DecodeError: an entry that this release does not know.
    """
    name, columns = values[0]
    if name not in _LEDGER_ENTRIES:
        raise DecodeError(f"an unknown ledger entry: {name}")
    return _LEDGER_ENTRIES[name](columns)
