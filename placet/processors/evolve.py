"""The state after an accepted input: values set, invariants kept, versions counted.

`version` counts changes: an input that leaves status and fields as they were bumps nothing. All right-hand sides see
the old state. Each creation begins a life, which `incarnation` names: fences compare it. A proposer that does not give
one is fenced by `EVERY_FIELD`, which changes when a deleted entity is created again.
"""

from __future__ import annotations

from typing import Final

from placet.processors.dedup import CheckedInput
from placet.processors.machine import Dedup, Failed, Machine, Scope, Transition
from placet.processors.refusal import Refusal
from placet.processors.timers import armed_after
from placet.processors.windows import counts_after
from placet.schemas.decision import Reason
from placet.schemas.ledger import KeptWindow
from placet.schemas.memory import Applied
from placet.schemas.messages import Kind, Value
from placet.schemas.state import ABSENT, EVERY_FIELD, EntityState
from placet.schemas.stored import encode_state

__all__ = ["STATE_BYTES_MAX", "evolve"]

STATE_BYTES_MAX: Final = 262_144
"""Largest encoded state, in bytes: every change writes it whole, and a restore reads it."""

_SIGNAL: Final = Kind.SIGNAL
_TIMER: Final = Kind.TIMER
_ONCE: Final = Dedup.ONCE


def evolve(
    machine: Machine,
    state: EntityState,
    transition: Transition,
    scope: Scope,
    checked: CheckedInput,
    kept: dict[str, KeptWindow],
    log_time: int,
) -> EntityState | Refusal:
    """Return the state after a transition, or why there is none.

    Args:
        machine: the compiled definition.
        state: the state before.
        transition: the one whose guard holds.
        scope: what its expressions see; `scope.fields` are the old fields, complete.
        checked: the input.
        kept: the windows that the task keeps, by name.
        log_time: the input's, ms.

    Returns:
        A new state with version + 1 where status or fields changed; one of the same version where only `applied`
        or what windows count did; the very same object where nothing did.
    """
    status = state.status if transition.target is None else transition.target
    fields = _fields_after(machine, transition, scope, status)
    if isinstance(fields, Refusal):
        return fields
    old = scope.fields
    changed = [name for name, value in fields.items() if value != old[name]] if fields != old else []
    if status != state.status:
        changed.append("status")
    carried = state.carried
    if carried and status == ABSENT:  # it goes with the entity; its defaults are not known here: all of it changes
        changed += [name for name in carried if name in state.field_versions]
        carried = None
    version = state.version + 1 if changed else state.version
    broken = _broken_invariant(machine, scope, fields, status, version)
    if broken is not None:
        return broken
    applied = _applied_after(state, checked, version, log_time)
    counts = state.counts
    if checked.rule.is_counted or (changed and counts is not None):
        counts = counts_after(machine.windows, counts, checked.message, kept, log_time)
    if changed:
        versions = {**state.field_versions, **dict.fromkeys(changed, version)}
        incarnation = state.incarnation
        if state.status == ABSENT and status != ABSENT:
            incarnation = max(log_time, incarnation + 1)  # two lives may begin in the same millisecond
            if state.version:
                versions[EVERY_FIELD] = version
        after = EntityState(
            version,
            incarnation,
            status,
            fields,
            versions,
            applied,
            log_time if status == ABSENT else 0,
            carried,
            armed_after(machine, state, status, fields, changed, version, log_time)
            if machine.arming or state.armed
            else None,
            counts,
        )
    elif counts is not state.counts:
        after = state.remembering(applied).counting(counts)
    else:
        return state if applied is state.applied else state.remembering(applied)
    size = len(encode_state(after)) - (carried is None)  # an empty place is not counted: the limit stays where it was
    if size > STATE_BYTES_MAX:
        return Refusal(Reason.STATE_TOO_LARGE, f"{size} bytes; at most {STATE_BYTES_MAX}")
    return after


def _applied_after(state: EntityState, checked: CheckedInput, version: int, log_time: int) -> dict[str, Applied]:
    """What the state remembers by name: signals by their newest event_time, and what happens once."""
    rule, message = checked.rule, checked.message
    if rule.kind is not _SIGNAL and (rule.kind is _TIMER or rule.dedup is not _ONCE):
        return state.applied
    before = state.applied.get(rule.name)
    if before is not None and before.event_time > message.event_time:
        return state.applied
    entry = Applied(message.event_time, message.input_id, checked.payload_digest, version, log_time)
    return {**state.applied, rule.name: entry}


def _fields_after(machine: Machine, transition: Transition, scope: Scope, status: str) -> dict[str, Value] | Refusal:
    if status == ABSENT:
        return dict(machine.initial_fields)
    fields = dict(scope.fields)
    for name, evaluate in transition.assignments:
        value = evaluate(scope)
        if isinstance(value, Failed):
            return Refusal(Reason.GUARD_ERROR, f"value of `{name}`: {value.detail}")
        fields[name] = value
    return fields


def _broken_invariant(
    machine: Machine, scope: Scope, fields: dict[str, Value], status: str, version: int
) -> Refusal | None:
    if not machine.invariants or status == ABSENT:
        return None
    after = scope.after(fields, status, version)
    for name, text, evaluate in machine.invariants:
        kept = evaluate(after)
        if kept is True:
            continue
        if kept is False:
            return Refusal(Reason.INVARIANT_VIOLATED, f"invariant `{name}`: {text}")
        detail = kept.detail if isinstance(kept, Failed) else f"not a boolean: {kept!r}"
        return Refusal(Reason.GUARD_ERROR, f"invariant `{name}`: {detail}")
    return None
