"""`placet doctor`: checks all that a gate needs, and estimates the time of a cold restore."""

from __future__ import annotations

import json

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from placet.cli.exit_codes import ExitCode
from placet.cli.options import App, BootstrapServers, Definitions, definitions_of, said_elsewhere, settings_from
from placet.cli.output import OutputForm, OutputOption
from placet.doctor.doctor import examine
from placet.doctor.result import CheckResult, Status
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from placet.streams.publishing import read_rulebook

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)
PIPE_WIDTH = 160
"""Columns of a table that is not printed to a terminal."""

_STYLES = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}


@app.command()
def doctor(
    definition: Definitions = None,
    app: App = None,
    bootstrap_servers: BootstrapServers = None,
    output: OutputOption = OutputForm.TEXT,
) -> None:
    """Check what a gate needs: settings, definitions, state dir, registry, brokers, topics, rules, timeouts, clock.

    It measures the clock with records in an aborted transaction on the dead letters topic: no reader of committed
    records sees them. It estimates the time of a cold restore from the number of offsets, at 80,000 a second in one
    gate.

    Exit code: 0 nothing failed (there may be warnings), 1 something failed.

    Example:  placet doctor --definition flight.yaml --bootstrap-servers kafka-1:9092
    """
    settings = settings_from(bootstrap_servers, warn=said_elsewhere, definitions=definition, app=app)
    definitions = definitions_of(settings) if settings.definitions else ()
    host = LocalHost()
    with Admin(host, settings.librdkafka()) as admin:
        published = lambda: list(read_rulebook(host, settings, admin).published.values())  # noqa: E731
        checks = list(examine(settings, definitions, admin, read_rules=published))
    if output is OutputForm.JSON:
        typer.echo(json.dumps([check._asdict() for check in checks], indent=2))
    else:
        _print(checks)
    failed = any(check.status is Status.FAIL for check in checks)
    raise typer.Exit(ExitCode.DIFFERENCE if failed else ExitCode.OK)


def _print(checks: list[CheckResult]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    table = Table("check", "", "found", "what to do", box=box.SIMPLE)
    for check in checks:
        style = _STYLES[check.status]
        table.add_row(check.name, f"[{style}]{check.status.value}[/]", *map(_plain, (check.found, check.todo)))
    console.print(table)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
