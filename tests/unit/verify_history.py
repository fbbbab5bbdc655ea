"""A recorded history for tests of verify: made by the real task in memory, then damaged, compacted or cut at will."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from placet.definitions import load_definition
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.control import Published
from placet.schemas.definition.model import Definition
from placet.schemas.messages import Kind, Message
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.log import Take
from placet.streams.topology import EntityTopics, TaskId
from placet.testing import TestDriver
from placet.verify.report import TaskReport
from placet.verify.rules import PastRules
from placet.verify.verify import EntityPlace, verify_task
from tests.staged import StagedHost
from tests.unit.control_records import published, rulebook_of

DEFINITION = Path(__file__).parents[1] / "integration" / "order.yaml"
DAY_MS = 86_400_000
LAG_MS = DAY_MS + 120_000


@dataclass
class History:
    """What a log holds of one task: records by topic, where each topic begins, the group's positions. See `Log`."""

    topics: EntityTopics
    records: dict[str, list[ConsumerRecord]]
    positions: dict[str, int]
    now_ms: int
    published: list[tuple[int, Published]]
    codec: Codec
    topic_ids: Mapping[str, str]
    starts: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    later_positions: dict[str, int] | None = None
    lag_ms: int = LAG_MS

    def verify(self, shown: int = 20) -> TaskReport:
        rules = PastRules("order", rulebook_of(self.published), None, 1 << 20)
        place = EntityPlace(self.topics, self.topic_ids, 1, self.lag_ms)
        host = StagedHost(now_ms=lambda: self.now_ms)
        return verify_task(host, self, rules, place, TaskReport(TaskId("order", 0), shown))

    # -- damage ---------------------------------------------------------------------------------------------------

    def replace(self, topic: str, index: int, **parts: object) -> ConsumerRecord:
        self.records[topic][index] = self.records[topic][index]._replace(**parts)
        return self.records[topic][index]

    def append(self, record: ConsumerRecord, **parts: object) -> ConsumerRecord:
        """Add a copy of a record at the end of its topic, as a rogue producer does."""
        added = record._replace(offset=self.end(record.topic), timestamp=self.now_ms, **parts)
        self.records[record.topic].append(added)
        return added

    def end(self, topic: str) -> int:
        return max([self.starts.get(topic, 0), *(record.offset + 1 for record in self.records[topic])])

    def find(self, topic: str, wanted: Callable[[ConsumerRecord], bool]) -> int:
        return next(index for index, record in enumerate(self.records[topic]) if wanted(record))

    # -- what time does to a log ----------------------------------------------------------------------------------

    def compact(self, topic: str, before_ms: int, tombstones_before_ms: int) -> None:
        """Compact as Kafka does: of what is older, the last record of each key stays; tombstones go a while later."""
        old = [record for record in self.records[topic] if record.timestamp < before_ms]
        last = {record.key: record.offset for record in old}
        self.records[topic] = [
            record
            for record in self.records[topic]
            if record.timestamp >= before_ms
            or (last[record.key] == record.offset
                and (record.value is not None or record.timestamp >= tombstones_before_ms))
        ]  # fmt: skip

    def retain(self, topic: str, from_ms: int) -> None:
        """Delete what is older, as retention does."""
        end = self.end(topic)
        self.records[topic] = [record for record in self.records[topic] if record.timestamp >= from_ms]
        self.starts[topic] = self.records[topic][0].offset if self.records[topic] else end

    # -- the log --------------------------------------------------------------------------------------------------

    def committed(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int | None]:
        found = {partition: self.positions.get(partition.topic) for partition in partitions}
        if self.later_positions is not None:
            self.positions, self.later_positions = self.later_positions, None
        return found

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: self.ends.get(partition.topic, self.end(partition.topic)) for partition in partitions}

    def start_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: self.starts.get(partition.topic, 0) for partition in partitions}

    def read(self, partition: TopicPartition, position: int, target: int, take: Take) -> bool:
        for record in self.records[partition.topic]:
            if position <= record.offset < target and not take([record], record.offset + 1):
                return False
        return True

    def close(self) -> None:
        pass


