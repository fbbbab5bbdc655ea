"""Records as they cross the border to Kafka: our own tuples, no client types."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

__all__ = ["ConsumerRecord", "Headers", "ProducerRecord", "RecordId", "TopicPartition"]

Headers: TypeAlias = list[tuple[str, bytes]]


class TopicPartition(NamedTuple):
    """A topic's partition."""

    topic: str
    partition: int


class RecordId(NamedTuple):
    """What tells a record from all others: where it lies on the log."""

    topic: str
    partition: int
    offset: int


class ConsumerRecord(NamedTuple):
    """One record as it was read. `timestamp` is the broker's append time, ms since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None


class ProducerRecord(NamedTuple):
    """One record to write. A value of None is a tombstone."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None
