"""How fast is it? Real gate processes on a real Kafka, measured from outside, on this machine. Never a timed test.

The workload: proposals of which 70 % are acceptable and 10 % each repeated, expired and stale, over 4 partitions; the
gates' decisions are checked. The copier reads the same inputs in the same batches and writes ready-made records of a
gate, as many and as large, with their headers: what Kafka and its client leave for a gate. Figures of a machine that is
busy with other things tell nothing.

--only peers compares gates with others that do the same job on the same broker, one after the other, in two rounds:
Kafka Streams 4.3, exactly once, with one thread and two; and a PostgreSQL procedure behind Kafka, 500 proposals in a
transaction, two connections. Their decisions are checked, too; those of PostgreSQL stay in its outbox. Each is measured
after the first fifth: with few --records Java is not warm by then. Kafka Streams needs Maven and a JDK (17 or newer),
and a network the first time; what is not installed is said, and the others are measured. Six minutes.

--only timers arms a timer of each of --entities, all due at one time, restores them on an empty disk, and lets them
fire; then single ones in idle partitions. Eight minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import pstats
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import phases, throughput, timers
from bench.count import in_process_us, kept_instructions
from bench.peers import comparison
from bench.peers.phase import Comparison
from bench.workload import Workload, mixed
from bench.world import BenchError, World
from placet.schemas.errors import PlacetError
from placet.streams.telemetry.build import kind_of_build

Figures: TypeAlias = dict[str, Any]
Given = TypeVar("Given")
PHASES = ("throughput", "latency", "memory", "restore")
ON_DEMAND = ("peers", "timers")
"""Phases that need more than Python, or much time: only where they are named."""
RATES = (100, 1_000)
GOALS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("decisions/s, one process", ("one_process", "records_per_s"), "{:,.0f}", ">= 20,000"),
    ("   inputs of one transaction", ("one_process", "batch_records"), "{:,.0f}", ""),
    ("decisions/s, two processes", ("two_processes", "records_per_s"), "{:,.0f}", ">= 1.6 x one"),
    ("copier, inputs/s, one process", ("copier", "one_process", "records_per_s"), "{:,.0f}", ""),
    ("   inputs of one transaction", ("copier", "one_process", "batch_records"), "{:,.0f}", ""),
    ("copier, inputs/s, two processes", ("copier", "two_processes", "records_per_s"), "{:,.0f}", ""),
    ("CPU of a gate's process, us a decision", ("one_process", "cpu_us_per_record"), "{:.1f}", ""),
    ("CPU of a copier's process, us an input", ("copier", "one_process", "cpu_us_per_record"), "{:.1f}", ""),
    ("deciding and storing in process, us a decision", ("in_process_us_per_record",), "{:.1f}", "<= 14"),
    ("instructions of deciding and storing, a decision", ("instructions_per_decision",), "{:,.0f}", ""),
    ("from produce to visible decision, at 100/s, ms, p50", ("latency_ms", "100", "p50"), "{:.1f}", "<= 8"),
    ("   p99", ("latency_ms", "100", "p99"), "{:.1f}", "<= 15"),
    ("from produce to visible decision, at 1,000/s, ms, p50", ("latency_ms", "1000", "p50"), "{:.1f}", "<= 15"),
    ("   p99", ("latency_ms", "1000", "p99"), "{:.1f}", "<= 35"),
    ("RSS, MiB, at all entities", ("rss_mib_at_1m_entities",), "{:.0f}", "<= 400"),
    ("restore, records/s", ("restore_records_per_s",), "{:,.0f}", ">= 150,000"),
    ("ready on warm state, s", ("warm_start_s",), "{:.2f}", "<= 2"),
    ("armed timers: CPU of an idle gate, of a core", ("timers", "idle_cpu"), "{:.1%}", ""),
    ("   RSS after a cold restore, MiB", ("timers", "rss_mib"), "{:.0f}", "<= 400"),
    ("   restore, records/s", ("timers", "restored_per_s"), "{:,.0f}", ">= 150,000"),
    ("   fired/s, all due at once", ("timers", "fired_per_s"), "{:,.0f}", ""),
    ("   facts beside them, produce to decision, ms, p99", ("timers", "beside_p99_ms"), "{:.0f}", ""),
    ("   single ones in idle partitions, late by ms, p50", ("timers", "late_p50_ms"), "{:.0f}", ""),
    ("      the latest of 20", ("timers", "late_max_ms"), "{:.0f}", "<= 1,000"),
)
"""Rows of the table: what, where in the figures, how it is written, and the project's goal on two cores."""


