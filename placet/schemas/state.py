"""What is remembered: an entity's state, the dedup memory, the committed change."""

from __future__ import annotations

from typing import Any

import msgspec

from placet.schemas.messages import Kind

__all__ = ["ABSENT", "EVERY_FIELD", "UNSEEN", "Applied", "Change", "EntityState", "Memory", "encode_state"]

ABSENT = "absent"
"""The built-in status: before creation and after deletion."""

EVERY_FIELD = ""
"""The key of `field_versions` that stands for all fields: the version that created a deleted entity again."""


class Applied(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The newest applied input of one name: what `late: refuse`, `dedup: newest` and `dedup: once` compare with."""

    event_time: int
    input_id: str
    payload_digest: bytes
    version: int
    log_time: int


class EntityState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The committed state of one entity.

    `version` counts changes. `field_versions` names the version that last changed each field ("status" included),
    and under `EVERY_FIELD` the one that created the entity again, if it was deleted: nothing of an earlier life holds.
    `applied` keeps, by name, the newest applied signal and each proposal that happens once. `incarnation` names
    the entity's life: the log time of the input that created it, or the number after the one before if that is larger;
    it survives the deletion until the entity is forgotten. `deleted_at` is the log
    time of the deletion, else 0. `fields` holds `Value`s; msgspec decodes no union of str, Decimal and bytes.
    `carried` holds values of fields that the definition does not have (`schemas/codec/carried.py`), None without any.
    """

    version: int = 0
    incarnation: int = 0
    status: str = ABSENT
    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    field_versions: dict[str, int] = msgspec.field(default_factory=dict)
    applied: dict[str, Applied] = msgspec.field(default_factory=dict)
    deleted_at: int = 0
    carried: dict[str, Any] | None = None


UNSEEN = EntityState()
"""An entity that the gate has never heard of, or has forgotten after its tombstone."""


class Memory(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is remembered of an applied input under its dedup key, for the horizon and 60 s."""

    payload_digest: bytes
    input_id: str
    version: int
    log_time: int


class Change(msgspec.Struct, frozen=True, gc=False):
    """One committed change: the state after it, its cause, and where it stands in the ledger.

    Written to the changelog as flat columns (state and `placet_…` columns); `field_versions`, `applied` and what is
    carried of the state travel in a header. `dedup_key` is empty where the name has no dedup memory (`dedup: newest`).
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
    proposer: str = ""

    @property
    def memory(self) -> Memory | None:
        """What is remembered of the input; None where the entity's state itself remembers."""
        if not self.dedup_key:
            return None
        return Memory(self.payload_digest, self.input_id, self.state.version, self.log_time)


encode_state = msgspec.msgpack.Encoder().encode
"""Encode a state, or a memory, for the local store, and to measure its size: msgpack, 0.5 us."""
