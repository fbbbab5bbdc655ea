"""What a check has to know besides the records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from placet.streams.topology import EntityTopics, TaskId
from placet.verify.start import Start

__all__ = ["VerifyScope"]


class VerifyScope(NamedTuple):
    """One task, and what of it is to be looked at. Times in ms since the epoch.

    Attributes:
        task_id: entity type and partition.
        topics: the entity type's topics.
        topic_ids: ids of these topics and of the control topic as they are now; none are compared when it is empty.
        partitions: how many partitions each has.
        positions: the group's position of each input topic: what is below was decided, what is not is left alone.
        covered: sequence of the last commit that leads to these positions: up to there all is written.
        start: where to begin.
        uncompacted_since: what was appended from this time on must be there still.
        settled_before: a transaction that wrote later may be half visible.
    """

    task_id: TaskId
    topics: EntityTopics
    topic_ids: Mapping[str, str]
    partitions: int
    positions: Mapping[str, int]
    covered: int
    start: Start
    uncompacted_since: int
    settled_before: int
