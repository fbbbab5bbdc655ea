"""The decision ladder: one input against one state, early returns, the happy path last.

Pure and total: no clock, no I/O, no exception for a refusal. The order of the rungs is part of the contract: a repeat
of an accepted proposal hears of the first decision, not "stale". Rung 1 is in `judge.py`, which refuses with
`refuse_undecoded`; `decide` starts with rung 2.
"""

from __future__ import annotations

from typing import Final, final

from placet.processors.dedup import CLOCK_AHEAD_MAX_MS, CheckedInput, memory_is_live
from placet.processors.evolve import evolve
from placet.processors.machine import Dedup, Failed, Fence, InputRule, Machine, Scope, Transition
from placet.processors.refusal import Refusal
from placet.processors.windows import KEPT_ALWAYS, NO_VALUES, first_limit_broken, values_of
from placet.schemas.decision import Conflict, Decision, Fired, First, Outcome, Reason
from placet.schemas.ledger import KeptWindow
from placet.schemas.memory import Applied, Memory
from placet.schemas.messages import Kind, Message
from placet.schemas.state import EVERY_FIELD, EntityState

__all__ = ["LADDER", "LADDERS", "Times", "decide", "decide_timer", "refuse_undecoded"]

LADDER: Final = 1
"""Version of the ladder, with what a state becomes: counted up whenever some input would be decided otherwise.

It stands in each commit and each publication: an input is decided again by the ladder that decided it, or not at all.
"""
LADDERS: Final = range(1, LADDER + 1)
"""The versions that this release can run."""

# Looked up once: in Python 3.11 naming a member of an enum costs more than a rung.
_ACCEPTED: Final = Outcome.ACCEPTED
_DUPLICATE: Final = Outcome.DUPLICATE
_REFUSED: Final = Outcome.REFUSED
_REPEATED: Final = Reason.REPEATED
_EXPIRED: Final = Reason.EXPIRED
_STALE: Final = Reason.STALE
_PROPOSAL: Final = Kind.PROPOSAL
_ONCE: Final = Dedup.ONCE
_NEWEST: Final = Dedup.NEWEST
_NO_FENCE: Final = Fence.NONE
_FIELDS: Final = Fence.FIELDS

_NOTHING_AGAINST: Final = Refusal(Reason.NONE)


@final
class Times:
    """When an input is judged, in ms since the epoch.

    Attributes:
        log_time: the broker's append time of the input, made monotone per task.
        decided_at: the gate's clock, read once for the whole batch, made monotone too.
        kept: the windows that the task keeps, by name.
    """

    def __init__(self, log_time: int, decided_at: int, kept: dict[str, KeptWindow] = KEPT_ALWAYS) -> None:
        self.log_time = log_time
        self.decided_at = decided_at
        self.kept = kept

    def at_least(self, log_time: int) -> Times:
        """Return the times of an input with this append time: log time never steps back."""
        return self if log_time <= self.log_time else Times(log_time, self.decided_at, self.kept)


def refuse_undecoded(
    kind: Kind, reason: Reason, detail: str, *, entity_id: str = "", name: str = "", input_id: str = ""
) -> Decision:
    """Refuse an input that never became a message (rung 1): `detail` says why, the rest as far as it is known."""
    return Decision(
        _REFUSED, reason, kind, name, input_id, entity_id, "", b"", False, 0, 0, 0, "", "", detail
    )  # fmt: skip


def decide(
    machine: Machine, state: EntityState, checked: CheckedInput, memory: Memory | None, times: Times
) -> tuple[Decision, EntityState]:
    """Judge one decoded input.

    Args:
        machine: the compiled definition.
        state: the entity's state before; `UNSEEN` for one never seen.
        checked: the input, of the right partition and key.
        memory: what is remembered under its dedup key, or None.
        times: when it is judged.

    Returns:
        The decision, and the state after it: the same object as before if nothing has to be stored.
    """
    found = _judged(machine, state, checked, memory, times)
    if isinstance(found, Refusal):
        outcome = _DUPLICATE if found.reason is _REPEATED else _REFUSED
        return _answer(outcome, found, state, state, checked), state
    return _answer(_ACCEPTED, _NOTHING_AGAINST, state, found, checked), found


def _judged(
    machine: Machine, state: EntityState, checked: CheckedInput, memory: Memory | None, times: Times
) -> EntityState | Refusal:
    """Go down the rungs: the first refusal, or the state after."""
    rule, message = checked.rule, checked.message
    log_time = times.log_time
    refusal = (
        _repeated(rule, state, checked, memory, log_time, machine.horizon_ms)
        or _out_of_time(machine, message, log_time)
        or _expired(rule, message, times.decided_at)
    )
    if refusal is not None:
        return refusal
    if rule.max_state_age_ms is not None:
        refusal = _state_too_old(rule.max_state_age_ms, message, times)
        if refusal is not None:
            return refusal
    if rule.limits:
        scope = _scope(machine, state, message, times)
        refusal = first_limit_broken(rule.limits, state.counts, times.kept, scope, log_time)
        if refusal is not None:
            return refusal
    newer = _newer(rule, state, message) if rule.asks_for_late else None
    transitions = (rule.transitions if newer is None else rule.compensating).get(state.status)
    if transitions is None:
        return _without_transition(rule, state, message, newer)
    refusal = _fenced(rule, state, message)
    if refusal is not None:
        return refusal
    return _moved(machine, state, transitions, checked, times)


