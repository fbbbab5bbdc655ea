"""A minute with Placet: real flights as facts, two AIs that compete, two gates that decide, one of which is killed.

Everything is real: an Apache Kafka in a temporary folder, `placet run` twice, two advisor processes. Afterwards the log
is read: what was decided and why, what would have happened without a gate, and `placet verify`. Nothing but the report
is left behind, however it ends.

world     broker, gates, advisors: processes     history          what is on the log, joined
flights   the facts                              without_a_gate   the same inputs, last writer wins
advisors  the advisor process                    report           one JSON object from all of it
minds     what the advisors think                page, stories    an HTML page of it
run       feeding, watching, killing             plots            its pictures
tally     what was seen                          terminal         the same for a terminal
view      what a terminal shows meanwhile
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from yaml import safe_load

from demo.flights import FLIGHTS_OF_THE_YEAR, facts
from demo.history import Reader
from demo.page import page
from demo.report import ADVISORS, Comparison, report
from demo.run import Run, clock_ms
from demo.terminal import summary
from demo.view import View
from demo.without_a_gate import Table
from demo.world import DEFINITION, PARTITIONS, DemoError, World
from placet.schemas.errors import PlacetError

FLIGHTS, FIRST_DAY = 4_000, "02-06"
"""Four days and a half. On the 8th of February a blizzard closes the airports: 865 of 1,614 flights are cancelled."""
DAY_S, DAY_OF_ALL_S, DAY_OF_THOUGHTS_S = 8.0, 4.0, 8.0


class Demo:
    """One demo, from start to report.

    Args:
        stack: gives everything back.
        out: where progress is shown.
        asked: the command line.
    """

    def __init__(self, stack: ExitStack, out: Console, asked: argparse.Namespace) -> None:
        self._stack, self._out, self._asked = stack, out, asked
        self._flights = FLIGHTS_OF_THE_YEAR if asked.all else asked.flights
        self._day_s = asked.day_s or (DAY_OF_ALL_S if asked.all else DAY_S)
        self._world = World(stack, out.print, asked.seed, self._day_s / DAY_OF_THOUGHTS_S)

    def run(self) -> dict[str, Any]:
        """Run it; return the report."""
        out, world, began_at = self._out, self._world, clock_ms()
        out.print("Two gates and two advisors are started ...")
        world.start(list(ADVISORS))
        self._introduce()
        coming = facts(self._flights, "01-01" if self._asked.all else self._asked.first_day)
        run, began_s = Run(self._stack, world, coming, self._flights, self._day_s), time.monotonic()
        with View(out, self._flights, run.tally, self._people) as view:
            run.go(view)
        seconds = time.monotonic() - began_s
        world.close()
        compared = self._compare(run)
        out.print("`placet verify` decides everything again and compares each byte ...")
        verified = world.placet("verify", "--output", "json")
        if not verified.stdout:
            raise DemoError(f"`placet verify` failed:\n{verified.stderr}")
        started = datetime.fromtimestamp(began_at / 1_000, UTC).isoformat(timespec="seconds")
        about = {
            "flights": self._flights, "first_day": run.days[0], "last_day": run.days[1], "calendar": run.calendar,
            "seconds": round(seconds, 1), "day_s": self._day_s, "seed": self._asked.seed, "started": started,
        }  # fmt: skip
        return report(
            run.tally, compared, about, {name: world.diary(name) for name in ADVISORS}, json.loads(verified.stdout)
        )

    def _introduce(self) -> None:
        top = Path(sys.executable).with_name("placet")
        ports = " ".join(f"-e {gate.port}" for gate in self._world.gates)
        self._out.print(
            f"{self._flights:,} flights that left New York in 2013 become facts; a day passes in {self._day_s:g} s. "
            "Two advisors read what is committed, think as long as a model would, and propose to hold a flight, to "
            "rebook passengers, to tell them that it is late. One goes by rules, one learns. The world moves on."
        )
        self._out.print(f"Look over the gates' shoulders, in another terminal:\n  {top} top {ports}", soft_wrap=True)

    def _people(self) -> list[str]:
        """Tell how gates and advisors stand."""
        lines = [f"{gate.name} runs" for gate in self._world.gates]
        lines += [f"{gate.name} is [red]dead[/]" for gate in self._world.killed()]
        for advisor in ADVISORS:
            entry = self._world.last_entry(advisor)
            known = f", {entry['error_min']:.1f} min off" if entry.get("learned") else ""
            lines.append(f"{advisor}: {entry.get('thinking', 0)} thoughts{known}")
        return lines

    def _compare(self, run: Run) -> Comparison:
        """Read the log, and apply the same inputs without a gate."""
        table = Table.of(safe_load(DEFINITION.read_text()))
        compared = Comparison(table)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}"), TimeElapsedColumn())
        self._out.print("The gates have left. The log is read, and applied once more as if there had been none ...")
        with Progress(*columns, console=self._out, transient=True) as bars:
            bar = bars.add_task("records read", total=run.tally.decided * 3)
            reader = Reader(self._world.servers, run.topics, run.definition, lambda count: bars.advance(bar, count))
            for partition in range(PARTITIONS):
                compared.add(reader.history(partition, table.blank))
        return compared


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ops/demo",
        description="Real flights of 2013 as facts, two AIs that compete, two gates that decide, one killed on the "
        "way, on a real Kafka. Then a report: what was decided and why, and what would have happened without a gate. "
        "Leaves nothing behind but the report.",
        epilog="Exit code: 0 fine; 1 verify found a difference, the gate let through what it should not, or the demo "
        "broke; 2 wrong usage; 130 interrupted.",
    )
    much = parser.add_mutually_exclusive_group()
    much.add_argument("--flights", type=int, default=FLIGHTS, help=f"so many flights ({FLIGHTS})")
    much.add_argument(
        "--all", action="store_true", help=f"the whole year, {FLIGHTS_OF_THE_YEAR:,} flights: most of an hour"
    )
    parser.add_argument(
        "--first-day",
        type=day_of_2013,
        default=FIRST_DAY,
        metavar="MM-DD",
        help=f"of 2013 ({FIRST_DAY}: then a blizzard)",
    )
    parser.add_argument(
        "--day-s", type=float, help=f"how long a day takes, in seconds ({DAY_S:g}; --all {DAY_OF_ALL_S:g})"
    )
    parser.add_argument("--seed", type=int, default=2013, help="of how long the advisors think (2013)")
    parser.add_argument(
        "--report", type=Path, default=Path("placet-demo.html"), help="where the page goes (placet-demo.html)"
    )
    parser.add_argument("--output", choices=["text", "json"], default="text", help="json: the report as one object")
    asked = parser.parse_args()
    if asked.flights < 1:
        parser.error("--flights must be at least 1")
    if not asked.report.absolute().parent.is_dir():
        parser.error(f"--report: there is no folder {asked.report.absolute().parent}")
    return asked


def day_of_2013(text: str) -> str:
    """Check a day of 2013, MM-DD.

    Raises:
        ValueError: there is no such day.
    """
    datetime.fromisoformat(f"2013-{text}")
    return text


class _Interrupted(BaseException):
    """A signal asks for the end. Not KeyboardInterrupt: one that meets an `exec` of text ends `python -m` with -2."""


def _interrupted(*_: object) -> None:
    raise _Interrupted


def main() -> int:
    """Run the demo; return the exit code."""
    asked = _arguments()
    out = Console(highlight=False, stderr=asked.output == "json")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        with ExitStack() as stack:
            found = Demo(stack, out, asked).run()
        asked.report.write_text(page(found), encoding="utf-8")
    except (PlacetError, OSError) as error:
        out.print(f"ops/demo: {error}", style="red", markup=False)
        return 1
    except _Interrupted:
        out.print("Interrupted; everything is cleaned up.")
        return 130
    if asked.output == "json":
        print(json.dumps(found, indent=1))
    else:
        summary(found, out)
    out.print(f"The report, with pictures: {asked.report.absolute()}", soft_wrap=True)
    return 1 if found["verify"]["differences"] or found["headline"]["with"] else 0


if __name__ == "__main__":
    sys.exit(main())
