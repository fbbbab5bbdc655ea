"""The local view: the newest changelog record of every entity, for those partitions that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import RLock
from typing import NamedTuple

from placet.client.snapshot import Snapshot, snapshot_of
from placet.processors.address import partition_of
from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Decision
from placet.schemas.definition.model import Definition
from placet.schemas.errors import DecodeError, PlacetError, UnknownSchema
from placet.schemas.state import EntityState
from placet.streams.records import ConsumerRecord

__all__ = ["Mirror"]


class _Waiter(NamedTuple):
    """A caller that waits for a state of at least this version."""

    version: int
    found: Future[Snapshot]


class Mirror:
    """The committed states that were read so far. Records stay undecoded until somebody reads their state.

    Callers read in their threads, while the I/O thread adds records.

    Args:
        definition, codec: see `use`.
        partitions: how many partitions the changelog has.
        load: asks the I/O thread to read a partition from its beginning; called once for each partition.
    """

    def __init__(self, definition: Definition, codec: Codec, partitions: int, load: Callable[[int], None]) -> None:
        self._partitions = partitions
        self._load = load
        self._records: dict[bytes, ConsumerRecord] = {}
        self._asked: set[int] = set()
        self._loaded: set[int] = set()
        self._waiters: dict[bytes, list[_Waiter]] = {}
        self._told: dict[bytes, int] = {}
        self._lock = RLock()
        self.use(definition, codec)

    def use(self, definition: Definition, codec: Codec) -> None:
        """Go by these rules from now on.

        Args:
            definition: tells the fields of an entity never seen.
            codec: decodes the changelog.
        """
        with self._lock:
            self._codec = codec
            self._unseen = EntityState(fields={name: field.default for name, field in definition.fields.items()})

    def read(self, entity_id: str, at_least_version: int) -> Future[Snapshot]:
        """Return the state once its partition is loaded and the version is there. Cancel it to wait no longer."""
        key, found = entity_id.encode(), Future[Snapshot]()
        partition = partition_of(key, self._partitions)
        with self._lock:
            version = max(at_least_version, self._told.get(key, 0))
            self._waiters.setdefault(key, []).append(_Waiter(version, found))
            asked = partition in self._asked
            self._asked.add(partition)
        found.add_done_callback(lambda _: self._drop(key, found))
        if not asked:
            self._load(partition)
        self._serve(key)
        return found

    def newest(self, entity_id: str) -> Snapshot:
        """Return the newest state that was read of an entity.

        Raises:
            DecodeError: its record can't be read; the text names its place. `UnknownSchema` until the definition that
                wrote it is known.
        """
        record = self._records.get(entity_id.encode())
        if record is None:
            return Snapshot(entity_id, self._unseen)
        return snapshot_of(self._codec, record)

    def tell(self, decision: Decision) -> None:
        """Note the version that a decision named: no later read of this client returns an older one."""
        key = decision.entity_id.encode()
        with self._lock:
            if partition_of(key, self._partitions) in self._asked:
                self._told[key] = max(self._told.get(key, 0), decision.version_after)
        self._serve(key)

    def take(self, record: ConsumerRecord) -> None:
        """Take in a record of the changelog."""
        key = record.key or b""
        if record.value is None:
            self._records.pop(key, None)
        else:
            self._records[key] = record
        if key in self._waiters or key in self._told:
            self._serve(key)

    def reached_end(self, partition: int) -> None:
        """Note that a partition was read to its end: its waiters are served from now on."""
        if partition not in self._loaded:
            self._loaded.add(partition)
            self.serve_all()

    def begin_again(self) -> None:
        """Forget all states: their partitions are read once more, from the beginning, and who reads waits for that."""
        with self._lock:
            self._records.clear()
            self._loaded.clear()

    def serve_all(self) -> None:
        """Serve all waiters again: a partition is loaded, or a definition became known."""
        for key in list(self._waiters):
            self._serve(key)

    def fail(self, error: PlacetError) -> None:
        """End all waits with this error."""
        with self._lock:
            for waiter in [waiter for waiters in self._waiters.values() for waiter in waiters]:
                _settle(waiter.found, error)

    def _serve(self, key: bytes) -> None:
        """Give the state to all waiters that want this version or an earlier one."""
        with self._lock:
            if partition_of(key, self._partitions) not in self._loaded:
                return
            waiters = list(self._waiters.get(key, ()))
            try:
                snapshot = self.newest(key.decode())
            except UnknownSchema:  # its definition stands on the control topic already: it is about to come
                return
            except DecodeError as error:
                for waiter in waiters:
                    _settle(waiter.found, error)
                return
            if snapshot.version >= self._told.get(key, 0):
                self._told.pop(key, None)
            for waiter in waiters:
                if waiter.version <= snapshot.version:
                    _settle(waiter.found, snapshot)

    def _drop(self, key: bytes, found: Future[Snapshot]) -> None:
        with self._lock:
            left = [waiter for waiter in self._waiters.get(key, ()) if waiter.found is not found]
            if left:
                self._waiters[key] = left
            else:
                self._waiters.pop(key, None)


def _settle(future: Future[Snapshot], found: Snapshot | PlacetError) -> None:
    if future.done() or not future.set_running_or_notify_cancel():
        return
    if isinstance(found, Snapshot):
        future.set_result(found)
    else:
        future.set_exception(found)
