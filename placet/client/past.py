"""An entity's history on the log: one horizon of changes, and always the latest state. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, NamedTuple

from placet.client.snapshot import Snapshot
from placet.schemas.definition.field_types import Field
from placet.schemas.messages import Kind, Value
from placet.schemas.state import EVERY_FIELD, Change, EntityState

__all__ = [
    "GONE",
    "Gone",
    "PastVersion",
    "as_of",
    "at_version",
    "cause_of",
    "differences",
    "iso",
    "newest",
    "shown",
    "steps",
]


class Gone(Enum):
    """What compaction has removed. Not None: that is a value."""

    GONE = "not on the log any more"

    def __str__(self) -> str:
        return "?"


GONE: Final = Gone.GONE


class PastVersion(NamedTuple):
    """One version, and what it changed: (before, after) by field, `status` included; before may be `GONE`."""

    after: Snapshot
    changes: Mapping[str, tuple[Any, Any]]


def steps(history: Sequence[Snapshot], initial: Mapping[str, Value] | None = None) -> list[PastVersion]:
    """Return what each version changed.

    Args:
        history: an entity's states in the order of the log.
        initial: the fields of an entity never seen.
    """
    return [
        PastVersion(after, differences(_before(before, after, initial or {}), after))
        for before, after in zip([None, *history], history, strict=False)
    ]


def differences(before: Snapshot | None, after: Snapshot) -> dict[str, tuple[Any, Any]]:
    """Return what a change set, as (before, after); before is None where the log does not hold the state before."""
    state = after.state
    versions = state.field_versions.items()
    set_here = sorted(name for name, version in versions if version == state.version and name != EVERY_FIELD)
    return {name: (GONE if before is None else _value(before, name), _value(after, name)) for name in set_here}


def newest(history: Sequence[Snapshot], entity_id: str) -> Snapshot | str:
    """Return the latest state, or a sentence that says why there is none."""
    return history[-1] if history else f"{entity_id} was never seen, or is forgotten."


def at_version(history: Sequence[Snapshot], entity_id: str, version: int) -> Snapshot | str:
    """Return the state at a version, or a sentence why not. Of several lives of an entity the latest one counts."""
    held = [snapshot for snapshot in history if not snapshot.forgotten]
    fits = [snapshot for snapshot in held if snapshot.version == version]
    if fits:
        return fits[-1]
    if not held:
        return _nothing_held(history, entity_id)
    if version > held[-1].version:
        return f"{entity_id} has no version {version}: the latest is {held[-1].version}."
    return f"Version {version} of {entity_id} is not on the log any more. {_held(held)}"


def as_of(history: Sequence[Snapshot], entity_id: str, time_ms: int) -> Snapshot | str:
    """Return the state at a time, ms since the epoch, by the times of the decisions; or a sentence why not."""
    held = [snapshot for snapshot in history if not snapshot.forgotten]
    fits = [snapshot for snapshot in held if _decided_at(snapshot) <= time_ms]
    if fits:
        return fits[-1]
    if not held:
        return _nothing_held(history, entity_id)
    if held[0].version == 1:
        return f"{entity_id} was not there at {iso(time_ms)}: its version 1 was decided at {iso(_decided_at(held[0]))}."
    return f"What {entity_id} was at {iso(time_ms)} is not on the log any more. {_held(held)}"


def iso(time_ms: int) -> str:
    """Return a time as ISO 8601 in UTC, with milliseconds."""
    try:
        moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # a time that a sender made up
        return str(time_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cause_of(change: Change) -> str:
    """Return what led to a change: an input by its id, a timer by the time at which it was due."""
    if change.kind is Kind.TIMER:
        return f"timer {change.name}, due {iso(change.event_time)}"
    return f"{change.kind.name.lower()} {change.name} ({change.input_id})"


def shown(value: Any, field: Field | None = None) -> str:
    """Return a value as a person reads it: times as ISO 8601, where the field tells that they are times."""
    if value is None:
        return "null"
    if value is GONE or field is None or "timestamp" not in (field.type, field.items, field.values):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {iso(at)}" for key, at in value.items()) + "}"
    return "[" + ", ".join(map(iso, value)) + "]" if isinstance(value, list) else iso(value)


def _before(before: Snapshot | None, after: Snapshot, initial: Mapping[str, Value]) -> Snapshot | None:
    """Return the state that a change was made of; None where it is not held."""
    if after.version == 1:
        return Snapshot(after.entity_id, EntityState(fields=dict(initial)))
    return before if before is not None and before.version == after.version - 1 else None


def _value(snapshot: Snapshot, name: str) -> Any:
    return snapshot.status if name == "status" else snapshot.fields.get(name)


def _decided_at(snapshot: Snapshot) -> int:
    return 0 if snapshot.change is None else snapshot.change.decided_at


def _nothing_held(history: Sequence[Snapshot], entity_id: str) -> str:
    if not history:
        return f"{entity_id} was never seen, or is forgotten."
    return f"{entity_id} was deleted longer than the horizon ago, as version {history[-1].version}: no more is known."


def _held(held: Sequence[Snapshot]) -> str:
    first, last = held[0], held[-1]
    return (
        f"It holds versions {first.version} (decided at {iso(_decided_at(first))}) to {last.version}: one horizon of "
        "changes, and the latest state."
    )
