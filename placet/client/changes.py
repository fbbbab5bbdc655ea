"""The changelog, for programs that store the states elsewhere: in a database, a cache, a search index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from threading import Lock
from typing import Self

from placet.client.connect import reader_options
from placet.client.errors import NotConnected
from placet.client.exchange import Exchange
from placet.client.snapshot import Snapshot, snapshot_of
from placet.schemas.errors import UnknownSchema
from placet.streams.errors import LogUnreachable
from placet.streams.host import LocalHost
from placet.streams.kafka.group_reader import GroupReader
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.settings import Settings

__all__ = ["ChangeBatch", "ChangelogMember"]

_POLL_MS = 200
_RULES_WITHIN_S = 30.0


class ChangeBatch:
    """The changes of one poll, in the order of each partition. Store all of them, then call `commit`."""

    def __init__(
        self, snapshots: list[Snapshot], positions: dict[TopicPartition, int], member: ChangelogMember
    ) -> None:
        self.snapshots = snapshots
        self._positions = positions
        self._member = member

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self.snapshots)

    def __len__(self) -> int:
        return len(self.snapshots)

    def commit(self) -> bool:
        """Store the group's positions behind the batch.

        Returns:
            False if its partitions moved to another member of the group, which reads the batch again.

        Raises:
            LogUnreachable: no broker answered; the next reader gets the batch again.
            NotConnected: the loop over `changes` has ended; the next reader gets the batch again.
        """
        return self._member.commit(self._positions)


class ChangelogMember:
    """A member of a consumer group on the changelog; partitions are shared among its members.

    Any thread may call any method: librdkafka does not bear being closed while another one polls.

    Args:
        settings: where Kafka is.
        exchange: of an open client, which follows the rules.
        group_id: the consumer group.
        batch_max: most changes in one batch.
    """

    def __init__(self, settings: Settings, exchange: Exchange, group_id: str, batch_max: int) -> None:
        options = reader_options(settings, f"changes.{group_id}")
        group = {"group.id": group_id, "group.protocol": "consumer", "auto.offset.reset": "earliest"}
        options = {**options, **group, "enable.partition.eof": False}
        self._reader = GroupReader(LocalHost(), options, exchange.link.topics.changelog)
        self._exchange = exchange
        self._batch_max = batch_max
        self._lock = Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the group, after a running `poll` or `commit` has ended."""
        with self._lock:
            self._closed = True
            self._reader.close()

    def poll(self) -> ChangeBatch | None:
        """Wait a moment for changes; None if there are none.

        Raises:
            DecodeError: a record can't be read; `UnknownSchema` if no published definition wrote it.
            LogUnreachable: no broker says which definitions are published.
        """
        with self._lock:
            records = [] if self._closed else self._reader.poll_batch(self._batch_max, _POLL_MS)
        if not records:
            return None
        return ChangeBatch([self._snapshot(record) for record in records], _next_positions(records), self)

    def _snapshot(self, record: ConsumerRecord) -> Snapshot:
        try:
            return snapshot_of(self._exchange.link.codec, record)
        except UnknownSchema:  # the rules change: its definition stands on the control topic already
            self._read_rules()
            return snapshot_of(self._exchange.link.codec, record)

    def _read_rules(self) -> None:
        try:
            self._exchange.read_rules().result(_RULES_WITHIN_S)
        except TimeoutError:
            raise LogUnreachable(f"the published rules could not be read within {_RULES_WITHIN_S:g} s") from None

    def commit(self, positions: Mapping[TopicPartition, int]) -> bool:
        """Store these positions for the group; see `ChangeBatch.commit`."""
        with self._lock:
            if self._closed:
                raise NotConnected(
                    "the loop over `changes` has ended before the batch was committed: whoever reads next gets it again"
                )
            return self._reader.commit(positions)


def _next_positions(records: list[ConsumerRecord]) -> dict[TopicPartition, int]:
    return {TopicPartition(record.topic, record.partition): record.offset + 1 for record in records}
