"""Judges one input, from its bytes to the decision and its consequences. Pure: the task and replays both use it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from placet.processors.address import ENTITY_ID_BYTES_MAX, Place, address_error, broken_rule
from placet.processors.dedup import DedupIdentity, dedup_identity_of
from placet.processors.ladder import Times, decide, refuse_undecoded
from placet.processors.machine import Machine
from placet.schemas.decision import Coordinates, Decision, Outcome, Reason
from placet.schemas.errors import DecodeError, InvalidPayload, UnknownSchema
from placet.schemas.ledger import AppliedEntry, MemoryEntry
from placet.schemas.messages import Kind, Message
from placet.schemas.state import UNSEEN, Change, EntityState, Memory

__all__ = [
    "NO_CONSEQUENCES",
    "CheckedInput",
    "Consequences",
    "Decoder",
    "Verdict",
    "View",
    "check_input",
    "consequences",
    "decide_input",
    "judge",
]


_ACCEPTED = Outcome.ACCEPTED  # looked up once: in Python 3.11 naming a member of an enum is slow


class Decoder(Protocol):
    """The one thing asked of the codec: bytes to a message."""

    def decode(self, kind: Kind, value: bytes) -> Message:
        """Return the message; raises `DecodeError` and nothing else."""
        ...


class View(Protocol):
    """What was committed, or staged before in the same transaction."""

    def state(self, entity_id: str) -> EntityState:
        """Return an entity's state, `UNSEEN` when there is none."""
        ...

    def memory(self, kind: Kind, entity_id: str, dedup_key: str) -> Memory | None:
        """Return what is remembered under a dedup key."""
        ...


class Verdict(NamedTuple):
    """A decision, the message if the bytes decoded, and the entity's states before and after the decision."""

    decision: Decision
    message: Message | None = None
    before: EntityState = UNSEEN
    after: EntityState = UNSEEN


class CheckedInput(NamedTuple):
    """A message that may be decided: its name is known, its payload fits, and it names its occasion."""

    message: Message
    identity: DedupIdentity


class Consequences(NamedTuple):
    """What an accepted input writes besides its decision."""

    change: Change | None = None
    memory: MemoryEntry | None = None
    applied: AppliedEntry | None = None


NO_CONSEQUENCES = Consequences()


def judge(
    machine: Machine,
    decoder: Decoder,
    view: View,
    kind: Kind,
    key: bytes | None,
    value: bytes | None,
    place: Place,
    times: Times,
) -> Verdict:
    """Judge one record. Never raises on account of what is in it: nothing that is sent may block a partition."""
    checked = check_input(machine, decoder, kind, key, value, place)
    if isinstance(checked, Verdict):
        return checked
    return decide_input(machine, view, checked, key, place, times)


def check_input(
    machine: Machine, decoder: Decoder, kind: Kind, key: bytes | None, value: bytes | None, place: Place
) -> CheckedInput | Verdict:
    """Do what needs no state: decode, check sizes, names and values. What is refused here is decided already."""
    if value is None:
        return Verdict(_undecoded(kind, Reason.UNDECODABLE, "the record has no value", key))
    try:
        message = decoder.decode(kind, value)
    except InvalidPayload as error:
        misplaced = address_error(key, error.entity_id, place) if error.entity_id else None
        return Verdict(_undecoded(kind, *(misplaced or (Reason.INVALID_PAYLOAD, str(error))), key, error))
    except UnknownSchema as error:
        return Verdict(_undecoded(kind, Reason.UNKNOWN_SCHEMA, str(error), key))
    except DecodeError as error:
        return Verdict(_undecoded(kind, Reason.UNDECODABLE, str(error), key))
    broken = broken_rule(machine, message)
    if broken is None:
        identity = dedup_identity_of(machine.rules[kind, message.name], message)
        if not isinstance(identity, str):
            return CheckedInput(message, identity)
        broken = Reason.INVALID_PAYLOAD, identity
    misplaced = address_error(key, message.entity_id, place)
    return Verdict(_refused(*(misplaced or broken), message), message)


def decide_input(
    machine: Machine, view: View, checked: CheckedInput, key: bytes | None, place: Place, times: Times
) -> Verdict:
    """Decide on what was read, against the state."""
    message, identity = checked
    state = view.state(message.entity_id)
    # An entity that has a state here was at the right place when it got it: no need to hash its key again.
    if state is UNSEEN or key != message.entity_id.encode():
        misplaced = address_error(key, message.entity_id, place)
        if misplaced:
            return Verdict(_refused(*misplaced, message), message)
    memory = view.memory(message.kind, message.entity_id, identity.dedup_key) if identity.dedup_key else None
    decision, after = decide(machine, state, message, identity, memory, times)
    return Verdict(decision, message, state, after)


def consequences(verdict: Verdict, at: Coordinates) -> Consequences:
    """Return what an accepted input writes: a change, or the memory that no change carries."""
    decision, message, before, after = verdict
    if decision.outcome is not _ACCEPTED or message is None:
        return NO_CONSEQUENCES
    if decision.changed:
        return Consequences(
            Change(
                message.entity_id,
                after,
                message.kind,
                message.name,
                message.input_id,
                decision.dedup_key,
                decision.payload_digest,
                message.event_time,
                at.log_time,
                at.decided_at,
                at.topic,
                at.offset,
                at.task_epoch,
                at.sequence,
                at.definition_digest,
                message.proposer,
            )
        )
    memory = applied = None
    if decision.dedup_key:
        remembered = Memory(decision.payload_digest, message.input_id, after.version, at.log_time)
        memory = MemoryEntry(
            int(message.kind), message.entity_id, decision.dedup_key, remembered, at.task_epoch, at.sequence
        )
    newest = after.applied.get(message.name)
    if newest is not None and newest is not before.applied.get(message.name):
        applied = AppliedEntry(message.entity_id, after.incarnation, message.name, newest, at.task_epoch, at.sequence)
    return Consequences(None, memory, applied)


def _undecoded(
    kind: Kind, reason: Reason, detail: str, key: bytes | None, known: InvalidPayload | None = None
) -> Decision:
    return refuse_undecoded(
        kind,
        reason,
        detail,
        entity_id=(key or b"")[:ENTITY_ID_BYTES_MAX].decode("utf-8", "replace"),
        name=known.name if known else "",
        input_id=known.input_id if known else "",
    )


def _refused(reason: Reason, detail: str, message: Message) -> Decision:
    return refuse_undecoded(
        message.kind,
        reason,
        detail,
        entity_id=message.entity_id,
        name=message.name,
        input_id=message.input_id,
    )
