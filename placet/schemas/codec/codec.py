"""The codec: one entity type's bytes, both ways. All that is encoded or decoded goes through here.

    Codec ─┬─ writer_schemas   which schema wrote this, and the reader made for it (avro.reader)
           ├─ inputs           values to messages, messages to bytes
           ├─ decisions, changes, ledger_entries   what a gate writes (avro.writer)
           └─ state_header     what no column of a change holds

Control records and dead letters belong to no entity type: see `control` and `dead_letter`.

Readers and writers are made from the schemas when a codec is. fastavro is the reference that tests compare every byte
with; on the way itself it is slower, and hostile bytes end its process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from placet.schemas.avro.reader import Unresolvable
from placet.schemas.avro.schema import parse_schema
from placet.schemas.codec.carried import KnownFields
from placet.schemas.codec.changes import ChangeReader, ChangeWriter
from placet.schemas.codec.contracts import DECISION, LEDGER, contracts, default_json
from placet.schemas.codec.decisions import DecisionWriter, decision_of
from placet.schemas.codec.inputs import InputReader, ProposalReader, Remarks, SignalReader, message_writer
from placet.schemas.codec.ledger_entries import ledger_entry_of, write_ledger
from placet.schemas.codec.ledger_windows import decode_windows, encode_windows, is_of_windows
from placet.schemas.codec.state_header import STATE_HEADER, state_header
from placet.schemas.codec.wire import SINGLE_OBJECT, Wire
from placet.schemas.codec.writer_schemas import RECORD_BYTES_MAX, WriterSchemas
from placet.schemas.decision import Coordinates, Decision
from placet.schemas.definition.model import Definition
from placet.schemas.errors import DecodeError, InvalidPayload
from placet.schemas.ledger import Counted, LedgerEntry, Windows
from placet.schemas.messages import Kind, Message
from placet.schemas.state import Change, EntityState

__all__ = [
    "RECORD_BYTES_MAX",
    "STATE_HEADER",
    "Codec",
    "Remarks",
]

_OF_WINDOWS: Final = (Windows, Counted)
_NO_METADATA: Final[Mapping[str, str]] = {}


class Codec:
    """One entity type's bytes, both ways. Whatever schema of the entity type wrote a record, it comes out as ours.

    Args:
        definition: what the contracts are generated from.
        wire: how records are framed.
        record_bytes_max: longer inputs are refused, in bytes.

    Raises:
        SettingsError: the wire's registry does not know our schemas.
        PlacetError: it can't be asked.
    """

    def __init__(
        self, definition: Definition, wire: Wire = SINGLE_OBJECT, record_bytes_max: int = RECORD_BYTES_MAX
    ) -> None:
        ours = contracts(definition)
        schemas = {**ours._asdict(), "decision": DECISION, "ledger": LEDGER}
        roles: dict[bytes, str] = {}
        state = {name: default_json(field) for name, field in definition.fields.items() if field.has_default}
        limits = {"signal": record_bytes_max, "proposal": record_bytes_max}
        by_role = {
            role: WriterSchemas(
                role,
                schema,
                wire,
                limits.get(role, max(record_bytes_max, RECORD_BYTES_MAX)),
                roles,
                state if role == "change" else None,
                others=role == "change",
            )
            for role, schema in schemas.items()
        }
        self._by_name = {one.record.name: one for one in by_role.values()}
        self._bytes_max = record_bytes_max
        self._inputs = {Kind.SIGNAL: by_role["signal"], Kind.PROPOSAL: by_role["proposal"]}
        self._readers: dict[Kind, InputReader] = {
            Kind.SIGNAL: SignalReader(by_role["signal"], definition),
            Kind.PROPOSAL: ProposalReader(by_role["proposal"], definition),
        }
        self._write_message = {kind: message_writer(definition, kind, one.record) for kind, one in self._inputs.items()}
        self._change = by_role["change"]
        self.known_fields = KnownFields(definition.fields)
        self._change_writer = ChangeWriter(self._change.head, self._change.record)
        self._change_reader = ChangeReader(self._change.record, self.known_fields)
        self._decision = by_role["decision"]
        self._decision_writer = DecisionWriter(self._decision.head)
        self._ledger = by_role["ledger"]

    def learn(self, schema: object) -> None:
        """Take in a writer's schema of another definition of this entity type, by its fingerprint.

        Args:
            schema: as JSON text or parsed, of a signal, a proposal, a change, a decision or the ledger.

        Raises:
            DecodeError: it is no schema of these, or one that re-types a field and so can't be read as ours.
        """
        name = parse_schema(schema).name
        if name not in self._by_name:
            raise Unresolvable(f"{name} is none of {', '.join(self._by_name)}")
        self._by_name[name].learn(schema)

    def refuse(self, schema: object, why: str) -> None:
        """Say why a schema that `learn` did not take can't be read: then its records are no longer just unknown.

        For readers of what a gate wrote: a gate that refuses inputs for another reason than before decides differently.
        """
        with suppress(DecodeError):
            record = parse_schema(schema)
            if record.name in self._by_name:
                self._by_name[record.name].refuse(schema, why)

    def decode(self, kind: Kind, value: bytes) -> Message:
        """Return an input's message. Takes any bytes, in time linear in their number.

        Raises:
            UnknownSchema: nobody knows the schema that the bytes name.
            InvalidPayload: a record of the contract whose name is unknown, or whose payload does not fit it.
            DecodeError: anything else; never another exception.
        """
        return self._readers[kind].message(value)

    def remarks(self, value: bytes) -> Remarks:
        """Return what was said beside a proposal, for people: it is no part of the message.

        Raises:
            DecodeError: the bytes are no proposal.
        """
        proposals = self._inputs[Kind.PROPOSAL]
        said = dict(zip(proposals.names, proposals.values(value), strict=True))
        return Remarks(said["rationale"], said["model"] or "", said["metadata"])

    def encode_message(
        self, message: Message, *, rationale: str = "", model: str = "", metadata: Mapping[str, str] = _NO_METADATA
    ) -> bytes:
        """Return an input's bytes, for clients. Payload fields with a default, and optional ones, may be left out.

        Raises:
            InvalidPayload: a name that the definition does not have, a value of a wrong type, or too many bytes.
        """
        body = self._write_message[message.kind](message, Remarks(rationale, model, metadata))
        value = self._inputs[message.kind].head + body
        if len(value) > self._bytes_max:
            raise InvalidPayload(f"the record has {len(value)} bytes; at most {self._bytes_max}", name=message.name)
        return value

    def encode_decision(self, decision: Decision, at: Coordinates) -> bytes:
        """Return a decision's bytes."""
        return self._decision_writer.record(decision, at)

    def decode_decision(self, value: bytes) -> tuple[Decision, Coordinates]:
        """Return the decision, and where it was taken.

        Raises:
            DecodeError: the bytes are no decision that this release knows.
        """
        return decision_of(self._decision.values(value))

    def encode_change(self, change: Change) -> tuple[bytes, list[tuple[str, bytes]]]:
        """Return a change's bytes and its headers."""
        return self._change_writer.record(change), [(STATE_HEADER, state_header(change.state))]

    def decode_change(self, value: bytes, headers: Sequence[tuple[str, bytes | None]] | None) -> Change:
        """Return the change. Fields that its definition did not have get what was carried, else our defaults; those
        that we lack are carried.

        Raises:
            DecodeError: the bytes are no change of this entity type, or the header is missing.
        """
        return self._change_reader.change(self._change.values(value), _state_header(headers))

    def decode_state(self, value: bytes, headers: Sequence[tuple[str, bytes | None]] | None) -> EntityState:
        """Return the state in a change, with no defaults in it: fields that were never written are missing.

        What a gate keeps must not depend on who has looked at it: a default would look like a value to other versions.

        Raises:
            DecodeError: see `decode_change`.
        """
        return self._change_reader.change(self._change.values(value), _state_header(headers), bare=True).state

    def encode_ledger(self, entry: LedgerEntry) -> bytes:
        """Return a ledger entry's bytes."""
        if isinstance(entry, _OF_WINDOWS):
            return encode_windows(entry)
        return self._ledger.head + write_ledger(entry)

    def decode_ledger(self, value: bytes) -> LedgerEntry:
        """Return the ledger entry.

        Raises:
            DecodeError: the bytes are no ledger entry that this release knows.
        """
        if is_of_windows(value):
            return decode_windows(value)
        return ledger_entry_of(self._ledger.values(value))


def _state_header(headers: Sequence[tuple[str, bytes | None]] | None) -> bytes:
    header = next((content for name, content in reversed(headers or ()) if name == STATE_HEADER), None)
    if header is None:
        raise DecodeError(f"the header {STATE_HEADER} is missing")
    return header
