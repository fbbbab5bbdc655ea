"""`placet broker`: a real Kafka on this machine, without Docker and without an installed Java.

Exit codes: 0 done or running, 1 it did not work (the reason is on stderr), 2 wrong usage, 3 (`status`) stopped.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from placet.cli.output import OutputForm, OutputOption
from placet.devbroker import broker as embedded
from placet.devbroker.broker import Broker, BrokerStatus
from placet.devbroker.folder import LOG
from placet.devbroker.jars import OnProgress
from placet.schemas.errors import PlacetError, SettingsError

__all__ = ["app"]

app = typer.Typer(
    help="A real Kafka on this machine, from Python packages: no Docker, no installed Java.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
LOOK_EACH_S = 0.2
STOPPED = 3
STOPPED_IN_ORDER = 128 + signal.SIGTERM


DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="PLACET_BROKER_DATA_DIR",
        help="The broker's folder.  [default: placet/broker under $XDG_STATE_HOME or ~/.local/state]",
    ),
]


@app.command()
def start(
    context: typer.Context,
    data_dir: DataDir = None,
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port; 0: the folder's last port, else 9092; with --ephemeral a free one."),
    ] = 0,
    heap_mib: Annotated[int, typer.Option(min=128, help="Largest Java heap, in MiB.")] = 384,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay in the foreground; the broker ends with this command.")
    ] = False,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="As --foreground, with a temporary folder that is removed at the end.")
    ] = False,
    output: OutputOption = OutputForm.TEXT,
) -> None:
    """Start Kafka and wait until it serves clients; it runs on when this command ends. The first time, download it.

    If the broker runs already, do nothing. Exit code: 0 it runs, 1 it does not (the reason is on stderr).

    Example:  placet broker start --port 19092
    """
    source = context.get_parameter_source("data_dir")
    if ephemeral and source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter("--ephemeral makes a folder of its own: leave out --data-dir.")
    with _sentences():
        if ephemeral:
            _stay(Broker(port=port, heap_mib=heap_mib), output)
            return
        place = data_dir or embedded.default_data_dir()
        if foreground:
            _stay(Broker(place, port=port or embedded.usual_port(place), heap_mib=heap_mib), output)
            return
        with _progress() as on_progress:
            found = embedded.start_detached(place, port=port, heap_mib=heap_mib, on_progress=on_progress)
        _show(found, output)


@app.command()
def stop(data_dir: DataDir = None) -> None:
    """Stop the broker and keep its data. If none runs, do nothing.

    Exit code: 0 none runs any more, 1 it does not end (the reason is on stderr).

    Example:  placet broker stop
    """
    with _sentences():
        place = data_dir or embedded.default_data_dir()
        typer.echo(f"stopped, data kept in {place}" if embedded.stop_detached(place) else f"none ran in {place}")


@app.command()
def status(data_dir: DataDir = None, output: OutputOption = OutputForm.TEXT) -> None:
    """Show whether the broker runs, its address and its resources.

    Exit code: 0 it runs, 3 it is stopped, 1 the folder can't be read as a broker's (the reason is on stderr).

    Example:  placet broker status --output json
    """
    with _sentences():
        found = embedded.status(data_dir or embedded.default_data_dir())
        _show(found, output)
    raise typer.Exit(0 if found.running else STOPPED)


@app.command()
def logs(
    data_dir: DataDir = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines to print.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing, until Ctrl-C.")] = False,
) -> None:
    """Print Kafka's log since its last start.

    Exit code: 0 printed, 1 there is no log yet (the reason is on stderr).

    Example:  placet broker logs --lines 20 --follow
    """
    with _sentences():
        log = (data_dir or embedded.default_data_dir()) / LOG
        if not log.exists():
            raise SettingsError(f"{log} is not there: no broker was started in that folder.")
        with log.open(encoding="utf-8", errors="replace") as file, suppress(KeyboardInterrupt):
            sys.stdout.writelines(deque(file, maxlen=lines))
            while follow:
                sys.stdout.write(file.read())
                sys.stdout.flush()
                time.sleep(LOOK_EACH_S)


def _stay(broker: Broker, output: OutputForm) -> None:
    """Holds the broker until it ends, this command is ended, or the calling process is gone."""
    caller = os.getppid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with closing(broker), suppress(KeyboardInterrupt):
        with _progress() as on_progress:
            broker.start(on_progress)
        _show(embedded.status(broker.data_dir), output)
        while (code := broker.wait(LOOK_EACH_S)) is None:
            if os.getppid() != caller:
                return
        if code != STOPPED_IN_ORDER:
            why = embedded.status(broker.data_dir).last_error or f"Java ended with exit code {code}"
            raise SettingsError(f"The broker ended by itself: {why}.")


def _show(found: BrokerStatus, output: OutputForm) -> None:
    values = {**asdict(found), "data_dir": str(found.data_dir)}
    if output is OutputForm.JSON:
        typer.echo(json.dumps(values))
        return
    values["running"] = None
    typer.echo("running" if found.running else "stopped")
    for name, value in values.items():
        if value is not None:
            typer.echo(f"  {name:<18} {value}")


@contextmanager
def _sentences() -> Iterator[None]:
    """Ends with exit code 1 and the error's own sentence, without a traceback: the reader is an operator."""
    try:
        yield
    except PlacetError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A progress bar on stderr, so that stdout stays data."""
    console = Console(stderr=True)
    bar = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        tasks: dict[str, TaskID] = {}

        def on_progress(what: str, done: int, total: int) -> None:
            for other, task in tasks.items():
                bar.update(task, visible=other == what)
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total or None)
            bar.update(tasks[what], completed=done)

        yield on_progress
