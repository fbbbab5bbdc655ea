"""Changes as records, and back: column by column, for most inputs make one. Tests compare them with their schema."""

from __future__ import annotations

from typing import Any, Final, final

import msgspec

from placet.schemas.avro.schema import Record
from placet.schemas.avro.writer import (
    RecordWriter,
    RepeatedLong,
    encoded_long,
    encoded_string,
    write_bytes,
    write_long,
    write_string,
)
from placet.schemas.codec.carried import KnownFields, portable
from placet.schemas.codec.contracts import PREFIX
from placet.schemas.codec.state_header import hidden_of
from placet.schemas.errors import DecodeError
from placet.schemas.messages import Kind, Value
from placet.schemas.state import Change, EntityState

__all__ = ["ChangeReader", "ChangeWriter"]

_KINDS: Final = {kind: encoded_string(kind.name) for kind in Kind}
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
        self._log_time = RepeatedLong()
        self._last: Change | None = None

    def record(self, change: Change) -> bytes:
        """Return a change's record."""
        state = change.state
        out = [self._batch_columns(change)]
        write_long(out, change.offset)
        self._log_time.write(out, change.log_time)
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


@final
class ChangeReader:
    """Reads an entity type's changes.

    Args:
        record: the schema of the entity type's changes.
        known: the definition's fields.
    """

    def __init__(self, record: Record, known: KnownFields) -> None:
        names = [column.name for column in record.columns]
        self._count = len(names)
        self._known = known
        self._own_names = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
        self._field_names = names[len(self._own_names) :]

    def change(self, values: list[Any], header: bytes, *, bare: bool = False) -> Change:
        """Return the change; `bare`: without the fields that the writer did not have.

        Args:
            values: of the record; behind them may come what `RecordReader` tells of other columns.
            header: the content of `STATE_HEADER`.
            bare: see above.

        Raises:
            DecodeError: the header is none, or the cause is of an unknown kind.
        """
        own = dict(zip(self._own_names, values, strict=False))
        fields: dict[str, Value] = dict(
            zip(self._field_names, values[len(self._own_names) : self._count], strict=False)
        )
        version, incarnation, status, deleted_at = (own.pop(name) for name in _STATE_COLUMNS)
        try:
            hidden = hidden_of(header)
            own["kind"] = Kind[own["kind"]]
        except (msgspec.MsgspecError, KeyError, RecursionError) as error:
            raise DecodeError(f"a change with a broken header or kind: {error}") from None
        carried = hidden.carried
        if len(values) > self._count:
            theirs, missing = values[self._count]
            foreign = {name: portable(value) for name, value in theirs.items() if not name.startswith(PREFIX)}
            carried = {**(carried or {}), **foreign} or None
            for name in missing if bare else ():
                fields.pop(name, None)
        if carried:
            carried = self._known.put_back(fields, carried)
        state = EntityState(
            version, incarnation, status, fields, hidden.field_versions, hidden.applied, deleted_at or 0, carried,
            hidden.armed, hidden.counts,
        )  # fmt: skip
        return Change(state=state, **own)
