"""Latency, memory, restore and warm start of a gate, seen from outside."""

from __future__ import annotations

import shutil
import time
from typing import Any, NamedTuple

from confluent_kafka import Producer

from bench.workload import PARTITIONS, Proposals, each_once
from bench.world import BenchError, Eyes, Gate, Progress, World

_LATENCY_WARM_UP_S = 30.0
"""Java compiles what is hot during the first half minute, on the same cores: a broker in use has that behind it."""


class Latency(NamedTuple):
    """From a producer's call to the decision in a read_committed consumer's hands, in ms."""

    p50: float
    p99: float


class Restored(NamedTuple):
    """RSS in MiB, the higher of after deciding and after restoring; records/s of a cold restore; s to a warm start."""

    rss_mib: float
    records_per_s: float
    warm_start_s: float


def latency(world: World, at_per_s: int, seconds: int, progress: Progress) -> Latency:
    """Propose at a steady pace to one gate, one proposal for each of as many entities."""
    name = f"latency-{at_per_s}"
    topics, gate = world.topics(name), world.gate(name, "gate-0")
    gate.wait_for_tasks(PARTITIONS)
    eyes = Eyes(world.broker.bootstrap_servers, topics.decisions)
    producer = Producer({"bootstrap.servers": world.broker.bootstrap_servers, "linger.ms": 1})
    proposals, sent, waited_ms = Proposals(), {}, []
    count = at_per_s * (seconds + int(_LATENCY_WARM_UP_S))
    number = seen = 0
    began_s = shown_s = time.perf_counter()
    while seen < count:
        due = min(count, int((time.perf_counter() - began_s) * at_per_s))
        while number < due:
            number += 1
            made = proposals.escalate(number, f"e-{number:08d}", 0, time.time_ns() // 1_000_000, f"d-{number}")
            sent[made.key] = time.perf_counter()
            producer.produce(topics.proposals, made.value, made.key, made.partition)
        producer.poll(0)
        found, now_s = eyes.look(0.004), time.perf_counter()
        waited_ms += [
            (now_s - sent[message.key()]) * 1000
            for message in found
            if sent[message.key()] - began_s > _LATENCY_WARM_UP_S
        ]
        seen += len(found)
        if now_s > shown_s + 0.2:
            shown_s = now_s
            gate.check()
            progress(seen / count)
    eyes.close()
    gate.stop()
    waited_ms.sort()
    return Latency(waited_ms[len(waited_ms) // 2], waited_ms[len(waited_ms) * 99 // 100])


def restore(world: World, entities: int, progress: Progress) -> Restored:
    """Let a gate decide one proposal for each entity; measure it; then start it with no state, then with its own."""
    topics = world.topics("restore")
    eyes = Eyes(world.broker.bootstrap_servers, topics.decisions)
    gate = world.gate("restore", "gate-0", state="state")
    world.produce(topics.proposals, each_once(entities, time.time_ns() // 1_000_000),
                  lambda done: progress(done / entities / 2))  # fmt: skip
    seen = 0
    while seen < entities:
        found = eyes.look()
        seen += len(found)
        progress((1 + seen / entities) / 2)
        if not found:
            gate.check()
    eyes.close()
    if gate.decisions()["NONE"] != entities:
        raise BenchError(f"decisions {dict(gate.decisions())}, expected {entities} accepted")
    decided_mib = gate.rss_mib()
    gate.stop()
    shutil.rmtree(world.folder / "state")
    cold = world.gate("restore", "gate-0", state="state")
    cold.wait_for_tasks(PARTITIONS, 600)
    restored_mib = cold.rss_mib()
    cold.stop()
    warm = world.gate("restore", "gate-0", state="state")
    warm.wait_for_tasks(PARTITIONS)
    warm.stop()
    return Restored(max(decided_mib, restored_mib), records_per_s(cold), _ready_at_s(warm) - warm.started_s)


def records_per_s(gate: Gate) -> Any:
    """Records/s of a cold restore, of all tasks together."""
    lines = list(gate.lines())
    began_s = next(line["at_s"] for line in lines if line["event"] == "tasks" and line["restoring"])
    restored = [line for line in lines if line["event"] == "restored"]
    return sum(line["records"] for line in restored) / (restored[-1]["at_s"] - began_s)


def _ready_at_s(gate: Gate) -> Any:
    tasks = (line for line in gate.lines() if line["event"] == "tasks")
    return next(line["at_s"] for line in tasks if len(line["running"]) == PARTITIONS)
