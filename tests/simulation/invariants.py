"""What must hold after every history, once all is healed and settled."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, cast

from placet.schemas.codec.control import encode_control
from placet.simulation.brokers.cluster import SimulatedCluster
from placet.streams.loop.task_calls import TRANSACTION_BYTES_MAX
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.log import Take
from placet.streams.rules.control import _published
from placet.streams.rules.rulebook import Rulebook
from placet.streams.topology import TaskId, dead_letters_topic
from placet.verify.report import TaskReport
from placet.verify.rules import PastRules
from placet.verify.verify import EntityPlace, verify_task
from tests.model.second_checker import History, LoggedRecord, check
from tests.simulation.rules import APP, DEFINITION, PARTITIONS, RULES, TOPICS
from tests.simulation.world import World

__all__ = ["ClusterLog", "broken_invariants"]

_LATER_MS: Final = 3_600_000


class ClusterLog:
    """The logs of a simulated cluster, read without a client: a `recovery.log.Log`."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster

    def committed(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int | None] | None:
        group = self._cluster.group(APP)
        if any(group.is_unstable(at) for at in partitions):
            return None
        return {at: group.positions.get(at) for at in partitions}

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {at: self._cluster.log(at).high_watermark for at in partitions}

    def start_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {at: self._cluster.log(at).start for at in partitions}

    def records(self, at: TopicPartition, position: int = 0) -> list[ConsumerRecord]:
        entries, _, _ = self._cluster.log(at).read(position, 1_000_000, committed=True)
        return [ConsumerRecord(*at, one.offset, one.timestamp, one.key, one.value, one.headers) for one in entries]

    def read(self, partition: TopicPartition, position: int, target: int, take: Take) -> bool:
        return take(self.records(partition, position), target)

    def close(self) -> None: ...


class _Clock:
    """Long after everything."""

    def __init__(self, world: World) -> None:
        self._ms = world.cluster.network.clock_ms(1) + _LATER_MS

    def now_ms(self) -> int:
        return self._ms

    def monotonic_s(self) -> float:
        return 0.0

    def sleep(self, _seconds: float) -> None:
        raise AssertionError("a transaction never ended")


def past_rules() -> PastRules:
    """The rules of every world: compiled once."""
    if not _RULES:
        rulebook = Rulebook("control")
        value = encode_control(_published(DEFINITION, 0))
        rulebook.take([ConsumerRecord("control", 0, 0, 0, b"", value)], 1)
        _RULES.append(PastRules(DEFINITION.entity, rulebook, None, 1_048_588))
    return _RULES[0]


_RULES: Final[list[PastRules]] = []


def history_of(world: World) -> History:
    """What the second checker is told: only what lies on the log."""
    topics = {topic: [_logged(world.cluster, (topic, number)) for number in range(PARTITIONS)] for topic in TOPICS}
    dead = dead_letters_topic(APP)
    topics[dead] = [_logged(world.cluster, (dead, 0))]
    ends = {at: log.end for at, log in world.logs.items()}
    return History(topics, world.cluster.group(APP).positions, ends, APP, DEFINITION.entity, RULES)


def _logged(cluster: SimulatedCluster, at: tuple[str, int]) -> list[LoggedRecord]:
    return [
        LoggedRecord(
            one.offset, one.timestamp, one.key, one.value, tuple(one.headers or ()),
            one.producer_id * 1_000_000 + one.transaction,
        )
        for one in cluster.log(at).history()
    ]  # fmt: skip


_MAY_END: Final = re.compile(
    r": 0$|ClockSkew: this machine's clock is|PLACET_STATE_DIR: no store can be made"
    r"|can't be (written|set aside).*(space|[Rr]ead-only)|SettingsError: another gate is called"
)
"""What ends a process by its own will: a signal, its clock, its disk, another gate of its name."""


def broken_invariants(world: World) -> Iterator[str]:
    """Say what does not hold."""
    cluster, log = world.cluster, ClusterLog(world.cluster)
    yield from (f"second checker: {said}" for said in check(history_of(world), settled=True))
    yield from (f"a task stopped by name: {told}" for told in world.stopped)
    yield from (f"a gate died of a bug: {told}" for told in world.bugs)
    yield from (f"left behind: {name}" for name in world.left)
    yield from (f"a gate ended without need: {told}" for told in world.ends if not _MAY_END.search(told))
    sizes: Counter[tuple[int, int]] = Counter()
    for topic in (TOPICS.changelog, TOPICS.decisions, TOPICS.ledger):
        for number in range(PARTITIONS):
            for entry in cluster.log((topic, number)).history():
                sizes[entry.producer_id, entry.transaction] += len(entry.value or b"")
    yield from (f"a transaction of {size:,} bytes" for size in sizes.values() if size > 2 * TRANSACTION_BYTES_MAX)
    ids = {topic: cluster.topics[topic].topic_id for topic in TOPICS}
    lag_ms = int(cluster.topics[TOPICS.ledger].configs["min.compaction.lag.ms"])
    place = EntityPlace(TOPICS, ids, PARTITIONS, lag_ms)
    for number in range(PARTITIONS):
        report = TaskReport(TaskId(DEFINITION.entity, number))
        verify_task(cast("Any", _Clock(world)), log, past_rules(), place, report)
        yield from (f"verify: {finding}" for finding in report.findings)
        inputs = sum(len(cluster.log((topic, number)).history()) for topic in TOPICS.inputs)
        decisions = len(cluster.log((TOPICS.decisions, number)).history())
        if inputs != decisions:
            yield f"{inputs} inputs and {decisions} decisions in partition {number}"
        for topic in TOPICS:
            found = cluster.log((topic, number))
            if found.last_stable_offset != found.end:
                yield f"a transaction is open for ever in {topic}-{number} at {found.last_stable_offset}"