def decide_timer(
    machine: Machine, state: EntityState, checked: CheckedInput, times: Times
) -> tuple[Decision, EntityState]:
    """Judge a timer that is due: by the same table, without the rungs that ask whether an input is new, late or stale.

    Args:
        machine: the compiled definition.
        state: the entity's state before, in which the timer is armed.
        checked: the timer as an input.
        times: when it is judged.

    Returns:
        The decision, and the state after it: one in which it is armed no more, unless it armed itself anew.
    """
    armed = (state.armed or {})[checked.rule.name]
    disarmed = state.disarmed(checked.rule.name)
    transitions = checked.rule.transitions.get(state.status)
    if transitions is None:
        found: EntityState | Refusal = Refusal(
            Reason.ILLEGAL_TRANSITION, f"no timer `{checked.rule.name}` from `{state.status}`"
        )
    else:
        found = _moved(machine, disarmed, transitions, checked, times)
    if isinstance(found, Refusal):
        decision, after = _answer(_REFUSED, found, state, state, checked), disarmed
    else:
        decision, after = _answer(_ACCEPTED, _NOTHING_AGAINST, state, found, checked), found
    decision.timer = Fired(state.incarnation, armed.version)
    return decision, after


def _moved(
    machine: Machine, state: EntityState, transitions: tuple[Transition, ...], checked: CheckedInput, times: Times
) -> EntityState | Refusal:
    """Rung 10: the state after the first transition whose guard holds."""
    scope = _scope(machine, state, checked.message, times)
    transition = _first_that_holds(transitions, scope)
    if isinstance(transition, Refusal):
        return transition
    return evolve(machine, state, transition, scope, checked, times.kept, times.log_time)


def _scope(machine: Machine, state: EntityState, message: Message, times: Times) -> Scope:
    """What expressions see. An earlier version may have had fewer fields, or others: they are as this one has them."""
    fields, initial, windows = state.fields, machine.initial_fields, machine.windows
    if fields.keys() != initial.keys():
        fields = {name: fields.get(name, default) for name, default in initial.items()}
    return Scope(
        fields,
        message.payload,
        state.status,
        state.version,
        message.entity_id,
        message.event_time,
        times.decided_at,
        message.proposer,
        values_of(windows, state.counts, message.proposer, times.kept, times.log_time) if windows else NO_VALUES,
    )


def _repeated(
    rule: InputRule,
    state: EntityState,
    checked: CheckedInput,
    memory: Memory | None,
    log_time: int,
    horizon_ms: int,
) -> Refusal | None:
    """Rung 2: was this occasion applied before?"""
    if memory is not None:
        if not memory_is_live(memory, log_time, horizon_ms):
            return None
        first, digest = First(memory.input_id, memory.version, memory.log_time), memory.payload_digest
    else:
        applied = state.applied.get(rule.name)
        if applied is None or rule.dedup not in (_ONCE, _NEWEST):
            return None
        if rule.dedup is _NEWEST and applied.event_time != checked.message.event_time:
            return None
        first, digest = First(applied.input_id, applied.version, applied.log_time), applied.payload_digest
    if digest == checked.payload_digest:
        return Refusal(_REPEATED, "", first)
    return Refusal(Reason.DEDUP_KEY_REUSED, "the same occasion was applied with another name or payload", first)


def _out_of_time(machine: Machine, message: Message, log_time: int) -> Refusal | None:
    """Rung 3: too old to be proved new, or from a clock that runs ahead."""
    if message.issued_at < log_time - machine.horizon_ms:
        return Refusal(
            Reason.TOO_LATE, f"issued {log_time - message.issued_at} ms ago; the horizon is {machine.horizon_ms} ms"
        )
    ahead_ms = max(message.issued_at, message.event_time) - log_time
    if ahead_ms > CLOCK_AHEAD_MAX_MS:
        return Refusal(Reason.CLOCK_AHEAD, f"{ahead_ms} ms ahead of the log; at most {CLOCK_AHEAD_MAX_MS} ms")
    return None


