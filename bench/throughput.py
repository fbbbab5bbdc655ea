"""Decisions per second, seen from outside; and the ceiling: a copier that writes the same and decides nothing."""

from __future__ import annotations

import pickle
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.workload import PARTITIONS, Workload
from bench.world import BenchError, Eyes, Gate, Progress, Running, World
from bench.written import written
from placet.streams.settings import Settings

WARM_UP_SHARE = 0.2
SILENCE_S_MAX = 60
"""A process that has not started by then, or stands still for so long, is not waited for."""
_COUNTED_S_MAX = 5
_COPIER = Path(__file__).with_name("copier.py")
_READY_MADE = 2_000
"""Inputs of the workload for which the copier has a gate's records: enough for each outcome in its share."""


class Rate(NamedTuple):
    """What some processes of one kind did, after the warm-up.

    Attributes:
        records_per_s: inputs.
        cpu_us_per_record: CPU time of the whole processes, librdkafka's threads among it.
        batch_records: inputs of one transaction, the warm-up included.
    """

    records_per_s: float
    cpu_us_per_record: float
    batch_records: float


def gates(
    world: World, workload: Workload, processes: int, progress: Progress, profile: Path | None = None, app: str = ""
) -> Rate:
    """Let gates decide the workload, which waits for them.

    Args:
        world: where.
        workload: what.
        processes: how many gates share the partitions.
        progress: is told which share is done.
        profile: a file for cProfile's statistics; the rate is no figure then.
        app: a name that no app of this world had before; those who copy look for the usual one.

    Raises:
        BenchError: their decisions are not those expected.
    """
    app = app or f"gates{processes}"
    topics = world.topics(app)
    world.produce(topics.proposals, workload.inputs)
    eyes = Eyes(world.broker.bootstrap_servers, topics.decisions)
    python = ("-m", "cProfile", "-o", str(profile)) if profile else ()
    started = [world.gate(app, f"gate-{n}", python=python) for n in range(processes)]
    share = PARTITIONS // processes
    count = len(workload.inputs)
    per_s, cpu_us = rate(eyes, started, count, lambda: all(len(g.running()) == share for g in started), progress)
    found = _counted(started, count)
    transactions = sum(gate.transactions() for gate in started)
    for gate in started:
        gate.stop()
    if found != workload.expected:
        raise BenchError(f"decisions {dict(found)}, expected {dict(workload.expected)}")
    return Rate(per_s, cpu_us, count / transactions)


def _counted(started: Sequence[Gate], records: int) -> Counter[str]:
    """What gates have decided, by reason. They count a transaction a moment after it can be seen."""
    deadline_s = time.perf_counter() + _COUNTED_S_MAX
    while True:
        found = sum((gate.decisions() for gate in started), Counter[str]())
        if found.total() >= records or time.perf_counter() > deadline_s:
            return found
        time.sleep(0.05)


def copiers(world: World, workload: Workload, processes: int, progress: Progress) -> Rate:
    """Let copiers write what the gates of as many processes wrote."""
    app = f"copiers{processes}"
    topics, source = world.topics(app), f"gates{processes}.machine.proposals"
    ready_made = written(topics, workload.inputs[:_READY_MADE], workload.now_ms)
    file = world.folder / f"{app}.pickle"
    file.write_bytes(pickle.dumps(tuple(ready_made)))
    eyes = Eyes(world.broker.bootstrap_servers, topics.decisions)
    most = Settings.model_fields["batch_records_max"].default
    arguments = (world.broker.bootstrap_servers, app, source, str(most))
    started = [world.copier(str(_COPIER), *arguments, f"{app}-{n}", str(file)) for n in range(processes)]
    count = len(workload.inputs)
    per_s, cpu_us = rate(eyes, started, count, lambda: True, progress)
    for copier in started:
        copier.stop()
    return Rate(per_s, cpu_us, count / sum(copier.transactions() for copier in started))


def rate(
    eyes: Eyes, started: Sequence[Running], records: int, warm: Callable[[], bool], progress: Progress
) -> tuple[float, float]:
    """Count until all is there. Records/s and CPU us a record are those after the warm-up, so without starts.

    Raises:
        BenchError: a process ended, or nothing came for too long.
    """
    seen, since, came_s = 0, None, time.perf_counter()
    while seen < records:
        found = eyes.look()
        now_s = time.perf_counter()
        came_s = now_s if found else came_s
        if now_s > came_s + SILENCE_S_MAX:
            raise BenchError(f"{seen} of {records} records came, and nothing more for {SILENCE_S_MAX} s")
        seen += len(found)
        progress(seen / records)
        if since is None and seen >= records * WARM_UP_SHARE and warm():
            since = seen, now_s, sum(process.cpu_s() for process in started)
        if not found:
            for process in started:
                process.check()
    cpu_s = sum(process.cpu_s() for process in started)
    eyes.close()
    if since is None or since[0] > records // 2:
        raise BenchError("too few records: all were decided before the gates were warm")
    began, began_s, began_cpu_s = since
    count = records - began
    return count / (now_s - began_s), (cpu_s - began_cpu_s) / count * 1e6
