"""The state after an accepted input: values set, invariants kept, versions counted.

`version` counts changes: an input that leaves status and fields as they were bumps nothing. All right-hand sides see
the old state. Each creation begins a life, which `incarnation` names: fences compare it. A proposer that does not give
one is fenced by `EVERY_FIELD`, which changes when a deleted entity is created again.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from placet.processors.machine import Failed, Machine, Scope, Transition
from placet.schemas.decision import Reason
from placet.schemas.messages import Value
from placet.schemas.state import ABSENT, EVERY_FIELD, Applied, EntityState, encode_state

__all__ = ["STATE_BYTES_MAX", "Broken", "Remember", "evolve"]

STATE_BYTES_MAX = 262_144
"""Largest encoded state, in bytes: every change writes it whole, and a restore reads it."""


class Remember(NamedTuple):
    """What goes into the state's `applied` under the input's name; version and log time are known here only."""

    name: str
    event_time: int
    input_id: str
    payload_digest: bytes


class Broken(NamedTuple):
    """Why no new state came about."""

    reason: Reason
    detail: str


def evolve(
    machine: Machine,
    state: EntityState,
    transition: Transition,
    scope: Scope,
    remember: Remember | None,
    log_time: int,
) -> EntityState | Broken:
    """Return the state after a transition, or why there is none.

    Args:
        machine: the compiled definition.
        state: the state before.
        transition: the one whose guard holds.
        scope: what its expressions see; `scope.fields` are the old fields, complete.
        remember: what the state's `applied` is to keep of this input, or None.
        log_time: the input's log time, ms.

    Returns:
        A new state with version + 1 where status or fields changed; one of the same version where only `applied`
        did; the very same object where nothing did.
    """
    status = state.status if transition.target is None else transition.target
    fields = _fields_after(machine, transition, scope, status)
    if isinstance(fields, Broken):
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
    if broken:
        return broken
    applied = state.applied
    if remember is not None:
        entry = Applied(remember.event_time, remember.input_id, remember.payload_digest, version, log_time)
        applied = {**applied, remember.name: entry}
    if not changed:
        return state if applied is state.applied else msgspec.structs.replace(state, applied=applied)
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
    )
    size = len(encode_state(after)) - (carried is None)  # an empty place is not counted: the limit stays where it was
    if size > STATE_BYTES_MAX:
        return Broken(Reason.STATE_TOO_LARGE, f"{size} bytes; at most {STATE_BYTES_MAX}")
    return after


def _fields_after(machine: Machine, transition: Transition, scope: Scope, status: str) -> dict[str, Value] | Broken:
    if status == ABSENT:
        return dict(machine.initial_fields)
    fields = dict(scope.fields)
    for name, evaluate in transition.assignments:
        value = evaluate(scope)
        if isinstance(value, Failed):
            return Broken(Reason.GUARD_ERROR, f"value of `{name}`: {value.detail}")
        fields[name] = value
    return fields


def _broken_invariant(
    machine: Machine, scope: Scope, fields: dict[str, Value], status: str, version: int
) -> Broken | None:
    if not machine.invariants or status == ABSENT:
        return None
    after = scope._replace(fields=fields, status=status, version=version)
    for name, text, evaluate in machine.invariants:
        kept = evaluate(after)
        if kept is True:
            continue
        if kept is False:
            return Broken(Reason.INVARIANT_VIOLATED, f"invariant `{name}`: {text}")
        detail = kept.detail if isinstance(kept, Failed) else f"not a boolean: {kept!r}"
        return Broken(Reason.GUARD_ERROR, f"invariant `{name}`: {detail}")
    return None
