"""What the gate writes, as bodies without framing: decisions, changes, ledger entries; and back.

Decisions and changes, of which each input makes some, are written out column by column; tests compare them with their
schemas. Ledger entries are written by the schema, from attributes of the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, Final, Protocol, final

import msgspec

from placet.schemas.avro.schema import Choice, Record, parse_schema
from placet.schemas.avro.writer import (
    AttributesWriter,
    RecordWriter,
    Writer,
    encoded_long,
    encoded_string,
    write_boolean,
    write_bytes,
    write_long,
    write_string,
    writer_of,
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
from placet.schemas.memory import Applied, Memory
from placet.schemas.messages import Kind, Value
from placet.schemas.state import Change, EntityState

__all__ = [
    "DECISION_BYTES_MAX",
    "ChangeWriter",
    "DecisionWriter",
    "change_reader",
    "decision_of",
    "ledger_entry_of",
    "write_ledger",
]

_KINDS: Final = {kind: encoded_string(kind.name) for kind in Kind}


# Decisions ------------------------------------------------------------------------------------------------------------

DECISION_BYTES_MAX: Final = 65_536
"""Longest decision that is written as it is, in bytes; what is longer repeats a hostile input."""
_TEXTS: Final = ("name", "input_id", "entity_id", "dedup_key", "detail")
_TEXT_MAX: Final = 512

_DECISION: Final = parse_schema(DECISION)
_AT: Final = len(fields(Coordinates))
_DECISION_NAMES: Final = [column.name for column in _DECISION.columns]

_VERDICTS: Final = {
    outcome: {
        reason: b"".join(
            (
                encoded_string(outcome.name),
                encoded_string(reason.name),
                encoded_long(reason),
                encoded_string(text.retry.name),
            )
        )
        for reason, text in REASONS.items()
    }
    for outcome in Outcome
}
"""The columns `outcome`, `reason`, `reason_code` and `retry`, which know few values together."""


def _decision_part(name: str) -> Writer:
    shape = next(column.shape for column in _DECISION.columns if column.name == name)
    return writer_of(shape, AttributesWriter)


_FIRST: Final = _decision_part("first")
_CONFLICTS: Final = _decision_part("conflicts")
_RESOLVES: Final = _decision_part("resolves")
_TIMER: Final = _decision_part("timer")


@final
class DecisionWriter:
    """Writes decisions, column by column in the order of their schema.

    Args:
        head: what frames a record.
    """

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._batch = b""
        self._last: Coordinates | None = None

    def record(self, decision: Decision, at: Coordinates) -> bytes:
        """Return a decision's record: the columns of its coordinates, then its own.

        It always fits into a record, or a hostile input could never be decided: texts that only an input of more than
        `DECISION_BYTES_MAX` can have brought are cut.
        """
        own = _own_columns(decision)
        if len(own) > DECISION_BYTES_MAX:
            own = _own_columns(_with_short_texts(decision))
        out = [self._batch_columns(at)]
        write_long(out, at.index)
        write_long(out, at.offset)
        write_long(out, at.log_time)
        out.append(own)
        return b"".join(out)

    def _batch_columns(self, at: Coordinates) -> bytes:
        """Return the columns that are the same for all decisions of a transaction on one input topic."""
        last = self._last
        if last is None or not (
            at.sequence == last.sequence
            and at.topic == last.topic
            and at.partition == last.partition
            and at.task_epoch == last.task_epoch
            and at.decided_at == last.decided_at
            and at.definition_digest == last.definition_digest
            and at.control_position == last.control_position
        ):
            out = [self._head]
            write_string(out, at.topic)
            write_long(out, at.partition)
            write_long(out, at.task_epoch)
            write_long(out, at.sequence)
            write_long(out, at.decided_at)
            write_bytes(out, at.definition_digest)
            write_long(out, at.control_position)
            self._batch, self._last = b"".join(out), at
        return self._batch


def _own_columns(decision: Decision) -> bytes:
    out = [_KINDS[decision.kind]]
    write_string(out, decision.name)
    write_string(out, decision.input_id)
    write_string(out, decision.entity_id)
    write_string(out, decision.dedup_key)
    write_bytes(out, decision.payload_digest)
    out.append(_VERDICTS[decision.outcome][decision.reason])
    write_boolean(out, decision.changed)
    write_long(out, decision.version_before)
    write_long(out, decision.version_after)
    write_long(out, decision.incarnation)
    write_string(out, decision.status_before)
    write_string(out, decision.status_after)
    write_string(out, decision.detail)
    _FIRST.write(out, decision.first)
    _CONFLICTS.write(out, decision.conflicts)
    _RESOLVES.write(out, decision.resolves)
    _TIMER.write(out, decision.timer)
    return b"".join(out)


def _with_short_texts(decision: Decision) -> Decision:
    texts = {name: getattr(decision, name)[:_TEXT_MAX] for name in _TEXTS}
    return replace(decision, **texts)


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

_STATE_COLUMNS: Final = ("version", "incarnation", "status", "deleted_at")
_NEVER_DELETED: Final = encoded_long(0)
_DELETED: Final = encoded_long(1)


@final
class ChangeWriter:
    """Writes an entity type's changes: the gate's columns in the order of their schema, then the state's fields.

    Args:
        head: what frames a record.
        record: the schema of the entity type's changes.
    """

    def __init__(self, head: bytes, record: Record) -> None:
        self._head = head
        columns = tuple(column for column in record.columns if not column.name.startswith(PREFIX))
        self._fields = RecordWriter(Record(record.name, columns))
        self._batch = b""
        self._last: Change | None = None

    def record(self, change: Change) -> bytes:
        """Return a change's record."""
        state = change.state
        out = [self._batch_columns(change)]
        write_long(out, change.offset)
        write_long(out, change.log_time)
        write_long(out, change.event_time)
        out.append(_KINDS[change.kind])
        write_string(out, change.name)
        write_string(out, change.input_id)
        write_string(out, change.dedup_key)
        write_bytes(out, change.payload_digest)
        write_string(out, change.proposer)
        write_string(out, change.entity_id)
        write_long(out, state.incarnation)
        write_long(out, state.version)
        write_string(out, state.status)
        if state.deleted_at:
            out.append(_DELETED)
            write_long(out, state.deleted_at)
        else:
            out.append(_NEVER_DELETED)
        self._fields.write_known(out, state.fields)
        return b"".join(out)

    def _batch_columns(self, change: Change) -> bytes:
        """Return the columns that are the same for all changes of a transaction that one input topic caused."""
        last = self._last
        if last is None or not (
            change.sequence == last.sequence
            and change.topic == last.topic
            and change.task_epoch == last.task_epoch
            and change.decided_at == last.decided_at
            and change.definition_digest == last.definition_digest
        ):
            out = [self._head]
            write_string(out, change.topic)
            write_long(out, change.task_epoch)
            write_long(out, change.sequence)
            write_long(out, change.decided_at)
            write_bytes(out, change.definition_digest)
            self._batch, self._last = b"".join(out), change
        return self._batch


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
        record: ours. Behind its columns may come what `RecordReader` tells of others.
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
