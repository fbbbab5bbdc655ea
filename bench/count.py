"""Instructions per decision: `Task.process` and `committed` on the bench's workload, with the store in memory.

Counted by valgrind's cachegrind, as the difference of a long and a short run over the same inputs: start, imports and
reading the inputs cancel out. The same code on the same Python gives the same figure within 0.1 %, whatever else the
machine does; another Python or kind of processor gives another one: each has its own.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import thread_time

from bench.workload import mixed
from bench.written import opened_task
from placet.streams.main import relax_garbage_collection
from placet.streams.records import ConsumerRecord
from placet.streams.state.rocksdb import RocksDBStore
from placet.streams.state.store import MemoryStore, StateStore
from placet.streams.topology import entity_topics

FIGURES = Path(__file__).with_suffix(".json")
TOPICS = entity_topics("bench", "machine")
NOW_MS = 1_800_000_000_000
SHORT, LONG, BATCH, ENTITIES = 4_000, 10_000, 2_000, 2_000
GROWTH_MAX = 1.02
_REFS = re.compile(r"I\s+refs:\s+([\d,]+)")


def write_inputs(file: Path) -> None:
    """Write the inputs of one partition down, in the order of its log."""
    workload = mixed(LONG, ENTITIES, NOW_MS, lambda _share: None)
    inputs = [
        (TOPICS.proposals, 0, offset, NOW_MS, each.key, each.value) for offset, each in enumerate(workload.inputs)
    ]
    file.write_bytes(pickle.dumps((inputs, workload.expected)))


def in_process_us() -> float:
    """Return the CPU time that deciding an input and storing what follows takes, with RocksDB, at its best, in us."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "inputs"
        write_inputs(file)
        stores = (RocksDBStore(Path(folder) / str(number)) for number in range(5))
        return min(decide(file, LONG, store) for store in stores) / LONG * 1e6


def decide(file: Path, records: int, store: StateStore | None = None) -> float:
    """Decide the first inputs, in batches, and store what follows; return the CPU time that it took, in seconds."""
    inputs, expected = pickle.loads(file.read_bytes())
    task = opened_task(TOPICS, store or MemoryStore())
    log = [ConsumerRecord(*each) for each in inputs]
    given: Counter[str] = Counter()
    relax_garbage_collection()
    began_s = thread_time()
    for begin in range(0, records, BATCH):
        task.process(log[begin : begin + BATCH], NOW_MS, NOW_MS)
        given.update({reason.name: count for (_, _, reason), count in task.counts.items()})
        task.committed({})
    took_s = thread_time() - began_s
    task.close()
    assert given == expected or records < LONG, f"{given}, and not {expected}: nothing is worth counting"
    return took_s


def instructions(file: Path, records: int) -> int:
    """Count the instructions of a process that decides so many inputs."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    told = subprocess.run(
        [*command, sys.executable, "-m", "bench.count", "--decide", str(records), str(file)],
        env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    found = _REFS.search(told)
    assert found is not None, told
    return int(found[1].replace(",", ""))


def kept_instructions() -> int | None:
    """Return the committed figure of this Python, if it has one."""
    figures: dict[str, int] = json.loads(FIGURES.read_text())
    return figures.get(this_python())


def this_python() -> str:
    """What a figure is valid for."""
    return f"{platform.python_implementation()} {platform.python_version()} {platform.machine()}"


def main() -> int:
    """Measure, and compare or keep."""
    parser = argparse.ArgumentParser(prog="ops/count", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="write the figure down in bench/count.json")
    parser.add_argument("--decide", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("file", nargs="?", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.decide:
        decide(arguments.file, arguments.decide)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "inputs"
        write_inputs(file)
        took_us = min(decide(file, LONG) for _ in range(3)) / LONG * 1e6  # and modules are compiled to bytecode now
        print(f"{took_us:.1f} us of CPU time a decision on this machine, at its best")
        if shutil.which("valgrind") is None:
            print("valgrind is not installed (Debian: apt-get install valgrind): instructions are not counted")
            return 0
        found = round((instructions(file, LONG) - instructions(file, SHORT)) / (LONG - SHORT))
    figures, python = json.loads(FIGURES.read_text()), this_python()
    kept = figures.get(python)
    if arguments.keep:
        FIGURES.write_text(json.dumps({**figures, python: found}, indent=2, sort_keys=True) + "\n")
    if kept is None or arguments.keep:
        print(f"{found:,} instructions a decision; before: {kept or 'no figure'} ({python})")
        return 0
    print(f"{found:,} instructions a decision, {found / kept - 1:+.1%} beside the committed {kept:,} ({python})")
    if found > kept * GROWTH_MAX:
        print("More than 2 % more. Make it cheaper, or say in the commit what it buys and run: ops/count --keep")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