class Bench:
    """Runs phases in one world and shows how far they are, on stderr."""

    def __init__(self, arguments: argparse.Namespace, world: World, bars: Progress) -> None:
        self._arguments, self._world, self._bars = arguments, world, bars

    def figures(self, only: set[str]) -> Figures:
        """Run phases; return what they gave."""
        found: Figures = {}
        if "throughput" in only:
            found |= self._throughput()
        if "latency" in only:
            found["latency_ms"] = {}
            for at_per_s in RATES:
                measure = partial(phases.latency, self._world, at_per_s, self._arguments.seconds)
                found["latency_ms"][str(at_per_s)] = self._shown(f"latency at {at_per_s:,}/s", measure)._asdict()
        if only & {"memory", "restore"}:
            entities = self._arguments.entities
            after = self._shown(
                f"{entities:,} entities: memory, restore, warm start",
                lambda show: phases.restore(self._world, entities, show),
            )
            found["rss_mib_at_1m_entities"] = after.rss_mib
            found["restore_records_per_s"], found["warm_start_s"] = after.records_per_s, after.warm_start_s
        if "timers" in only:
            found["timers"] = self._shown(
                f"{self._arguments.entities:,} armed timers",
                lambda show: timers.armed(self._world, self._arguments.entities, show),
            )._asdict()
        if "peers" in only:
            found["peers"] = self._peers()
        return found

    def _peers(self) -> Figures:
        compared = Comparison(self._world, self.workload(), self._shown)
        compared.run()
        for sentence in compared.not_measured:
            self._bars.console.print(sentence, style="yellow", markup=False, soft_wrap=True)
        return comparison.figures(compared.rates, compared.not_measured)

    def _throughput(self) -> Figures:
        workload = self.workload()
        found: Figures = {}
        names = {1: "one_process", 2: "two_processes"}
        for processes, name in names.items():
            measure = partial(throughput.gates, self._world, workload, processes)
            found[name] = self._shown(f"gates, {name.replace('_', ' ')}", measure)._asdict()
        found["copier"] = {}
        for processes, name in names.items():
            measure = partial(throughput.copiers, self._world, workload, processes)
            found["copier"][name] = self._shown(f"copier, {name.replace('_', ' ')}", measure)._asdict()
        found["in_process_us_per_record"] = self._shown(
            "deciding and storing, in process", lambda _show: in_process_us()
        )
        if kind_of_build() == "interpreted":  # that is the build whose figure is kept
            found["instructions_per_decision"] = kept_instructions()
        return found

    def workload(self) -> Workload:
        """Make the proposals."""
        records, now_ms = self._arguments.records, time.time_ns() // 1_000_000
        return self._shown(f"{records:,} proposals", lambda show: mixed(records, max(1, records // 5), now_ms, show))

    def profile(self) -> None:
        """Print where the time of one gate goes."""
        workload = self.workload()
        file = self._world.folder / "gate.profile"
        self._shown("one gate under cProfile", lambda show: throughput.gates(self._world, workload, 1, show, file))
        pstats.Stats(str(file)).strip_dirs().sort_stats("tottime").print_stats(25)

    def _shown(self, what: str, phase: Callable[[Callable[[float], None]], Given]) -> Given:
        bar = self._bars.add_task(what, total=1.0)
        given = phase(lambda share: self._bars.update(bar, completed=share))
        self._bars.update(bar, completed=1.0)
        return given


def table(found: Figures, load: str) -> Table:
    """Return the figures beside the goals, and the gate as a share of the copier."""
    shown = Table(
        title=f"Placet on this machine, {kind_of_build()}", caption=load, title_justify="left", caption_justify="left"
    )
    shown.add_column("what")
    for heading in ("measured", "goal", "of the copier"):
        shown.add_column(heading, justify="right")
    for what, path, form, goal in GOALS:
        value = _at(found, path)
        if value is not None:
            copied = _at(found, ("copier", *path)) if path[-1] == "records_per_s" else None
            shown.add_row(what, form.format(value), goal, f"{value / copied:.0%}" if copied else "")
    one, two = _at(found, ("one_process", "records_per_s")), _at(found, ("two_processes", "records_per_s"))
    if one and two:
        shown.add_row("two processes / one", f"{two / one:.2f}", ">= 1.6", "")
    shown.add_section()
    for row in comparison.rows(found.get("peers", {})):
        shown.add_row(*row, "")
    return shown


def _at(found: Figures, path: tuple[str, ...]) -> Any:
    value: Any = found
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    if not isinstance(value, float):
        return value
    return round(value) if value >= 1_000 else round(value, 2)


def _load() -> str:
    return f"load average {', '.join(f'{load:.1f}' for load in os.getloadavg())}, {os.cpu_count()} cores"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ops/bench",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
        epilog="The compiled build is measured where a C compiler is; --interpreted: the other one.\n"
        "Example: ops/bench --interpreted --only throughput",
    )
    parser.add_argument("--only", action="append", choices=(*PHASES, *ON_DEMAND),
                        help="this phase; repeat it for more (default: all but peers)")  # fmt: skip
    parser.add_argument("--records", type=int, default=500_000, help="proposals of throughput and peers (500000)")
    parser.add_argument("--entities", type=int, default=1_000_000, help="of memory and restore (1000000)")
    parser.add_argument("--seconds", type=int, default=30, help="of each latency phase, after the warm-up (30)")
    parser.add_argument("--output", choices=("table", "json"), default="table", help="json: one object on stdout")
    parser.add_argument("--profile", action="store_true", help="only: where one gate's time goes, by function")
    return parser.parse_args()


def main() -> int:
    arguments, errors = _arguments(), Console(stderr=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    before = f"Before: {_load()}."
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn()
    try:
        with World() as world, Progress(*columns, console=errors) as bars:
            bench = Bench(arguments, world, bars)
            if arguments.profile:
                bench.profile()
                return 0
            found = bench.figures(set(arguments.only or PHASES))
    except (BenchError, PlacetError) as error:
        errors.print(f"ops/bench: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.output == "json":
        print(json.dumps({"build": kind_of_build(), **_rounded(found)}))
    else:
        Console().print(table(found, f"{before} After: {_load()}."))
    return 0


if __name__ == "__main__":
    sys.exit(main())
