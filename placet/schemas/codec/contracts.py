"""Contracts: the Avro schemas of one entity type, generated from its definition, and the fixed ones.

    Definition ─ contracts ─► signal, proposal     envelope columns, then `payload`: one record for each name
                              change               `placet_…` columns, then one column for each field of the state
    contracts/*.avsc ───────► DECISION, LEDGER, CONTROL, DEAD_LETTER, and what the ledger holds of windows

The columns that the ladder asks first stand first, those of one type side by side: they are read in one go. A field of
the state is `T | null` with default null in the changelog, so that fields may come and go; nothing is an Avro enum, so
that a new status or name breaks no reader. The order is the definition's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final, NamedTuple, TypeAlias

from placet.schemas.avro.schema import Scalar
from placet.schemas.avro.writer import writer_of
from placet.schemas.definition.model import Definition, Field

__all__ = [
    "CONTROL",
    "DEAD_LETTER",
    "DECISION",
    "FIXED",
    "LEDGER",
    "PREFIX",
    "Contracts",
    "Schema",
    "contracts",
    "default_json",
    "payload_record",
]

Schema: TypeAlias = dict[str, Any]
"""An Avro schema as parsed JSON."""


PREFIX: Final = "placet_"
"""What the gate's own columns begin with, in the changelog; a definition has no such field."""


class Contracts(NamedTuple):
    """The generated schemas of one entity type."""

    signal: Schema
    proposal: Schema
    change: Schema


def _load(name: str) -> Schema:
    text = (files("placet.schemas") / "contracts" / f"{name}.avsc").read_text(encoding="utf-8")
    schema: Schema = json.loads(text)
    return schema


DECISION: Final = _load("decision")
LEDGER: Final = _load("ledger")
CONTROL: Final = _load("control")
DEAD_LETTER: Final = _load("dead_letter")
FIXED: Final[dict[str, Schema]] = {
    "decision": DECISION,
    "ledger": LEDGER,
    "control": CONTROL,
    "dead_letter": DEAD_LETTER,
    "ledger_windows": _load("ledger_windows"),
}
"""The schemas that are the same for every definition, by the name of their file."""

EARLIER: Final[dict[str, tuple[Schema, ...]]] = {"control": (_load("earlier/control-1"),)}
"""What they were before: records of them lie on logs."""

_WORD: Final = re.compile("(?:^|_)([a-z])")
_TIMESTAMP: Final[Schema] = {"type": "long", "logicalType": "timestamp-millis"}
_TYPES: Final[dict[str, str | Schema]] = {
    "string": "string",
    "int": "int",
    "long": "long",
    "double": "double",
    "boolean": "boolean",
    "timestamp": _TIMESTAMP,
}


def _column(name: str, kind: object, doc: str) -> Schema:
    return {"name": name, "type": kind, **({"doc": doc} if doc else {})}


def _optional(name: str, kind: object, doc: str) -> Schema:
    return {**_column(name, ["null", kind], doc), "default": None}


_OCCASION: Final = (
    _optional("dedup_key", "string", "The occasion; a retry has the same."),
    _optional("caused_by", "string", "Id of the signal or task that led to it."),
)

_SIGNAL: Final = (
    _column("signal_id", "string", "Id of the fact, chosen by its source; a retry has the same."),
    _column("entity_id", "string", "The entity, which is the record's key too."),
    _column("name", "string", "Which signal of the definition."),
    {**_column("source", "string", "Who says so."), "default": ""},
    *_OCCASION,
    _column("event_time", _TIMESTAMP, "When it happened."),
    _column("issued_at", _TIMESTAMP, "When it was first sent; a retry keeps it."),
)

_PROPOSAL: Final = (
    _column("proposal_id", "string", "Id of the proposal, chosen by the proposer; a retry has the same."),
    _column("entity_id", "string", "The entity, which is the record's key too."),
    _column("name", "string", "Which proposal of the definition."),
    {**_column("proposer", "string", "Who proposes."), "default": ""},
    *_OCCASION,
    _optional("priority", "string", "critical, normal or low; the definition's unless given."),
    _column("issued_at", _TIMESTAMP, "When it was first sent; a retry keeps it."),
    _column("base_version", "long", "Version of the state that it is based on; 0 for an entity never seen."),
    _optional("base_incarnation", "long", "Incarnation of that state; 0 for an entity never seen; null: not compared."),
    _optional("valid_until", _TIMESTAMP, "When it expires; the definition's valid_for bounds it."),
)

_READ_AT: Final = _optional("read_at", _TIMESTAMP, "When the state was read that it is based on.")
"""Of proposals only where the definition asks for it (`max_state_age`), and so all who know that definition: others
neither write nor read it, and contracts without it stay what they were."""

_REMARKS: Final = (
    {**_column("rationale", "string", "Why, for people; never part of the decision."), "default": ""},
    _optional("model", "string", "Which model thought of it."),
    {
        **_column("metadata", {"type": "map", "values": "string"}, "Anything else; never part of the decision."),
        "default": {},
    },
)

