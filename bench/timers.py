"""Armed timers of a gate, seen from outside: what many of them cost, and how many fire when all are due at once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from confluent_kafka import Producer

from bench.phases import records_per_s
from bench.workload import PARTITIONS, Input
from bench.world import BenchError, Eyes, Gate, Progress, World
from placet.definitions import load_definition
from placet.processors.address import partition_of
from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Decision
from placet.schemas.messages import Kind, Message
from placet.streams.topology import EntityTopics

__all__ = ["Armed", "armed"]

DEFINITION: Final = Path(__file__).with_name("collar.yaml")
_CODEC: Final = Codec(load_definition(DEFINITION))
_DECIDED_PER_S: Final = 5_000
"""A gate decides more: so the timers are armed, and restored, before they are due."""
_RESTORED_S: Final = 120
_IDLE_S: Final = 20
_BESIDE_PER_S: Final = 50
"""Facts of other entities while timers fire."""
_ALONE: Final = 20
_ALONE_DUE_MS: Final = 20_000
"""As in use: clocks are measured a quarter of a minute after a gate's start."""


class Armed(NamedTuple):
    """What timers cost a gate.

    Attributes:
        idle_cpu: share of a core while all of them wait.
        rss_mib: after a cold restore of them.
        restored_per_s: records/s of that restore.
        fired_per_s: when all are due at once.
        beside_p99_ms: from produce to visible decision, of facts that come meanwhile.
        late_p50_ms: from due to visible decision, of single ones in idle partitions.
        late_max_ms: the latest of these.
    """

    idle_cpu: float
    rss_mib: float
    restored_per_s: float
    fired_per_s: float
    beside_p99_ms: float
    late_p50_ms: float
    late_max_ms: float


def armed(world: World, timers: int, progress: Progress) -> Armed:
    """Arm timers of as many entities, all due at one time; restore them on an empty disk; let them fire.

    Raises:
        BenchError: they do not fire once each.
    """
    app = "timers"
    topics = world.topics(app, DEFINITION)
    gate = world.gate(app, "gate-0", state="timers", definition=DEFINITION)
    eyes = Eyes(world.broker.bootstrap_servers, topics.decisions)
    due_ms = _now_ms() + timers * 1_000 // _DECIDED_PER_S + _RESTORED_S * 1_000
    world.produce(topics.signals, (_odd(number, due_ms) for number in range(timers)))
    _until(eyes, gate, timers, lambda done: progress(done * 0.4))
    before_s, began_s = gate.cpu_s(), time.perf_counter()
    while time.perf_counter() < began_s + _IDLE_S:
        eyes.look()
    idle_cpu = (gate.cpu_s() - before_s) / (time.perf_counter() - began_s)
    gate.stop()
    shutil.rmtree(world.folder / "timers")
    gate = world.gate(app, "gate-0", state="timers", definition=DEFINITION)
    gate.wait_for_tasks(PARTITIONS, 600)
    restored_per_s, rss_mib = records_per_s(gate), gate.rss_mib()
    if _now_ms() > due_ms:
        raise BenchError("the timers were due before they were restored: try fewer")
    progress(0.5)
    while _now_ms() < due_ms:
        eyes.look()
    fired_per_s, beside_p99_ms = _fire(world, topics, eyes, gate, timers, lambda done: progress(0.5 + done * 0.4))
    late_ms = sorted(_alone(world, topics, eyes, gate))
    eyes.close()
    gate.stop()
    return Armed(idle_cpu, rss_mib, restored_per_s, fired_per_s, beside_p99_ms, late_ms[len(late_ms) // 2], late_ms[-1])


def _fire(
    world: World, topics: EntityTopics, eyes: Eyes, gate: Gate, timers: int, progress: Progress
) -> tuple[float, float]:
    producer = Producer({"bootstrap.servers": world.broker.bootstrap_servers, "linger.ms": 1})
    sent: dict[bytes, float] = {}
    waited_ms, seen, number = [], 0, 0
    began_s = first_s = time.perf_counter()
    while seen < timers:
        while number < (time.perf_counter() - began_s) * _BESIDE_PER_S:
            number += 1
            odd = _odd(timers + number, _now_ms() + 3_600_000)
            sent[odd.key] = time.perf_counter()
            producer.produce(topics.signals, odd.value, odd.key, odd.partition)
        producer.poll(0)
        found, now_s = eyes.look(0.01), time.perf_counter()
        beside = [message.key() for message in found if message.key() in sent]
        waited_ms += [(now_s - sent.pop(key)) * 1000 for key in beside]
        if not seen and len(found) > len(beside):
            first_s = now_s
        seen += len(found) - len(beside)
        gate.check()
        progress(seen / timers)
    per_s = timers / (time.perf_counter() - first_s)
    waited_ms.sort()
    return per_s, waited_ms[len(waited_ms) * 99 // 100]


def _alone(world: World, topics: EntityTopics, eyes: Eyes, gate: Gate) -> Iterator[float]:
    """Arm single timers, one a second, and tell how late each one's decision is seen."""
    producer = Producer({"bootstrap.servers": world.broker.bootstrap_servers, "linger.ms": 1})
    dues: dict[str, int] = {}
    sent, next_s = 0, time.perf_counter()
    while sent < _ALONE or dues:
        if sent < _ALONE and time.perf_counter() >= next_s:
            sent, next_s = sent + 1, next_s + 1
            due_ms = _now_ms() + _ALONE_DUE_MS
            odd = _odd(10_000_000 + sent, due_ms)
            dues[odd.key.decode()] = due_ms
            producer.produce(topics.signals, odd.value, odd.key, odd.partition)
            producer.flush(5)
        for message in eyes.look(0.005):
            decision: Decision = _CODEC.decode_decision(message.value())[0]
            if decision.kind is Kind.TIMER:
                yield float(_now_ms() - dues.pop(decision.entity_id))
        gate.check()


def _until(eyes: Eyes, gate: Gate, count: int, progress: Callable[[float], None]) -> None:
    seen = 0
    while seen < count:
        found = eyes.look()
        seen += len(found)
        progress(seen / count)
        if not found:
            gate.check()


def _odd(number: int, due_ms: int) -> Input:
    now_ms, entity = _now_ms(), f"c-{number:08d}"
    message = Message(Kind.SIGNAL, "odd", f"s-{number}", entity, {"until": due_ms}, now_ms, now_ms, proposer="collar")
    key = entity.encode()
    return Input(partition_of(key, PARTITIONS), key, _CODEC.encode_message(message))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
