"""`placet state get` and `placet history`: an entity's state, now and earlier, and its versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from placet.cli.exit_codes import ExitCode
from placet.cli.output import OutputForm
from placet.cli.shared import EntityId, Where, changes_form, of_entity, print_json, shown, snapshot_form, time_of
from placet.cli.timers import due_text, timer_form
from placet.client.archive import Archive
from placet.client.core import clock_ms
from placet.client.past import PastVersion, as_of, at_version, cause_of, iso, newest, steps
from placet.client.snapshot import Snapshot
from placet.schemas.definition.field_types import Field

__all__ = ["app", "history_app", "state_text", "step_text"]

app = typer.Typer(
    help="Show the state of an entity.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)
history_app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.callback()
def state() -> None:
    """Show the state of an entity."""


@app.command("get")
@of_entity
def get(
    entity_id: EntityId,
    version: Annotated[int | None, typer.Option("--at-version", min=1, help="The state at this version.")] = None,
    time: Annotated[str | None, typer.Option("--as-of", help="The state at this time: ISO 8601 or ms.")] = None,
    *,
    where: Where,
) -> None:
    """Show an entity's committed state: the current one, or an earlier one within the horizon.

    Of the current one it shows the timers that wait too, and when they are due; in JSON `timers`, where there are any.

    Exit code: 0 shown, 1 never seen, or that version or time is no longer on the log, 2 wrong usage, 3 wrong
    settings or topics, 4 no broker answered.

    Example:  placet state get order-7 --as-of 2026-01-31T12:00:00Z
    """
    if version is not None and time is not None:
        raise typer.BadParameter("give --at-version or --as-of, not both")
    until = None if time is None else time_of(time)
    now = version is None and until is None
    with Archive(where.settings, where.wanted) as archive:
        history, fields = archive.history(entity_id), archive.link.definition.fields
        timers = archive.timers_of(history[-1:]) if now else []
    if version is not None:
        found = at_version(history, entity_id, version)
    elif until is not None:
        found = as_of(history, entity_id, until)
    else:
        found = newest(history, entity_id)
    if isinstance(found, str):
        raise _not_there(found)
    if where.output is OutputForm.JSON:
        waiting = {"timers": [timer_form(timer, clock_ms()) for timer in timers]} if timers else {}
        print_json(snapshot_form(found) | waiting)
        return
    typer.echo(state_text(found, fields))
    for timer in timers:
        typer.echo(f"  {timer.name} due {iso(timer.due)} ({due_text(timer, clock_ms())})")


@history_app.command("history")
@of_entity
def history(
    entity_id: EntityId,
    *,
    where: Where,
) -> None:
    """Show all versions of an entity on the log: cause, who, when, and the changed fields.

    The log holds one horizon of versions, and always the latest one.

    Exit code: 0 shown, 1 never seen, 3 wrong settings or topics, 4 no broker answered.

    Example:  placet history order-7
    """
    with Archive(where.settings, where.wanted) as archive:
        found, fields = archive.history(entity_id), archive.link.definition.fields
    if not found:
        raise _not_there(str(newest(found, entity_id)))
    made = steps(found, {name: field.default for name, field in fields.items()})
    if where.output is OutputForm.JSON:
        print_json([_step_form(step) for step in made])
        return
    if found[0].version > 1:
        typer.echo(f"      what came before version {found[0].version} is not on the log any more")
    for step in made:
        typer.echo(step_text(step, fields))


def _not_there(why: str) -> typer.Exit:
    typer.echo(why, err=True)
    return typer.Exit(ExitCode.DIFFERENCE)


def state_text(snapshot: Snapshot, fields: Mapping[str, Field]) -> str:
    """Return a state as a person reads it."""
    values = [f"  {name}: {shown(value, fields.get(name))}" for name, value in snapshot.fields.items()]
    head = f"{snapshot.entity_id}  {snapshot.status}  version {snapshot.version}"
    return "\n".join([head, *values, f"  since {_why(snapshot)}"])


def _why(snapshot: Snapshot) -> str:
    change = snapshot.change
    if change is None:
        return "forgotten: it was deleted longer than the horizon ago"
    by = f" by {change.proposer}" if change.proposer else ""
    return f"{iso(change.decided_at)}: {cause_of(change)}{by}"


def _step_form(step: PastVersion) -> dict[str, Any]:
    form = snapshot_form(step.after)
    own = {key: form[key] for key in ("version", "status", "cause", "who", "at", "forgotten")}
    return own | {"changes": changes_form(step.changes)}


def step_text(step: PastVersion, fields: Mapping[str, Field]) -> str:
    """Return a version as a person reads it."""
    changes = [
        f"      {name}: {shown(before, fields.get(name))} -> {shown(after, fields.get(name))}"
        for name, (before, after) in step.changes.items()
    ]
    return "\n".join([f"{step.after.version:>4}  {step.after.status:<12} {_why(step.after)}", *changes])