_CHANGE: Final = (
    _column("placet_topic", "string", "Topic of the input."),
    _column("placet_task_epoch", "long", "Which opening of the task decided."),
    _column("placet_sequence", "long", "Number of the transaction: counts up from 1, over all task epochs."),
    _column("placet_decided_at", _TIMESTAMP, "The batch's time of decision."),
    _column("placet_definition_digest", "bytes", "16 bytes: the definition that was in force."),
    _column("placet_offset", "long", "Offset of the input."),
    _column("placet_log_time", _TIMESTAMP, "The broker's append time of the input, made monotone per task."),
    _column("placet_event_time", _TIMESTAMP, "When it happened."),
    _column("placet_kind", "string", "SIGNAL, PROPOSAL or TIMER: what caused it."),
    _column("placet_name", "string", "Name of the signal or proposal."),
    _column("placet_input_id", "string", "Its id."),
    _column("placet_dedup_key", "string", "The occasion; empty when the entity itself remembers it."),
    _column("placet_payload_digest", "bytes", "16 bytes over name and canonical payload."),
    _column("placet_proposer", "string", "Who proposed, or the signal's source."),
    _column("placet_entity_id", "string", "The entity, which is the record's key too."),
    _column("placet_incarnation", "long", "The life: log time of the input that created the entity last."),
    _column("placet_version", "long", "Version of the entity after this change."),
    _column("placet_status", "string", "Status after this change."),
    _optional("placet_deleted_at", _TIMESTAMP, "Log time of the deletion, while the entity is absent."),
)


def contracts(definition: Definition) -> Contracts:
    """Generate an entity type's schemas, in namespaces that begin with `placet.<entity>`."""
    namespace = f"placet.{definition.entity}"
    signals = {name: rule.payload for name, rule in definition.signals.items()}
    proposals = {name: rule.payload for name, rule in definition.proposals.items()}
    read_at = [_READ_AT] if definition.asks_read_at else []
    state = [_optional(name, _type(field), field.doc) for name, field in definition.fields.items()]
    return Contracts(
        _record("Signal", namespace, "A fact.", [*_SIGNAL, _payload("signal", namespace, signals)]),
        _record(
            "Proposal",
            namespace,
            "A change that somebody would like.",
            [*_PROPOSAL, *read_at, _payload("proposal", namespace, proposals), *_REMARKS],
        ),
        _record("Change", namespace, "The state after a change, and the change's cause.", [*_CHANGE, *state]),
    )


def payload_record(kind: str, entity: str, name: str) -> str:
    """Return the full name of the record that carries the payload of a signal or proposal.

    Args:
        kind: "signal" or "proposal".
        entity: the entity type.
        name: snake_case; only underscores before a letter go, so that `a_1` and `a1` have two records.
    """
    return f"placet.{entity}.{kind}.{_WORD.sub(lambda word: word[1].upper(), name)}"


def _record(name: str, namespace: str, doc: str, fields: list[Schema]) -> Schema:
    return {"type": "record", "name": name, "namespace": namespace, "doc": doc, "fields": fields}


def _payload(kind: str, namespace: str, payloads: Mapping[str, Mapping[str, Field]]) -> Schema:
    """Return the column of payloads: null alone where there are no names yet."""
    branches: list[object] = []
    for name, fields in payloads.items():
        where, _, short = payload_record(kind, namespace.rpartition(".")[2], name).rpartition(".")
        columns = [_payload_column(field_name, field) for field_name, field in fields.items()]
        branches.append(_record(short, where, f"Payload of `{name}`.", columns))
    return _column("payload", branches or ["null"], "What it says: the record that belongs to its name.")


def _payload_column(name: str, field: Field) -> Schema:
    kind = _type(field)
    if not field.has_default:
        return _optional(name, kind, field.doc) if field.optional else _column(name, kind, field.doc)
    if field.optional and field.default is None:
        return _optional(name, kind, field.doc)
    typed = [kind, "null"] if field.optional else kind  # Avro: a default belongs to the first branch
    return {**_column(name, typed, field.doc), "default": default_json(field)}


def _type(field: Field) -> str | Schema:
    if field.items:
        return {"type": "array", "items": _TYPES[field.items]}
    if field.values:
        return {"type": "map", "values": _TYPES[field.values]}
    if field.precision:
        return {"type": "bytes", "logicalType": "decimal", "precision": field.precision, "scale": field.scale or 0}
    return _TYPES[field.type]


def default_json(field: Field) -> Any:
    """Return a default as Avro writes it into a schema: a decimal as a string of its bytes."""
    if field.precision is None:
        return field.default
    written = writer_of(Scalar("bytes", "decimal", field.precision, field.scale or 0)).encoded(field.default)
    return written[1:].decode("latin-1")  # without the length, which is one byte: 38 digits have 16
