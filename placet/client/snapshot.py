"""A committed state as it was read: what a proposal is based on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from placet.schemas.codec.codec import Codec
from placet.schemas.errors import DecodeError, UnknownSchema
from placet.schemas.messages import Value
from placet.schemas.state import ABSENT, UNSEEN, Change, EntityState
from placet.streams.records import ConsumerRecord
from placet.streams.state.tombstone import tombstone_of

__all__ = ["Snapshot", "snapshot_of"]


class Snapshot(msgspec.Struct, frozen=True, eq=False):
    """One entity's committed state at one version. It carries entity, version and incarnation into `propose`.

    Two are equal that tell the same, whenever they were read.

    Attributes:
        entity_id: whose state it is.
        state: status, fields, version, incarnation, and which version last changed each field.
        change: the change that led to this state (who, why, when); None for an entity never seen, and for a tombstone.
        forgotten: True for the tombstone, a horizon and 60 s after the deletion: only the version is still known.
        transaction: number of the gate's transaction that wrote the state, counted for each partition; 0 for an entity
            never seen. Of two records of one entity the later one has the greater (transaction, version). This holds
            across deletion, tombstone and a new creation too, although the version then begins again at 1.
        read_at: when a client read it, ms since the epoch; `propose` passes it on where the definition asks
            (`max_state_age`). None where the record came by another way: set it there.
    """

    entity_id: str
    state: EntityState = UNSEEN
    change: Change | None = None
    forgotten: bool = False
    transaction: int = 0
    read_at: int | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and self._told == other._told

    def __hash__(self) -> int:
        return hash((self.entity_id, self.transaction, self.version))

    @property
    def _told(self) -> tuple[object, ...]:
        return self.entity_id, self.state, self.change, self.forgotten, self.transaction

    @property
    def version(self) -> int:
        """Number of changes up to this state; 0 for an entity never seen."""
        return self.state.version

    @property
    def incarnation(self) -> int:
        """The entity's incarnation: the log time of the input that created it; 0 for an entity never seen."""
        return self.state.incarnation

    @property
    def status(self) -> str:
        """One of the definition's statuses, or `absent`."""
        return self.state.status

    @property
    def fields(self) -> Mapping[str, Value]:
        """The fields by name: timestamps as milliseconds since the epoch, decimals as `Decimal`."""
        return self.state.fields

    @property
    def exists(self) -> bool:
        """Whether the status is anything but `absent`."""
        return self.state.status != ABSENT

    @classmethod
    def from_record(
        cls, codec: Codec, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes | None]] | None
    ) -> Snapshot:
        """Return the state in a changelog record. For programs with a consumer of their own (set read_committed!).

        A sink that keeps the highest (transaction, version) of each entity is exact, however often, how late and in
        which order it gets the records.

        Args:
            codec: `client.codec`, or `Codec(definition)`.
            key: the record's key.
            value: the record's value; None is a tombstone: the entity was deleted a horizon and 60 s ago.
            headers: the record's headers.

        Raises:
            UnknownSchema: the codec does not know the definition that wrote the record.
            DecodeError: the bytes are no record of this entity type's changelog.
        """
        if value is not None:
            change = codec.decode_change(value, headers)
            return cls(change.entity_id, change.state, change, transaction=change.sequence)
        told = tombstone_of(headers)
        return cls(key.decode(), EntityState(version=told.version), forgotten=True, transaction=told.sequence)


def snapshot_of(codec: Codec, record: ConsumerRecord) -> Snapshot:
    """Return the state in a record of the changelog.

    Raises:
        UnknownSchema, DecodeError: see `Snapshot.from_record`; topic, partition and offset are in the text.
    """
    try:
        return Snapshot.from_record(codec, record.key or b"", record.value, record.headers)
    except DecodeError as error:
        where = f"{record.topic} partition {record.partition} at offset {record.offset}"
        later = ". Its version is not known here yet: try again later" if isinstance(error, UnknownSchema) else ""
        raise error.told_as(
            f"{where}: {(record.key or b'').decode('utf-8', 'replace')!r} can't be read: {error}{later}"
        ) from error
