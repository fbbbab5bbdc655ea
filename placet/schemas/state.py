"""An entity's committed state, and the change that led to it. Never changed once they are made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, final

from placet.schemas.memory import Applied, Armed, Counts, Memory
from placet.schemas.messages import Kind

__all__ = ["ABSENT", "EVERY_FIELD", "UNSEEN", "Change", "EntityState"]

ABSENT: Final = "absent"
"""The built-in status: before creation and after deletion."""

EVERY_FIELD: Final = ""
"""The key of `field_versions` that stands for all fields: the version that created a deleted entity again."""


@final
@dataclass(init=False)
class EntityState:
    """The committed state of one entity.

    `version` counts changes. `field_versions` names the version that last changed each field ("status" included),
    and under `EVERY_FIELD` the one that created the entity again, if it was deleted: nothing of an earlier life holds.
    `applied` keeps, by name, the newest applied signal and each proposal that happens once. `incarnation` names
    the entity's life: the log time of the input that created it, or the number after the one before if that is larger;
    it survives the deletion until the entity is forgotten. `deleted_at` is the log
    time of the deletion, else 0. `fields` holds `Value`s; msgspec decodes no union of str, Decimal and bytes.
    `carried` holds values of fields that the definition does not have (`schemas/codec/carried.py`), None without any.
    `armed` holds the timers that wait, by name, None without any. `counts` is what windows hold, None where it is
    nothing; it outlives the deletion as `applied` does.
    """

    version: int
    incarnation: int
    status: str
    fields: dict[str, Any]
    field_versions: dict[str, int]
    applied: dict[str, Applied]
    deleted_at: int
    carried: dict[str, Any] | None
    armed: dict[str, Armed] | None
    counts: Counts | None

    def __init__(
        self,
        version: int = 0,
        incarnation: int = 0,
        status: str = ABSENT,
        fields: dict[str, Any] | None = None,
        field_versions: dict[str, int] | None = None,
        applied: dict[str, Applied] | None = None,
        deleted_at: int = 0,
        carried: dict[str, Any] | None = None,
        armed: dict[str, Armed] | None = None,
        counts: Counts | None = None,
    ) -> None:
        self.version = version
        self.incarnation = incarnation
        self.status = status
        self.fields = {} if fields is None else fields
        self.field_versions = {} if field_versions is None else field_versions
        self.applied = {} if applied is None else applied
        self.deleted_at = deleted_at
        self.carried = carried
        self.armed = armed
        self.counts = counts

    def remembering(self, applied: dict[str, Applied]) -> EntityState:
        """Return the same state with other memory by name: no change, so that the version stays."""
        return EntityState(
            self.version,
            self.incarnation,
            self.status,
            self.fields,
            self.field_versions,
            applied,
            self.deleted_at,
            self.carried,
            self.armed,
            self.counts,
        )

    def disarmed(self, name: str) -> EntityState:
        """Return the same state without an armed timer: no change either."""
        armed = {other: timer for other, timer in (self.armed or {}).items() if other != name}
        return replace(self, armed=armed or None)

    def counting(self, counts: Counts | None) -> EntityState:
        """Return the same state with something else in its windows: no change either."""
        return replace(self, counts=counts)

    @property
    def remembered_at(self) -> int:
        """Log time of the newest that an absent entity remembers: its deletion, or what it accepted since."""
        times = [self.deleted_at, *(applied.log_time for applied in self.applied.values())]
        for by in (self.counts or {}).values():
            times += [entries[-2] for entries in by.values()]
        return max(times)


UNSEEN: Final = EntityState()
"""An entity that the gate has never heard of, or has forgotten after its tombstone."""


@final
@dataclass(init=False)
class Change:
    """One committed change: the state after it, its cause, and where it stands in the ledger.

    Written to the changelog as flat columns (state and `placet_…` columns); what no column holds of the state
    travels in a header. `dedup_key` is empty where the name has no dedup memory (`dedup: newest`).
    """

    entity_id: str
    state: EntityState
    kind: Kind
    name: str
    input_id: str
    dedup_key: str
    payload_digest: bytes
    event_time: int
    log_time: int
    decided_at: int
    topic: str
    offset: int
    task_epoch: int
    sequence: int
    definition_digest: bytes
    proposer: str

    def __init__(
        self,
        entity_id: str,
        state: EntityState,
        kind: Kind,
        name: str,
        input_id: str,
        dedup_key: str,
        payload_digest: bytes,
        event_time: int,
        log_time: int,
        decided_at: int,
        topic: str,
        offset: int,
        task_epoch: int,
        sequence: int,
        definition_digest: bytes,
        proposer: str = "",
    ) -> None:
        self.entity_id = entity_id
        self.state = state
        self.kind = kind
        self.name = name
        self.input_id = input_id
        self.dedup_key = dedup_key
        self.payload_digest = payload_digest
        self.event_time = event_time
        self.log_time = log_time
        self.decided_at = decided_at
        self.topic = topic
        self.offset = offset
        self.task_epoch = task_epoch
        self.sequence = sequence
        self.definition_digest = definition_digest
        self.proposer = proposer

    @property
    def memory(self) -> Memory | None:
        """What is remembered of the input; None where the entity's state itself remembers."""
        if not self.dedup_key:
            return None
        return Memory(self.payload_digest, self.input_id, self.state.version, self.log_time)
