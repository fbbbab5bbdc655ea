"""`placet state get` and `placet history`: what an entity is, was, and how it came to that."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from placet.cli.entity import Entity, EntityId, print_json, settings_and_entity, shown, snapshot_form, time_of
from placet.cli.exit_codes import ExitCode
from placet.cli.options import App, BootstrapServers, Definitions, Output, OutputOption
from placet.client.archive import Archive
from placet.client.explain import differences, iso
from placet.client.snapshot import Snapshot

__all__ = ["app", "history_app"]

app = typer.Typer(
    help="Show the state of an entity.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)
history_app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.callback()
def state() -> None:
    """Show the state of an entity."""


@app.command("get")
def get(
    entity_id: EntityId,
    at_version: Annotated[int | None, typer.Option(min=1, help="As it was at this version.")] = None,
    as_of: Annotated[str | None, typer.Option(help="As it was at this time: ISO 8601 or ms.")] = None,
    definition: Definitions = None,
    entity: Entity = None,
    app: App = None,
    bootstrap_servers: BootstrapServers = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show an entity's committed state: as it is, or as it was within the horizon.

    Exit code: 0 shown, 1 never seen, or the log does not hold that version or time any more, 2 wrong usage, 3 wrong
    settings or topics, 4 no broker answered.

    Example:  placet state get order-7 --as-of 2026-01-31T12:00:00Z
    """
    if at_version is not None and as_of is not None:
        raise typer.BadParameter("give --at-version or --as-of, not both")
    until = None if as_of is None else time_of(as_of)
    settings, wanted = settings_and_entity(definition, entity, app, bootstrap_servers)
    with Archive(settings, wanted) as archive:
        history = archive.history(entity_id)
    found = _chosen(history, at_version, until)
    if found is None:
        typer.echo(_why_not(entity_id, history), err=True)
        raise typer.Exit(ExitCode.DIFFERENCE)
    if output is Output.JSON:
        print_json(snapshot_form(found))
    else:
        _print_state(found)


@history_app.command("history")
def history(
    entity_id: EntityId,
    definition: Definitions = None,
    entity: Entity = None,
    app: App = None,
    bootstrap_servers: BootstrapServers = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show how an entity came to its state: each version, its cause, who, when, and what it changed.

    The log holds one horizon of it, and the latest state for ever.

    Exit code: 0 shown, 1 never seen, 3 wrong settings or topics, 4 no broker answered.

    Example:  placet history order-7
    """
    settings, wanted = settings_and_entity(definition, entity, app, bootstrap_servers)
    with Archive(settings, wanted) as archive:
        found = archive.history(entity_id)
    if not found:
        typer.echo(_why_not(entity_id, found), err=True)
        raise typer.Exit(ExitCode.DIFFERENCE)
    forms = [_step_form(before, after) for before, after in zip([None, *found], found, strict=False)]
    if output is Output.JSON:
        print_json(forms)
        return
    for form in forms:
        typer.echo(_step_line(form))


def _chosen(history: list[Snapshot], version: int | None, until: int | None) -> Snapshot | None:
    """Return the state of a version, the last one by a time, or the last one."""
    if version is not None:
        fits = [snapshot for snapshot in history if snapshot.version == version and snapshot.change is not None]
    elif until is not None:
        fits = [snapshot for snapshot in history if snapshot.change and snapshot.change.decided_at <= until]
    else:
        fits = history
    return fits[-1] if fits else None


def _why_not(entity_id: str, history: list[Snapshot]) -> str:
    if not history:
        return f"{entity_id} was never seen, or is forgotten."
    change = history[0].change
    since = "" if change is None else f" (decided at {iso(change.decided_at)})"
    return f"The log holds versions {history[0].version}{since} to {history[-1].version} of {entity_id}."


def _print_state(snapshot: Snapshot) -> None:
    typer.echo(f"{snapshot.entity_id}  {snapshot.status}  version {snapshot.version}")
    for name, value in snapshot.fields.items():
        typer.echo(f"  {name}: {shown(value)}")
    change = snapshot.change
    if change is not None:
        by = f" by {change.proposer}" if change.proposer else ""
        typer.echo(
            f"  since {iso(change.decided_at)}: {change.kind.name.lower()} {change.name} ({change.input_id}){by}"
        )


def _step_form(before: Snapshot | None, after: Snapshot) -> dict[str, Any]:
    form = snapshot_form(after)
    changes = {name: {"before": old, "after": new} for name, (old, new) in differences(before, after).items()}
    return {key: form[key] for key in ("version", "status", "cause", "who", "at", "forgotten")} | {"changes": changes}


def _step_line(form: dict[str, Any]) -> str:
    if form["cause"] is None:
        return f"{form['version']:>4}  forgotten"
    cause = f"{form['cause']['kind'].lower()} {form['cause']['name']} ({form['cause']['input_id']})"
    who = f" by {form['who']}" if form["who"] else ""
    changes = [
        f"      {name}: {shown(change['before'])} -> {shown(change['after'])}"
        for name, change in form["changes"].items()
    ]
    return "\n".join([f"{form['version']:>4}  {form['status']:<12} {form['at']}  {cause}{who}", *changes])