def numbered(*definitions: Definition) -> list[tuple[int, Published]]:
    return [(offset, published(definition)) for offset, definition in enumerate(definitions)]


def history_of(driver: TestDriver, definitions: Iterable[Definition] = ()) -> History:
    """Copy what a driver's log holds."""
    records = {topic: driver.log.records(TopicPartition(topic, 0)) for topic in driver.topics}
    inputs = [TopicPartition(topic, 0) for topic in driver.topics.inputs]
    positions = {place.topic: position or 0 for place, position in driver.log.committed(inputs).items()}
    rules = numbered(*(tuple(definitions) or (load_definition(DEFINITION),)))
    return History(driver.topics, records, positions, driver.now_ms, rules, driver.codec, driver.entity_type.topic_ids)


def small_history() -> History:
    """Two orders, a transaction for each input but the last two, which share one."""
    driver = TestDriver(load_definition(DEFINITION))
    driver.signal("order-1", "opened", {"total": 5}, signal_id="opened-1")
    driver.signal("order-1", "seen", {}, signal_id="seen-1")
    driver.advance(seconds=1)
    driver.propose("order-1", "hold", {"note": "a"}, dedup_key="k1")
    driver.propose("order-1", "hold", {"note": "a"}, dedup_key="k1")
    driver.signal("order-2", "opened", {"total": 7}, signal_id="opened-2")
    driver.advance(seconds=1)
    driver.signal("order-1", "added", {"amount": 1}, signal_id="added-1")
    for number in (2, 3):
        message = Message(
            Kind.SIGNAL, "added", f"added-{number}", "order-2", {"amount": number}, driver.now_ms, driver.now_ms
        )
        driver.append(Kind.SIGNAL, b"order-2", driver.codec.encode_message(message))
    driver.run()
    return history_of(driver)


def long_history(seed: int, inputs: int, days: float, orders: int = 20) -> History:
    """A careless world's inputs over some days, decided in batches of any size, by gates that start anew at times."""
    random, driver = Random(seed), TestDriver(load_definition(DEFINITION))
    for number in range(inputs):
        _send(driver, random, number, f"order-{random.randrange(orders)}")
        if random.random() < 0.3:
            driver.run()
        if random.random() < 0.3:
            driver.advance(hours=random.expovariate(1) * days * 24 / inputs / 0.3)
        if random.random() < 0.01:
            driver.run()
            driver.restart()
    driver.run()
    return history_of(driver)


def _send(driver: TestDriver, random: Random, number: int, order: str) -> None:
    now, what = driver.now_ms, random.random()
    payload: Mapping[str, object] = {}
    if what < 0.25:
        name, input_id, payload = "opened", f"opened-{order}-{number // 40}", {"total": 5}
    elif what < 0.4:
        name, input_id, payload = "added", f"added-{number if random.random() < 0.8 else number // 2}", {"amount": 3}
    elif what < 0.55:
        name, input_id = "seen", f"seen-{number // 7}"
    elif what < 0.65:
        name, input_id, payload = "temperature", f"temperature-{number}", {"value": random.randrange(110)}
    elif what < 0.75:
        name, input_id = "closed", f"closed-{number}"
    elif what < 0.77:
        driver.append(Kind.SIGNAL, order.encode(), random.randbytes(9))
        return
    else:
        _propose(driver, random, number, order)
        return
    event_time = now - random.choice((0, 0, 0, 60_000))
    message = Message(Kind.SIGNAL, name, input_id, order, dict(payload), event_time, now)
    driver.append(Kind.SIGNAL, order.encode(), driver.codec.encode_message(message))


def _propose(driver: TestDriver, random: Random, number: int, order: str) -> None:
    name = random.choice(("hold", "release", "annotate"))
    payload = {} if name == "release" else {"note": f"note {number % 3}"}
    base = driver.read(order)
    message = Message(
        Kind.PROPOSAL, name, f"proposal-{number}", order, dict(payload), driver.now_ms, driver.now_ms,
        f"key-{number if random.random() < 0.7 else number // 2}",
        base_version=max(0, base.version - (random.random() < 0.2)),
    )  # fmt: skip
    driver.append(Kind.PROPOSAL, order.encode(), driver.codec.encode_message(message))
