"""A long run of a real cluster under trouble: three brokers, three gates, faults one after the other; then a report.

The cluster: three brokers and a separate controller, replication factor 3, Kafka's own sessions (9 s of brokers, 45 s
of the group). The load: six partitions, ten facts a second and two proposals to each; and a plain transactional copier
of the same facts, the measure: what Kafka and its client leave for any such loop. The faults, in an order by seed, with
a calm between them, round after round while the time lasts:

  a broker killed, or silent (SIGSTOP): each of them, the coordinator of the gates' group, of a gate's transactions,
  and the controller; a gate killed with -9, frozen for 15 s, frozen for longer than its session; gates restarted one
  after the other, brokers too; rules published, withdrawn, and both while gates are restarted.

A run of an hour has each of them at least once; a short one those that there is time for. What restarts every gate
comes first and only once, and gate a is never killed: of one long life is seen whether memory, files and threads grow.

Exit code: 0 all verdicts hold; 1 one does not, or the run broke; 2 wrong usage; 130 interrupted before the first fault.
Ctrl-C ends a run in good order, with the report so far; a second one at once. Nothing is left behind but, where a
verdict does not hold, the gates' logs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench.soak.faults import kinds
from bench.soak.follower import Follower
from bench.soak.report import as_json, print_report
from bench.soak.run import Run, Seen
from bench.soak.site import BROKER_SESSION_S, Loaded, Site, SoakError
from placet.devbroker.jars import KAFKA_VERSION
from placet.schemas.errors import PlacetError
from placet.streams.telemetry.build import kind_of_build
from tests.cluster import Cluster
from tests.integration.outage import PARTITIONS


def soak(asked: argparse.Namespace, out: Console, folder: Path, stop: threading.Event) -> Seen:
    """Run it, from the first broker's start to the last gate's end."""
    chosen = [kind for kind in kinds(asked.away_s) if not asked.only or kind.name in asked.only]
    with ExitStack() as stack:
        out.print(f"seed {asked.seed}; three brokers and three gates are started ...")
        cluster = stack.enter_context(Cluster(session_timeout_ms=int(BROKER_SESSION_S * 1000)))
        outage = stack.enter_context(Loaded(cluster, folder, asked.seed))
        world = outage.world
        follower = Follower(
            cluster.bootstrap_servers, tuple(world.topics.inputs), world.topics.decisions, outage.copies, PARTITIONS,
            world.codec,
        )  # fmt: skip
        stack.callback(follower.close)
        columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
        bars = stack.enter_context(Progress(*columns, console=out, transient=True))
        bar, began_s = bars.add_task("", total=asked.minutes * 60), time.monotonic()

        def says(text: str) -> None:
            if run and run.events and not run.events[-1].until_s:
                run.events[-1].said.append(text)
            bars.console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False, highlight=False, soft_wrap=True)

        def shows() -> None:
            text = f"{site.amid}: {follower.inputs:,} inputs, {follower.decisions:,} decisions"
            bars.update(bar, description=text, completed=time.monotonic() - began_s)

        run: Run | None = None
        site = Site(outage, stop, says, shows, asked.away_s)
        run = Run(site, follower, tuple(chosen), asked.seed, asked.minutes, asked.calm_s)
        _heed(stop)
        try:
            run.faults()
        except SoakError as error:
            site.trouble.append(str(error))
            says(str(error))
        return run.look()


def _heed(stop: threading.Event) -> None:
    """From now on the first signal ends the run in good order, the next one at once."""

    def heard(_number: int, _frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    signal.signal(signal.SIGINT, heard)
    signal.signal(signal.SIGTERM, heard)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ops/soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter,
        epilog="Example: ops/soak --minutes 60 --seed 7 --report soak.json\n"
        '         ops/soak --minutes 5 --only "gate killed" --only "controller away"',
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=60, help="from the first fault to the last calm's end (60)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the order of faults, and of the load")
    parser.add_argument("--only", action="append", choices=[kind.name for kind in kinds(0)], metavar="FAULT",
                        help="this kind of fault, as the report names it; repeat it for more (all)")  # fmt: skip
    parser.add_argument("--away-s", type=float, default=60, help="how long a broker or the controller is away (60)")
    parser.add_argument("--calm-s", type=float, default=60, help="between two faults, in seconds (60)")
    parser.add_argument("--output", choices=("table", "json"), default="table", help="json: one object on stdout")
    parser.add_argument("--report", type=Path, help="that object into this file, too")
    parser.add_argument(
        "--logs", type=Path, help="the logs of gates and copier into this folder, whatever the verdicts"
    )
    return parser.parse_args()


def _about(asked: argparse.Namespace, began_s: float) -> dict[str, Any]:
    return {
        "seed": asked.seed, "minutes": asked.minutes, "away_s": asked.away_s, "calm_s": asked.calm_s,
        "build": kind_of_build(), "python": platform.python_version(), "kafka": KAFKA_VERSION, "cores": os.cpu_count(),
        "seconds": round(time.monotonic() - began_s),
    }  # fmt: skip


def main() -> int:
    asked, out = _arguments(), Console(stderr=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background it would be ignored
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder, began_s, keep = Path(tempfile.mkdtemp(prefix="placet-soak-")), time.monotonic(), True
    try:
        seen = soak(asked, out, folder, threading.Event())
        found = as_json(seen, _about(asked, began_s))
        keep = not found["holds"]
    except (SoakError, PlacetError, KafkaException, AssertionError) as error:
        out.print(f"ops/soak: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        keep = False
        return 130
    else:
        if asked.report:
            asked.report.write_text(json.dumps(found, indent=2) + "\n")
        if asked.output == "json":
            print(json.dumps(found))
        else:
            print_report(Console(), seen, f"Under trouble for {asked.minutes:g} minutes, seed {asked.seed}")
        return 1 if keep else 0
    finally:
        if asked.logs:
            asked.logs.mkdir(parents=True, exist_ok=True)
            for log in folder.glob("*.log"):
                shutil.copy(log, asked.logs)
        shutil.rmtree(folder / "state", ignore_errors=True)
        if keep and any(folder.glob("*.log")):
            out.print(f"the gates' logs: {folder}", soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
