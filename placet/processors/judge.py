"""Judges one input, from its bytes to the decision and its consequences. Pure: the task and replays both use it."""

from __future__ import annotations

from typing import Final, Protocol, TypeAlias, final

from placet.processors.address import ENTITY_ID_BYTES_MAX, Place, address_error, broken_envelope
from placet.processors.dedup import CheckedInput, identified
from placet.processors.ladder import Times, decide, decide_timer, refuse_undecoded
from placet.processors.machine import InputRule, Machine
from placet.processors.refusal import Refusal
from placet.processors.rules import Rules
from placet.schemas.decision import Coordinates, Decision, Outcome, Reason
from placet.schemas.definition.timers import TimerRule
from placet.schemas.errors import DecodeError, InvalidPayload, UnknownSchema
from placet.schemas.ledger import AppliedEntry, Counted, Disarmed, MemoryEntry, counted_parts
from placet.schemas.memory import Memory
from placet.schemas.messages import Kind, Message
from placet.schemas.state import UNSEEN, Change, EntityState

__all__ = [
    "Entry",
    "Verdict",
    "View",
    "check_input",
    "check_message",
    "consequences",
    "decide_input",
    "fire",
    "judge",
    "unknown_schema",
]


_ACCEPTED: Final = Outcome.ACCEPTED  # looked up once: in Python 3.11 naming a member of an enum is slow
_NO_TRANSITIONS: Final = TimerRule.model_construct(transitions=())


class View(Protocol):
    """What was committed, or staged before in the same transaction."""

    def state(self, entity_id: str) -> EntityState:
        """Return an entity's state, `UNSEEN` when there is none."""
        ...

    def memory(self, kind: Kind, entity_id: str, dedup_key: str) -> Memory | None:
        """Return what is remembered under a dedup key."""
        ...


@final
class Verdict:
    """A decision, the message if the bytes decoded, and the entity's states before and after the decision."""

    def __init__(
        self,
        decision: Decision,
        message: Message | None = None,
        before: EntityState = UNSEEN,
        after: EntityState = UNSEEN,
    ) -> None:
        self.decision = decision
        self.message = message
        self.before = before
        self.after = after


Entry: TypeAlias = Change | MemoryEntry | AppliedEntry | Disarmed | Counted
"""What follows from an accepted input besides its decision."""


def judge(
    rules: Rules,
    view: View,
    kind: Kind,
    key: bytes | None,
    value: bytes | None,
    place: Place,
    times: Times,
) -> Verdict:
    """Judge one record. Never raises on account of what is in it: nothing that is sent may block a partition."""
    checked = check_input(rules, kind, key, value, place)
    if isinstance(checked, Verdict):
        return checked
    return decide_input(rules, view, checked, key, place, times)


def check_input(
    rules: Rules, kind: Kind, key: bytes | None, value: bytes | None, place: Place
) -> CheckedInput | Verdict:
    """Do what needs no state: decode, check sizes, names and values. What is refused here is decided already."""
    if value is None:
        return Verdict(_undecoded(kind, Reason.UNDECODABLE, "the record has no value", key))
    try:
        message = rules.codec.decode(kind, value)
    except InvalidPayload as error:
        misplaced = address_error(key, error.entity_id, place) if error.entity_id else None
        refusal = misplaced or Refusal(Reason.INVALID_PAYLOAD, str(error))
        return Verdict(_undecoded(kind, refusal.reason, refusal.detail, key, error))
    except UnknownSchema as error:
        return Verdict(unknown_schema(kind, str(error), key))
    except DecodeError as error:
        return Verdict(_undecoded(kind, Reason.UNDECODABLE, str(error), key))
    checked = check_message(rules.machine, message)
    if not isinstance(checked, str):
        return checked
    misplaced = address_error(key, message.entity_id, place)
    return Verdict(_refused(misplaced or Refusal(Reason.INVALID_PAYLOAD, checked), message), message)


