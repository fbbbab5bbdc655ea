"""Decisions per second, seen from outside, and the ceiling: a copier that moves the same bytes and decides nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.workload import PARTITIONS, Workload
from bench.world import BenchError, Eyes, Gate, Progress, Running, World

_WARM_UP_SHARE = 0.2
_COPIER = Path(__file__).with_name("copier.py")


def gates(world: World, workload: Workload, processes: int, progress: Progress, profile: Path | None = None) -> float:
    """Let gates decide the workload, which waits for them; return their decisions/s.

    Args:
        world: where.
        workload: what.
        processes: how many gates share the partitions.
        progress: is told which share is done.
        profile: a file for cProfile's statistics; the rate is no figure then.

    Raises:
        BenchError: their decisions are not those expected.
    """
    app = f"gates{processes}"
    topics = world.topics(app)
    world.produce(topics.proposals, workload.inputs)
    eyes = Eyes(world.broker.bootstrap_servers, topics.decisions)
    python = ("-m", "cProfile", "-o", str(profile)) if profile else ()
    started = [world.gate(app, f"gate-{n}", python=python) for n in range(processes)]
    share = PARTITIONS // processes
    rate = _rate(eyes, started, len(workload.inputs), lambda: all(len(g.running()) == share for g in started), progress)
    found = sum((gate.decisions() for gate in started), Counter[str]())
    for gate in started:
        gate.stop()
    if found != workload.expected:
        raise BenchError(f"decisions {dict(found)}, expected {dict(workload.expected)}")
    return rate


def copiers(world: World, workload: Workload, processes: int, progress: Progress) -> float:
    """Let copiers copy what the gates of as many processes decided; return records/s."""
    app = f"copiers{processes}"
    topics, source = world.topics(app), f"gates{processes}.machine.proposals"
    eyes = Eyes(world.broker.bootstrap_servers, topics.decisions)
    arguments = (str(_COPIER), world.broker.bootstrap_servers, app, source, topics.decisions, topics.changelog)
    started = [world.script(*arguments, f"{app}-{n}") for n in range(processes)]
    rate = _rate(eyes, started, len(workload.inputs), lambda: True, progress)
    for copier in started:
        copier.stop()
    return rate


def _rate(
    eyes: Eyes, started: Sequence[Running | Gate], records: int, warm: Callable[[], bool], progress: Progress
) -> float:
    """Count until all is there; the rate is that after the warm-up, so without starts and rebalances."""
    seen, since = 0, None
    while seen < records:
        found = eyes.look()
        now_s = time.perf_counter()
        seen += len(found)
        progress(seen / records)
        if since is None and seen >= records * _WARM_UP_SHARE and warm():
            since = seen, now_s
        if not found:
            for process in started:
                process.check()
    eyes.close()
    if since is None or since[0] > records // 2:
        raise BenchError("too few records: all were decided before the gates were warm")
    return (records - since[0]) / (now_s - since[1])
