"""`placet verify`: decides the whole log again, and names the records that differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from placet.cli.exit_codes import ExitCode
from placet.cli.options import App, BootstrapServers, Definitions, settings_from
from placet.cli.output import OutputForm, OutputOption
from placet.definitions import load_definition
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from placet.streams.main import relax_garbage_collection
from placet.streams.publishing import log_reader
from placet.streams.recovery.kafka_log import KafkaLog
from placet.streams.settings import Settings
from placet.streams.telemetry.log import configure_logs
from placet.streams.topology import TaskId
from placet.verify.report import FINDINGS_SHOWN, Report, Since, TaskReport
from placet.verify.verify import Progress
from placet.verify.verify import verify as run_verify

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)
PIPE_WIDTH = 160
"""Columns of a table that is not printed to a terminal."""


@app.command()
def verify(
    definition: Definitions = None,
    app: App = None,
    bootstrap_servers: BootstrapServers = None,
    entity: Annotated[
        list[str] | None, typer.Option("--entity", "-e", help="Only this entity type; may be repeated.  [all]")
    ] = None,
    findings: Annotated[
        int, typer.Option(min=1, help="How many differences to show for each partition; all are counted.")
    ] = FINDINGS_SHOWN,
    output: OutputOption = OutputForm.TEXT,
) -> None:
    """Read inputs, decisions, changelog, ledger and rules, and decide everything again. Changes nothing.

    It checks that every input below the group's position has one decision, that each change has its accepted decision,
    that versions have no gaps, that the ledger's chain is complete, and that the rules, applied again in the recorded
    order with the recorded times, give the same bytes. It names a difference by topic, partition and offset. Gates may
    run meanwhile.

    It needs no definition: the definitions are on the control topic. --definition limits the work to its entity type.
    If retention or compaction removed the beginning, "checked from" says where the check begins. The gate refused
    inputs of more than PLACET_RECORD_BYTES_MAX, so use the gate's own value.

    Exit code: 0 no difference, 1 a difference, 2 wrong usage, 3 it can't be checked: wrong settings, missing topics,
    rules that do not run on this machine; 4 no broker answered.

    Example:  placet verify --app prod --bootstrap-servers kafka-1:9092 --output json
    """
    settings = settings_from(bootstrap_servers, app=app, definitions=definition)
    entities = [*(entity or ()), *(load_definition(path).entity for path in definition or ())]
    configure_logs("error", app=settings.app)
    with _bars(shown=output is OutputForm.TEXT) as progress:
        report = _run(settings, list(dict.fromkeys(entities)), findings, progress)
    if output is OutputForm.JSON:
        typer.echo(json.dumps(_as_json(report), indent=2))
    else:
        _print(report)
    raise typer.Exit(ExitCode.DIFFERENCE if report.differences else ExitCode.OK)


def _run(settings: Settings, entities: list[str], findings: int, progress: Progress) -> Report:
    relax_garbage_collection()
    host = LocalHost()
    with Admin(host, settings.librdkafka()) as admin:
        log = KafkaLog(log_reader(host, settings, "verify"), Admin(host, settings.librdkafka()))
        try:
            return run_verify(host, settings, admin, log, entities=entities, findings_max=findings, progress=progress)
        finally:
            log.close()


@contextmanager
def _bars(*, shown: bool) -> Iterator[Progress]:
    """One bar for each task, on stderr where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bars:
        rows: dict[TaskId, TaskID] = {}

        def progress(task_id: TaskId, read: int, everything: int) -> None:
            if task_id not in rows:
                rows[task_id] = bars.add_task(str(task_id), total=everything)
            bars.advance(rows[task_id], read)

        yield progress


def _print(report: Report) -> None:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    table = Table("task", "checked from", box=box.SIMPLE)
    for name in ("inputs", "decisions", "changes", "differences"):
        table.add_column(name, justify="right")
    for task in report.tasks:
        numbers = (task.inputs, task.decisions, task.changes, task.differences)
        table.add_row(str(task.task_id), _since(task.since), *(f"{number:,}" for number in numbers))
    console.print(table)
    for task in report.tasks:
        _print_task(task)
    first = report.first
    if first is None:
        typer.echo("No difference.")
    else:
        typer.echo(f"{report.differences} differences. The first: {first}")


def _print_task(task: TaskReport) -> None:
    for warning in task.warnings:
        typer.echo(f"warning: {task.task_id}: {warning}")
    for finding in task.findings:
        typer.echo(str(finding))
    left = task.differences - len(task.findings)
    if left:
        counted = ", ".join(f"{number} {check.value}" for check, number in task.counts.most_common())
        typer.echo(f"{task.task_id}: {left} more; in all: {counted}")


def _since(since: Since) -> str:
    if not since.why:
        return "the beginning"
    when = datetime.fromtimestamp(since.log_time / 1000, UTC).isoformat(timespec="seconds")
    return f"{when}, transaction {since.sequence}: {since.why}"


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "differences": report.differences,
        "first": report.first._asdict() if report.first else None,
        "tasks": [
            {
                "entity": task.task_id.entity,
                "partition": task.task_id.partition,
                "since": task.since._asdict(),
                "inputs": task.inputs,
                "decisions": task.decisions,
                "changes": task.changes,
                "differences": task.differences,
                "counts": dict(task.counts),
                "findings": [finding._asdict() for finding in task.findings],
                "warnings": task.warnings,
            }
            for task in report.tasks
        ],
    }