def unknown_schema(kind: Kind, detail: str, key: bytes | None) -> Decision:
    """Return the refusal of an input whose schema nobody knew when it was decided."""
    return _undecoded(kind, Reason.UNKNOWN_SCHEMA, detail, key)


def check_message(machine: Machine, message: Message) -> CheckedInput | str:
    """Return a message as one that may be decided, or a sentence that says what is wrong with it (rung 1)."""
    wrong = broken_envelope(message)
    if wrong:
        return wrong
    rule = machine.rules.get((message.kind, message.name))
    if rule is None:
        return f"the definition has no {message.kind.name.lower()} `{message.name}`"
    return rule.check_payload(message.payload) or identified(rule, message)


def decide_input(
    rules: Rules, view: View, checked: CheckedInput, key: bytes | None, place: Place, times: Times
) -> Verdict:
    """Decide on what was read, against the state."""
    message, dedup_key = checked.message, checked.dedup_key
    entity_id = message.entity_id
    state = view.state(entity_id)
    # An entity that has a state here was at the right place when it got it: no need to hash its key again.
    if state is UNSEEN or key != entity_id.encode():
        misplaced = address_error(key, entity_id, place)
        if misplaced is not None:
            return Verdict(_refused(misplaced, message), message)
    memory = view.memory(message.kind, entity_id, dedup_key) if dedup_key else None
    decision, after = decide(rules.machine, state, checked, memory, times)
    return Verdict(decision, message, state, after)


def fire(rules: Rules, view: View, entity_id: str, name: str, times: Times) -> Verdict:
    """Judge a timer that is due.

    Args:
        rules: those in force; one that they do not have any more is refused.
        view: what is known.
        entity_id: the entity.
        name: of a timer that is armed in its state.
        times: when it is judged; its log time is not before the timer is due.
    """
    state = view.state(entity_id)
    armed = (state.armed or {})[name]
    input_id = f"{name}/{state.incarnation}/{armed.version}"
    message = Message(Kind.TIMER, name, input_id, entity_id, {}, armed.due, armed.due)
    rule = rules.machine.rules.get((Kind.TIMER, name)) or InputRule(Kind.TIMER, name, _NO_TRANSITIONS)
    decision, after = decide_timer(rules.machine, state, CheckedInput(message, rule, "", b""), times)
    return Verdict(decision, message, state, after)


def consequences(verdict: Verdict, at: Coordinates) -> list[Entry]:
    """Return what an input writes besides its decision: a change, or what no change carries."""
    decision, message, before, after = verdict.decision, verdict.message, verdict.before, verdict.after
    if decision.timer is not None and not decision.changed:
        life, armed = decision.timer
        fired = Disarmed(decision.entity_id, life, decision.name, armed, at.task_epoch, at.sequence)
        return [fired] if after.counts is before.counts else [fired, _counted(after, decision.entity_id, at)]
    if decision.outcome is not _ACCEPTED or message is None:
        return []
    if decision.changed:
        return [
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
        ]
    entries: list[Entry] = []
    if decision.dedup_key:
        memory = Memory(decision.payload_digest, message.input_id, after.version, at.log_time)
        kind = int(message.kind)
        entries.append(MemoryEntry(kind, message.entity_id, decision.dedup_key, memory, at.task_epoch, at.sequence))
    newest = after.applied.get(message.name)
    if newest is not None and newest is not before.applied.get(message.name):
        entries.append(
            AppliedEntry(message.entity_id, after.incarnation, message.name, newest, at.task_epoch, at.sequence)
        )
    if after.counts is not before.counts:
        entries.append(_counted(after, message.entity_id, at))
    return entries


def _counted(after: EntityState, entity_id: str, at: Coordinates) -> Counted:
    parts = counted_parts(after.counts or {})
    return Counted(entity_id, after.incarnation, after.version, at.log_time, parts, at.task_epoch, at.sequence)


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


def _refused(refusal: Refusal, message: Message) -> Decision:
    return refuse_undecoded(
        message.kind,
        refusal.reason,
        refusal.detail,
        entity_id=message.entity_id,
        name=message.name,
        input_id=message.input_id,
    )
