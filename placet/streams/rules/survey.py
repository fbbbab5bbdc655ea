"""How many entities stand in a status now: the changelog read from end to end, of each key its latest state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from placet.schemas.codec.codec import Codec
from placet.schemas.errors import DecodeError
from placet.streams.errors import LogUnreachable
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.log import Log

__all__ = ["count_standing"]

_PATIENCE_S: Final = 30.0


def count_standing(
    log: Log,
    codec: Codec,
    changelog: str,
    partitions: int,
    statuses: frozenset[str],
    monotonic_s: Callable[[], float],
    looked: Callable[[], None] = lambda: None,
) -> Mapping[str, int]:
    """Count entities by status, of these statuses alone. What can't be read stands nowhere.

    Args:
        log: reads committed records.
        codec: knows what was published so far.
        changelog: the topic.
        partitions: how many it has.
        statuses: which ones to count.
        monotonic_s: a clock that never goes back, in seconds.
        looked: is called again and again, as long as it takes.

    Raises:
        LogUnreachable: a partition's leader does not answer, or a transaction on it has not ended.
    """
    counts: Counter[str] = Counter()
    for number in range(partitions):
        partition, standing, read_at_s = TopicPartition(changelog, number), dict[bytes, str](), [monotonic_s()]

        def take(
            records: list[ConsumerRecord],
            _position: int,
            standing: dict[bytes, str] = standing,
            read_at_s: list[float] = read_at_s,
        ) -> bool:
            looked()
            if records:
                read_at_s[0] = monotonic_s()
            for record in records:
                key, status = record.key or b"", _status(codec, record)
                if status in statuses:
                    standing[key] = status
                else:
                    standing.pop(key, None)
            return monotonic_s() - read_at_s[0] < _PATIENCE_S

        start, end = log.start_offsets([partition])[partition], log.end_offsets([partition])[partition]
        if not log.read(partition, start, end, take):
            raise LogUnreachable(f"{changelog}-{number} gave nothing to read for {_PATIENCE_S:g} s")
        counts.update(standing.values())
    return counts


def _status(codec: Codec, record: ConsumerRecord) -> str:
    try:
        return "" if record.value is None else codec.decode_state(record.value, record.headers).status
    except DecodeError:
        return ""
