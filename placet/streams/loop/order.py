"""The order in which a batch is decided: by log time, so that it can be derived from what is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from operator import itemgetter

from placet.streams.records import ConsumerRecord

__all__ = ["in_log_time_order"]


def in_log_time_order(records: list[ConsumerRecord]) -> Iterator[ConsumerRecord]:
    """Order a batch by log time, per topic as it came: a timestamp that steps back counts as the one before it.

    At the same time the topics' names decide: proposals come before signals.
    """
    topic = records[0].topic if records else ""
    if all(record.topic == topic for record in records):
        return iter(records)
    by_topic: dict[str, list[tuple[int, str, ConsumerRecord]]] = {}
    for record in records:
        lane = by_topic.setdefault(record.topic, [])
        lane.append((max(record.timestamp, lane[-1][0]) if lane else record.timestamp, record.topic, record))
    return (record for _, _, record in merge(*by_topic.values(), key=itemgetter(0, 1)))