def _expired(rule: InputRule, message: Message, decided_at: int) -> Refusal | None:
    """Rung 4: valid until the time given, and never longer than the definition allows."""
    until = message.valid_until
    if rule.valid_for_ms is not None:
        bound = message.issued_at + rule.valid_for_ms
        until = bound if until is None else min(until, bound)
    if until is not None and until < decided_at:
        return Refusal(_EXPIRED, f"valid until {until}, decided at {decided_at}: {decided_at - until} ms late")
    return None


def _state_too_old(max_age_ms: int, message: Message, times: Times) -> Refusal | None:
    """Rung 4, for proposals that are thought of on a state for a while: how long ago was it read?"""
    read_at = message.read_at
    if read_at is None:
        return Refusal(Reason.STATE_TOO_OLD, "it does not say when the state was read: `read_at` is null")
    age_ms = times.decided_at - read_at
    if age_ms > max_age_ms:
        return Refusal(
            Reason.STATE_TOO_OLD,
            f"read at {read_at}, decided at {times.decided_at}: {age_ms} ms old; at most {max_age_ms} ms",
        )
    if age_ms < -CLOCK_AHEAD_MAX_MS:
        return Refusal(Reason.STATE_TOO_OLD, f"read_at {read_at} is no time of reading: decided {-age_ms} ms before it")
    return None


def _fenced(rule: InputRule, state: EntityState, message: Message) -> Refusal | None:
    """Rung 8: did what the proposal was based on change since?"""
    if rule.kind is not _PROPOSAL or rule.fence is _NO_FENCE:
        return None
    base = message.base_version
    if message.base_incarnation is not None and message.base_incarnation != state.incarnation:
        return Refusal(
            _STALE,
            f"based on incarnation {message.base_incarnation}, the entity is in {state.incarnation}: "
            "it was created, deleted and created again, or forgotten in between",
        )
    if base > state.version:
        return Refusal(Reason.VERSION_AHEAD, f"based on version {base}, the state is at {state.version}")
    if base == state.version:
        return None
    versions, detail = state.field_versions, f"based on version {base}, the state is at {state.version}"
    reborn = versions.get(EVERY_FIELD, 0)
    if reborn > max(base, 0):
        detail += "; the entity was deleted and created again in between"
    if rule.fence is _FIELDS:
        conflicts = _conflicts(base, {field: max(versions.get(field, 0), reborn) for field in rule.fence_fields})
        return Refusal(_STALE, detail, None, conflicts) if conflicts else None
    return Refusal(_STALE, detail, None, _conflicts(base, versions))


def _conflicts(base: int, versions: dict[str, int]) -> tuple[Conflict, ...]:
    by_version: dict[int, list[str]] = {}
    for field, version in versions.items():
        if version > base and field != EVERY_FIELD:
            by_version.setdefault(version, []).append(field)
    return tuple(Conflict(version, tuple(sorted(fields))) for version, fields in sorted(by_version.items()))


def _newer(rule: InputRule, state: EntityState, message: Message) -> Applied | None:
    """Return the newest applied fact of the same name, if this one is older: then it is late."""
    applied = state.applied.get(rule.name)
    return None if applied is None or applied.event_time <= message.event_time else applied


def _without_transition(rule: InputRule, state: EntityState, message: Message, newer: Applied | None) -> Refusal:
    """Rungs 7 and 9: nothing leads on from here, or nothing for a fact that is late. Facts have no rung 8."""
    if newer is not None and state.status in rule.transitions:
        return Refusal(
            Reason.SUPERSEDED,
            f"event_time {message.event_time} is older than the applied {newer.event_time}",
            First(newer.input_id, newer.version, newer.log_time),
        )
    return Refusal(
        Reason.IGNORED if rule.ignored_elsewhere else Reason.ILLEGAL_TRANSITION,
        f"no `{rule.name}` from `{state.status}`",
    )


def _first_that_holds(transitions: tuple[Transition, ...], scope: Scope) -> Transition | Refusal:
    """Rung 10, first half: the first transition whose guard holds. What can't be evaluated refuses (fails closed)."""
    for transition in transitions:
        if transition.guard is None:
            return transition
        held = transition.guard(scope)
        if held is True:
            return transition
        if held is not False:
            detail = held.detail if isinstance(held, Failed) else f"not a boolean: {held!r}"
            return Refusal(Reason.GUARD_ERROR, f"guard `{transition.guard_text}`: {detail}")
    return Refusal(Reason.GUARD_FAILED, "; ".join(f"`{transition.guard_text}` is false" for transition in transitions))


def _answer(
    outcome: Outcome, refusal: Refusal, before: EntityState, after: EntityState, checked: CheckedInput
) -> Decision:
    message = checked.message
    return Decision(
        outcome,
        refusal.reason,
        message.kind,
        message.name,
        message.input_id,
        message.entity_id,
        checked.dedup_key,
        checked.payload_digest,
        after.version != before.version,
        before.version,
        after.version,
        after.incarnation,
        before.status,
        after.status,
        refusal.detail,
        refusal.first,
        refusal.conflicts,
    )
