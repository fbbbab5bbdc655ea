"""From bytes to a ruling and what follows from it: the whole of one input, pure, for the task and for replays alike."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from placet.processors.address import ENTITY_ID_BYTES_MAX, broken_rule, misplaced
from placet.processors.decide import decide, refuse_undecoded
from placet.processors.machine import Machine
from placet.processors.occasion import Occasion, occasion_of
from placet.schemas.decision import Coordinates, Decision, Outcome, Reason
from placet.schemas.errors import DecodeError, InvalidPayload, UnknownSchema
from placet.schemas.ledger import AppliedEntry, MemoryEntry
from placet.schemas.messages import Kind, Message
from placet.schemas.state import UNSEEN, Change, EntityState, Memory

__all__ = [
    "NO_CONSEQUENCES",
    "Candidate",
    "Consequences",
    "Decoder",
    "Judged",
    "View",
    "consequences",
    "judge",
    "read",
    "rule_on",
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


class Judged(NamedTuple):
    """A decision, the message where it was one, and the states before and after it."""

    decision: Decision
    message: Message | None = None
    before: EntityState = UNSEEN
    after: EntityState = UNSEEN


class Candidate(NamedTuple):
    """A message that may be decided: its name is known, its payload fits, and it names its occasion."""

    message: Message
    occasion: Occasion


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
    partition: int,
    partitions: int,
    log_time: int,
    decided_at: int,
) -> Judged:
    """Judge one record. Never raises on account of what is in it: nothing that is sent may block a partition."""
    candidate = read(machine, decoder, kind, key, value, partition, partitions)
    if isinstance(candidate, Judged):
        return candidate
    return rule_on(machine, view, candidate, key, partition, partitions, log_time, decided_at)


def read(
    machine: Machine,
    decoder: Decoder,
    kind: Kind,
    key: bytes | None,
    value: bytes | None,
    partition: int,
    partitions: int,
) -> Candidate | Judged:
    """Do what needs no state: decode, check sizes, names and values. What is refused here is judged already."""
    if value is None:
        return Judged(_undecoded(kind, Reason.UNDECODABLE, "the record has no value", key))
    try:
        message = decoder.decode(kind, value)
    except InvalidPayload as error:
        stray = misplaced(key, error.entity_id, partition, partitions) if error.entity_id else None
        return Judged(_undecoded(kind, *(stray or (Reason.INVALID_PAYLOAD, str(error))), key, error))
    except UnknownSchema as error:
        return Judged(_undecoded(kind, Reason.UNKNOWN_SCHEMA, str(error), key))
    except DecodeError as error:
        return Judged(_undecoded(kind, Reason.UNDECODABLE, str(error), key))
    broken = broken_rule(machine, message)
    if broken is None:
        occasion = occasion_of(machine.rules[kind, message.name], message)
        if not isinstance(occasion, str):
            return Candidate(message, occasion)
        broken = Reason.INVALID_PAYLOAD, occasion
    stray = misplaced(key, message.entity_id, partition, partitions)
    return Judged(_refused(*(stray or broken), message), message)


def rule_on(
    machine: Machine,
    view: View,
    candidate: Candidate,
    key: bytes | None,
    partition: int,
    partitions: int,
    log_time: int,
    decided_at: int,
) -> Judged:
    """Decide on what was read, against the state."""
    message, occasion = candidate
    state = view.state(message.entity_id)
    # An entity that has a state here was at the right place when it got it: no need to hash its key again.
    if state is UNSEEN or key != message.entity_id.encode():
        stray = misplaced(key, message.entity_id, partition, partitions)
        if stray:
            return Judged(_refused(*stray, message), message)
    memory = view.memory(message.kind, message.entity_id, occasion.dedup_key) if occasion.dedup_key else None
    decision, after = decide(machine, state, message, occasion, memory, log_time, decided_at)
    return Judged(decision, message, state, after)


def consequences(judged: Judged, at: Coordinates) -> Consequences:
    """Return what an accepted input writes: a change, or the memory that no change carries."""
    decision, message, before, after = judged
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
