"""A lamp: a small entity type with a history to restore, and a log that gives it in pieces."""

from __future__ import annotations

from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.steps import Restoration
from placet.streams.state import layout
from placet.streams.state.store import MemoryStore
from placet.streams.topology import TaskId
from placet.testing import TestDriver
from tests.memory_log import MemoryLog, log_of

__all__ = ["LAMP", "InPieces", "job_of", "lamp", "lamps"]

LAMP = """
entity: lamp
version: 1
horizon: 10m
statuses: [off, lit]
fields: {watts: {type: int, default: 5}}
signals:
  installed: {from: absent, to: off}
  changed: {payload: {watts: int}, from: any, copy: watts}
"""


def lamp() -> TestDriver:
    driver = TestDriver.from_text(LAMP)
    driver.signal("l", "installed", signal_id="s-0")
    for number in range(1, 30):
        driver.signal("l", "changed", {"watts": number}, signal_id=f"s-{number}")
    return driver


def job_of(driver: TestDriver, partition: int, partitions: int, store: MemoryStore) -> Restoration:
    form = layout.StateFormat(driver.codec, driver.machine.decimal_fields)
    task_id = TaskId(driver.machine.entity, partition)
    return Restoration(
        task_id, driver.topics, driver.entity_type.topic_ids, partitions, driver.codec, form, store, driver.now_ms
    )


class InPieces(MemoryLog):
    """A copy of a driver's log, or another log, read a few records at a time."""

    def __init__(self, driver: TestDriver, size: int, log: MemoryLog | None = None) -> None:
        super().__init__()
        self.__dict__.update(vars(log or log_of(driver)))
        self._size = size

    def take(self, partition: TopicPartition) -> tuple[list[ConsumerRecord], int | None]:
        """See `RestoreLog`."""
        position, end = self._read_at[partition], self.end(partition)
        found, rest = self.records(partition, position)[: self._size + 1], None
        if len(found) > self._size:
            rest = found.pop().offset
        self._read_at[partition] = end if rest is None else rest
        return found, end if rest is None else None


def lamps(driver: TestDriver, partitions: int) -> MemoryLog:
    """The same inputs' outcome in each partition, so that all of them have something to restore."""
    log = log_of(driver)
    for topic in driver.topics:
        zero = TopicPartition(topic, 0)
        for number in range(1, partitions):
            place = TopicPartition(topic, number)
            log.put(place, [record._replace(partition=number) for record in log.records(zero)], log.end(zero))
            if topic in driver.topics.inputs:
                log.commit({place: log.committed([zero])[zero] or 0})
    return log
