"""What the loop has in place of a member of the group while it can run nothing of what is in force.

Nobody can subscribe to no topics, and a member that is given partitions which it can't decide keeps them from others.
So the gate is no member; its loop goes on, and follows the rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from placet.streams.errors import TaskMigrated
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.runtime import Flag

__all__ = ["Outside"]


class Outside:
    """A `GroupConsumer` of no group: it is given nothing, so no task asks anything of it.

    Args:
        stopping: ends a wait.
    """

    joined = False

    def __init__(self, stopping: Flag) -> None:
        self.assigned: set[TopicPartition] = set()
        self._stopping = stopping

    def poll_batch(self, _records_max: int, timeout_ms: int) -> list[ConsumerRecord]:
        """Wait. There is nothing to poll."""
        self._stopping.wait(timeout_ms / 1000)
        return []

    def metadata_of_this_batch(self) -> bytes:
        """Refuse: there is no batch."""
        raise TaskMigrated("not a member of the group")

    def member_id(self) -> str:
        """Return "": the group does not know this gate."""
        return ""

    def take_revoked(self) -> set[TopicPartition]:
        """Return nothing, as the other methods do."""
        return set()

    def take_out_of_range(self) -> list[TopicPartition]:
        """See `take_revoked`."""
        return []

    def why_unreadable(self, _partition: TopicPartition, _position: int) -> str:
        """See `take_revoked`."""
        return ""

    def lag(self, _positions: Mapping[TopicPartition, int]) -> dict[tuple[str, int], int]:
        """See `take_revoked`."""
        return {}

    def reached(self, _partition: TopicPartition, position: int) -> int:
        """Return the position."""
        return position

    def start(self, _positions: Mapping[TopicPartition, int]) -> None:
        """Do nothing."""

    def pause(self, _partitions: Iterable[TopicPartition]) -> None:
        """Do nothing."""

    def close_in_time(self, _timeout_s: float) -> None:
        """Do nothing: there is no group to leave."""
