"""A lamp: a small entity type with a history to restore, and a log that gives it in pieces."""

from __future__ import annotations

from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.log_in_memory import MemoryLog
from placet.streams.recovery.steps import Restoration
from placet.streams.state import layout
from placet.streams.state.store import MemoryStore
from placet.streams.topology import TaskId
from placet.testing import TestDriver

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
    ids = {topic: f"id-of-{topic}" for topic in driver.topics}
    form = layout.StateFormat(driver.codec, driver.machine.decimal_fields)
    task_id = TaskId(driver.machine.entity, partition)
    return Restoration(task_id, driver.topics, ids, partitions, driver.codec, form, store, driver.now_ms)


class InPieces(MemoryLog):
    """The driver's log, read a few records at a time."""

    def __init__(self, driver: TestDriver, size: int) -> None:
        self.__dict__.update(vars(driver.log))
        self._size = size

    def take(self, partition: TopicPartition) -> tuple[list[ConsumerRecord], int | None]:
        """See `RestoreLog`."""
        position, end = self._read_at[partition], self.end_offsets([partition])[partition]
        to = self._read_at[partition] = min(position + self._size, end)
        return self.records(partition, position)[: to - position], end if to == end else None


def lamps(driver: TestDriver, partitions: int) -> None:
    """The same inputs' outcome in each partition, so that all of them have something to restore."""
    for topic in driver.topics:
        for record in driver.log.records(TopicPartition(topic, 0)):
            for number in range(1, partitions):
                place = TopicPartition(topic, number)
                driver.log.append(place, record.timestamp, record.key, record.value, record.headers)
    for number in range(1, partitions):
        zero = {topic: TopicPartition(topic, 0) for topic in driver.topics.inputs}
        found = driver.log.committed(list(zero.values()))
        driver.log.commit({TopicPartition(topic, number): found[at] or 0 for topic, at in zero.items()})
