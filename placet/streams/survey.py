"""How many entities stand in a status now: the changelog read from end to end, of each key its latest state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from placet.schemas.codec import Codec
from placet.schemas.errors import DecodeError
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.restore import Log

__all__ = ["count_standing"]


def count_standing(
    log: Log, codec: Codec, changelog: str, partitions: int, statuses: frozenset[str]
) -> Mapping[str, int]:
    """Count entities by status, of these statuses alone. What can't be read stands nowhere.

    Args:
        log: reads committed records.
        codec: knows what was published so far.
        changelog: the topic.
        partitions: how many it has.
        statuses: which ones to count.
    """
    counts: Counter[str] = Counter()
    for number in range(partitions):
        partition, standing = TopicPartition(changelog, number), dict[bytes, str]()

        def take(records: list[ConsumerRecord], _position: int, standing: dict[bytes, str] = standing) -> bool:
            for record in records:
                key, status = record.key or b"", _status(codec, record)
                if status in statuses:
                    standing[key] = status
                else:
                    standing.pop(key, None)
            return True

        start, end = log.start_offsets([partition])[partition], log.end_offsets([partition])[partition]
        log.read(partition, start, end, take)
        counts.update(standing.values())
    return counts


def _status(codec: Codec, record: ConsumerRecord) -> str:
    try:
        return "" if record.value is None else codec.decode_state(record.value, record.headers).status
    except DecodeError:
        return ""
