"""`placet timers list`: the timers that wait, and how long those that should have fired are due."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from placet.cli.output import OutputForm
from placet.cli.shared import Where, of_entity, print_json
from placet.cli.tables import console_for_people, print_rows
from placet.cli.top.notes import spell_s
from placet.client.archive import Archive
from placet.client.armed import ArmedTimer
from placet.client.core import clock_ms
from placet.client.past import iso

__all__ = ["app", "due_text", "timer_form"]

app = typer.Typer(help="Show the timers that wait.", no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback()
def timers() -> None:
    """Show the timers that wait."""


@app.command("list")
@of_entity
def list_timers(
    entity_id: Annotated[str | None, typer.Option(help="Only timers of this entity.")] = None,
    overdue: Annotated[bool, typer.Option("--overdue", help="Only timers that are due already.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many at most: those that are due first.")] = 100,
    *,
    where: Where,
) -> None:
    """List the timers that wait, the first that is due first: when, of which entity, its status, the version of the
    entity that armed it.

    A timer that is due fires within a second or two where inputs come or nothing waits. One that is overdue for long
    waits for inputs that were in time, or for a broker.

    Reads the changelog, and where timers are armed the ledger: it alone tells of those that fired and changed nothing.
    What is due is told by the clock of this machine.

    Exit code: 0 listed, also if there is none, 2 wrong usage, 3 wrong settings or topics, 4 no broker answered.

    Example:  placet timers list --overdue --limit 20
    """
    with Archive(where.settings, where.wanted) as archive:
        found = archive.armed_timers(entity_id)
    now_ms = clock_ms()
    wanted = [timer for timer in found if not overdue or timer.due < now_ms]
    shown = wanted[:limit]
    if where.output is OutputForm.JSON:
        print_json([timer_form(timer, now_ms) for timer in shown])
    elif shown:
        rows = [_row(timer, now_ms) for timer in shown]
        columns = ("due", "", "entity", "timer", "status", "armed by")
        print_rows(console_for_people(), columns, rows, lambda row: f"{row[3]} of {row[2]}: due {row[0]}, {row[1]}", 4)
    else:
        typer.echo("no timer is overdue" if overdue else "no timer waits")
    if len(shown) < len(wanted):
        typer.echo(f"{len(wanted) - len(shown)} more: see --limit", err=True)


def timer_form(timer: ArmedTimer, now_ms: int) -> dict[str, Any]:
    """Return a timer for JSON."""
    return {
        "due": iso(timer.due),
        "overdue_s": max(0, now_ms - timer.due) / 1000,
        "entity_id": timer.entity_id,
        "name": timer.name,
        "status": timer.status,
        "armed_by_version": timer.armed_by,
    }


def due_text(timer: ArmedTimer, now_ms: int) -> str:
    """Say how far off a timer is."""
    left_s = (timer.due - now_ms) / 1000
    return f"in {spell_s(left_s)}" if left_s >= 0 else f"overdue by {spell_s(-left_s)}"


def _row(timer: ArmedTimer, now_ms: int) -> tuple[str, ...]:
    armed_by = f"version {timer.armed_by}"
    return iso(timer.due), due_text(timer, now_ms), timer.entity_id, timer.name, timer.status, armed_by
