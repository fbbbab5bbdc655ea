"""What comes in, between a record's values and a message: does the payload belong to the name?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, final

from placet.schemas.avro.scalar_readers import Unfit
from placet.schemas.avro.schema import Record
from placet.schemas.avro.writer import RecordWriter
from placet.schemas.codec.contracts import payload_record
from placet.schemas.codec.writer_schemas import WriterSchemas
from placet.schemas.definition.field_types import accepts, expected, widening
from placet.schemas.definition.model import Definition, Field
from placet.schemas.errors import InvalidPayload
from placet.schemas.messages import Kind, Message, Priority, Value

__all__ = [
    "InputReader",
    "ProposalReader",
    "Remarks",
    "SignalReader",
    "made_message",
    "message_writer",
]

_SHOWN_MAX: Final = 512
"""Characters of anything from outside that an error repeats."""
_SIGNAL: Final = Kind.SIGNAL
_PROPOSAL: Final = Kind.PROPOSAL
_READ_AT: Final = 11
"""The place of `read_at` in a Proposal's values, where it has any."""
_PRIORITIES: Final = {priority.name.lower(): priority for priority in Priority}


class Remarks(NamedTuple):
    """What a proposer says beside the proposal; no part of any decision."""

    rationale: str = ""
    model: str = ""
    metadata: Mapping[str, str] = {}


class InputReader:
    """Reads one kind of input: bytes to messages.

    Args:
        schemas: the ways in which the kind is written.
        branches: the record of the payload of each name.
    """

    def __init__(self, schemas: WriterSchemas, branches: dict[str, str]) -> None:
        self._schemas = schemas
        self._branches = branches

    def message(self, value: bytes) -> Message:
        """Return an input's message.

        Raises:
            InvalidPayload: a record of the contract whose name is unknown, or whose payload does not fit it.
            DecodeError: the bytes are no record of this kind.
        """
        try:
            values = self._schemas.values(value)
        except Unfit as error:
            raise invalid_payload(str(error), *error.values[:3]) from None
        return self.message_of(values)

    def message_of(self, values: list[Any]) -> Message:
        """Return the message in a record's values."""
        raise NotImplementedError

    def payload_of(
        self, choice: tuple[str, dict[str, Value]], input_id: str, entity_id: str, name: str
    ) -> dict[str, Value]:
        """Return what was chosen of the payloads, if it belongs to the input's name."""
        branch, payload = choice
        if self._branches.get(name) != branch:
            raise _mismatch(self._branches, input_id, entity_id, name, branch)
        return payload


@final
class SignalReader(InputReader):
    """Reads signals."""

    def __init__(self, schemas: WriterSchemas, definition: Definition) -> None:
        super().__init__(
            schemas, {name: payload_record("signal", definition.entity, name) for name in definition.signals}
        )

    def message_of(self, values: list[Any]) -> Message:
        """Return the message in a Signal's values."""
        input_id, entity_id, name, source, dedup_key, caused_by, event_time, issued_at, choice = values
        payload = self.payload_of(choice, input_id, entity_id, name)
        return Message(
            _SIGNAL, name, input_id, entity_id, payload, event_time, issued_at, dedup_key, caused_by,
            None, 0, None, None, source,
        )  # fmt: skip


@final
class ProposalReader(InputReader):
    """Reads proposals."""

    def __init__(self, schemas: WriterSchemas, definition: Definition) -> None:
        super().__init__(
            schemas, {name: payload_record("proposal", definition.entity, name) for name in definition.proposals}
        )
        self._asks_read_at = definition.asks_read_at
        self._usual = {name: rule.priority for name, rule in definition.proposals.items()}

    def message_of(self, values: list[Any]) -> Message:
        """Return the message in a Proposal's values."""
        read_at = values.pop(_READ_AT) if self._asks_read_at else None
        (
            input_id, entity_id, name, proposer, dedup_key, caused_by, given, issued_at, base_version,
            base_incarnation, valid_until, choice, _rationale, _model, _metadata,
        ) = values  # fmt: skip
        payload = self.payload_of(choice, input_id, entity_id, name)
        priority = self._usual[name] if given is None else _PRIORITIES.get(given)
        if priority is None:
            sentence = f"priority `{_short(given)}` is none of {', '.join(_PRIORITIES)}"
            raise invalid_payload(sentence, input_id, entity_id, name)
        return Message(
            _PROPOSAL, name, input_id, entity_id, payload, issued_at, issued_at, dedup_key, caused_by,
            valid_until, base_version, base_incarnation, priority, proposer, read_at,
        )  # fmt: skip


def _mismatch(branches: Mapping[str, object], input_id: str, entity_id: str, name: str, branch: str) -> InvalidPayload:
    if name not in branches:
        known = ", ".join(branches) or "none"
        sentence = f"the definition has no `{_short(name)}`; it has {known}"
    else:
        sentence = f"the payload of `{name}` is a {branches[name]}, not a {_short(branch)}"
    return invalid_payload(sentence, input_id, entity_id, name)


