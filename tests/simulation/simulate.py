"""`ops/simulate`: runs histories by seed, shows one, and makes a failing one small."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation.crash_points import crash_points, run_crash_point
from tests.simulation.histories import KINDS, History, run_history, shrunk
from tests.simulation.trace import Trace

app = typer.Typer(add_completion=False, rich_markup_mode=None)
_ROWS_MAX: Final = 20
_WIDTH: Final = 200
FAILED: Final = 1
USAGE: Final = 2
HELP: Final = """\
Run the whole gate in simulated worlds: two gates, three brokers, disks and clocks, and what can go wrong with them.

A seed is a history. After each one every invariant is looked at: `placet verify`, an independent checker, nothing
waits, nothing is left behind. A failing history is made small and kept as a script of choices, which stays true when
code changes; a seed does not.

Examples:

  ops/simulate --seeds 1000 --jobs 2

  ops/simulate --seed 17 --trace --kind small

  ops/simulate --script failed/standard-17.json --trace --mermaid > trace.md

  ops/simulate --crash-points --schedules 5

Exit codes: 0 all histories hold; 1 one fails; 2 the command was called in a wrong way.
"""


@app.command(help=HELP)
def simulate(
    seeds: Annotated[int, typer.Option(help="how many histories", min=1)] = 100,
    first: Annotated[int, typer.Option("--from", help="the first seed", min=0)] = 1,
    jobs: Annotated[int, typer.Option(help="how many processes", min=1)] = 1,
    kind: Annotated[str, typer.Option(help=f"of worlds: {' or '.join(KINDS)}")] = "standard",
    seed: Annotated[int, typer.Option(help="run this one history", min=-1)] = -1,
    script: Annotated[Path | None, typer.Option(help="run the history that was kept in this file")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="show what happened in the one history")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="as a sequence chart")] = False,
    exhaustive: Annotated[bool, typer.Option("--crash-points", help="every crash point of small worlds")] = False,
    schedules: Annotated[int, typer.Option(help="of the crash points", min=1)] = 5,
    keep: Annotated[Path, typer.Option(help="folder for the scripts of failing histories")] = Path("failed"),
    output: Annotated[str, typer.Option(help="text or json")] = "text",
) -> None:
    """Run histories."""
    console = Console(stderr=True)
    if kind not in KINDS or output not in ("text", "json"):
        console.print(f"--kind is one of {', '.join(KINDS)}; --output is text or json")
        raise typer.Exit(USAGE)
    if exhaustive:
        found = _pooled(console, jobs, [(number,) for number in range(schedules)], _crash_points_of)
        histories = [history for part in found for history in part]
    elif script is not None or seed >= 0:
        histories = [_one(kind, seed, script, trace=trace, mermaid=mermaid)]
    else:
        histories = _pooled(console, jobs, [(kind, number) for number in range(first, first + seeds)], _run)
    failed = [history for history in histories if history.wrong]
    if not trace:
        _report(histories, failed, output)
    if failed and script is None and not exhaustive:
        _keep(console, failed[0], keep)
    raise typer.Exit(FAILED if failed else 0)


def _run(kind: str, seed: int) -> History:
    return run_history(kind, seed)._replace(script=())  # it is drawn again by the seed


def _crash_points_of(schedule: int) -> list[History]:
    return [run_crash_point(schedule, turn) for turn in range(crash_points(schedule))]


def _pooled(console: Console, jobs: int, calls: list[tuple[Any, ...]], run: Any) -> list[Any]:
    """Run all calls in some processes, with progress; what they return, in the order of the calls."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found: list[Any] = []
    began_s = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("histories", total=len(calls))
            for one in _mapped(jobs, run, calls):
                found.append(one)
                progress.advance(task)
                if isinstance(one, History) and one.wrong:
                    console.print(f"{one.kind} {one.seed}: {one.wrong[0]}"[:_WIDTH], markup=False)
    except KeyboardInterrupt:
        console.print("interrupted: what follows is of those that were run")
    took_s = time.monotonic() - began_s
    console.print(
        f"{len(found)} of {len(calls)} in {took_s:.1f} s, {len(found) / took_s / jobs:.1f} a second and process"
    )
    return found


def _mapped(jobs: int, run: Any, calls: list[tuple[Any, ...]]) -> Iterator[Any]:
    if jobs == 1:
        yield from (run(*call) for call in calls)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run, *zip(*calls, strict=True), chunksize=max(1, min(20, len(calls) // jobs // 4)))


def _one(kind: str, seed: int, script: Path | None, *, trace: bool, mermaid: bool) -> History:
    choices: list[int] = []
    if script is not None:
        kept = json.loads(script.read_text(encoding="utf-8"))
        kind, seed, choices = kept["kind"], kept["seed"], kept["script"]
    shown = Trace()
    history = run_history(kind, seed, choices, shown.watch)
    if trace:
        shown.end(history)
        sys.stdout.write(shown.mermaid() if mermaid else shown.table())
    return history


def _report(histories: list[History], failed: list[History], output: str) -> None:
    if output == "json":
        rows = [{"kind": one.kind, "seed": one.seed, "wrong": list(one.wrong)} for one in failed]
        told = {"histories": len(histories), "transactions": sum(one.committed for one in histories),
                "faults": sum(len(one.faults) for one in histories), "failed": rows}  # fmt: skip
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return
    console = Console()
    if failed:
        table = Table("seed", "what is wrong", title=f"{len(failed)} histories fail")
        for one in failed[:_ROWS_MAX]:
            table.add_row(f"{one.kind} {one.seed}", "\n".join(one.wrong[:3])[:600])
        console.print(table)
    console.print(
        f"{len(histories):,} histories, {sum(one.committed for one in histories):,} transactions, "
        f"{sum(len(one.faults) for one in histories):,} faults, {len(failed)} failed"
    )


def _keep(console: Console, history: History, folder: Path) -> None:
    """Make the first failing history small, and keep its script."""
    whole = run_history(history.kind, history.seed)
    with console.status("making it small") as status:
        small = shrunk(whole, lambda runs, left: status.update(f"made small: {runs} tries, {left} choices left"))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{history.kind}-{history.seed}.json"
    kept = {"kind": small.kind, "seed": small.seed, "wrong": list(small.wrong), "script": list(small.script)}
    file.write_text(json.dumps(kept) + "\n", encoding="utf-8")
    console.print(f"kept as {file}: look at it with `ops/simulate --script {file} --trace`")


if __name__ == "__main__":
    app(prog_name="ops/simulate")
