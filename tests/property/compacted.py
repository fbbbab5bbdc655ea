"""A log as Kafka's cleaner may leave it: what is younger than the lag is untouched, of the rest the last stays."""

from __future__ import annotations

from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.log import Take
from placet.streams.recovery.log_in_memory import MemoryLog
from placet.testing import TestDriver

__all__ = ["CompactedLog"]


class CompactedLog(MemoryLog):
    """Shares a driver's log, and gives a restore the least that `min.compaction.lag.ms` promises."""

    def __init__(self, driver: TestDriver, lag_ms: int) -> None:
        self.__dict__.update(vars(driver.log))
        self._driver = driver
        self._lag_ms = lag_ms

    def read(self, partition: TopicPartition, position: int, target: int, take: Take) -> bool:
        """See `Log`."""
        held = [record for record in self._held(partition) if position <= record.offset < target]
        return take(held, target) if held else True

    def _held(self, partition: TopicPartition) -> list[ConsumerRecord]:
        records = self.records(partition)
        last = {record.key: record.offset for record in records}
        young = self._driver.now_ms - self._lag_ms
        return [
            record
            for record in records
            if record.timestamp >= young or (last[record.key] == record.offset and record.value is not None)
        ]