def invalid_payload(sentence: str, input_id: object, entity_id: object, name: object) -> InvalidPayload:
    """Return the refusal of an input, with what is known of it, cut: it goes into a decision, and may be hostile."""
    known = [_short(part) if isinstance(part, str) else "" for part in (input_id, entity_id, name)]
    return InvalidPayload(_short(sentence), input_id=known[0], entity_id=known[1], name=known[2])


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


def message_writer(definition: Definition, kind: Kind, record: Record) -> Callable[[Message, Remarks], bytes]:
    """Compile the way from a message to a record's body, for clients: every value is checked first.

    The function raises InvalidPayload, which names the field.
    """
    rules = definition.signals if kind is Kind.SIGNAL else definition.proposals
    payloads = {name: rule.payload for name, rule in rules.items()}
    checks = {
        name: {field_name: (widening(field), accepts(field)) for field_name, field in fields.items()}
        for name, fields in payloads.items()
    }
    body = RecordWriter(record)

    def write(message: Message, remarks: Remarks) -> bytes:
        name = message.name
        if name not in payloads:
            raise _mismatch(payloads, message.input_id, message.entity_id, name, "")
        _check_envelope({part: getattr(message, part) for part in _ENVELOPE})
        _check_remarks(message, remarks)
        payload = _complete(message, payloads[name], checks[name])
        choice = (payload_record(kind.name.lower(), definition.entity, name), payload)
        values = _signal_values(message) if kind is Kind.SIGNAL else _proposal_values(definition, message, remarks)
        try:
            return body.encoded({**values, "payload": choice})
        except ValueError as error:  # a number of more than 64 bits, half a surrogate pair
            raise InvalidPayload(str(error), name=name) from None

    return write


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_long(value: object) -> bool:
    return type(value) is int


_ENVELOPE: Final[dict[str, Callable[[object], bool]]] = {
    "name": _is_text,
    "input_id": _is_text,
    "entity_id": _is_text,
    "proposer": _is_text,
    "dedup_key": lambda value: value is None or _is_text(value),
    "caused_by": lambda value: value is None or _is_text(value),
    "event_time": _is_long,
    "issued_at": _is_long,
    "base_version": _is_long,
    "valid_until": lambda value: value is None or _is_long(value),
    "read_at": lambda value: value is None or _is_long(value),
    "base_incarnation": lambda value: value is None or _is_long(value),
}
"""What the parts of a message may be."""


def made_message(kind: Kind, name: str, **parts: Any) -> Message:
    """Return a message of what a caller gives, whatever that is.

    Raises:
        InvalidPayload: a part is of a wrong type; it is named.
    """
    _check_envelope({"name": name, **parts})
    return Message(kind, name, **parts)


def _check_envelope(parts: Mapping[str, object]) -> None:
    for part, fits in _ENVELOPE.items():
        if part in parts and not fits(parts[part]):
            raise InvalidPayload(f"`{part}` is of a wrong type", name=str(parts["name"]))


def _check_remarks(message: Message, remarks: Remarks) -> None:
    texts = (remarks.rationale, remarks.model, *remarks.metadata, *remarks.metadata.values())
    if not all(isinstance(text, str) for text in texts):
        raise InvalidPayload("`rationale, model or metadata` is of a wrong type", name=message.name)


def _complete(
    message: Message,
    fields: Mapping[str, Field],
    checks: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], bool]]],
) -> dict[str, Value]:
    """Return the payload with its defaults, whole numbers as doubles where those are asked; or say what is wrong."""
    given = message.payload
    for name in given:
        if name not in fields:
            raise _wrong(message, f"`{name}` is no field of `{message.name}`; it has {', '.join(fields) or 'none'}")
    payload: dict[str, Value] = {}
    for name, field in fields.items():
        if name not in given and not field.has_default and not field.optional:
            raise _wrong(message, f"`{name}` is missing: {expected(field)}")
        widen, fits = checks[name]
        payload[name] = widen(given.get(name, field.default))
        if not fits(payload[name]):
            raise _wrong(message, f"`{name}` is {payload[name]!r}: expected {expected(field)}")
    return payload


def _wrong(message: Message, sentence: str) -> InvalidPayload:
    return invalid_payload(sentence, message.input_id, message.entity_id, message.name)


def _signal_values(message: Message) -> dict[str, Any]:
    return {
        "signal_id": message.input_id,
        "entity_id": message.entity_id,
        "name": message.name,
        "dedup_key": message.dedup_key,
        "caused_by": message.caused_by,
        "event_time": message.event_time,
        "issued_at": message.issued_at,
        "source": message.proposer,
    }


def _proposal_values(definition: Definition, message: Message, remarks: Remarks) -> dict[str, Any]:
    usual = definition.proposals[message.name].priority
    return {
        "proposal_id": message.input_id,
        "entity_id": message.entity_id,
        "name": message.name,
        "dedup_key": message.dedup_key,
        "caused_by": message.caused_by,
        "issued_at": message.issued_at,
        "base_version": message.base_version,
        "base_incarnation": message.base_incarnation,
        "valid_until": message.valid_until,
        **({"read_at": message.read_at} if definition.asks_read_at else {}),
        "priority": None if message.priority in (None, usual) else message.priority.name.lower(),
        "proposer": message.proposer,
        "rationale": remarks.rationale,
        "model": remarks.model or None,
        "metadata": dict(remarks.metadata),
    }
