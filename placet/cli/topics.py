"""`placet topics`: compares the topics that an app needs with those of the cluster, and creates or changes them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated

import typer

from placet.cli.exit_codes import ExitCode
from placet.cli.options import App, BootstrapServers, Definitions, definitions_of, settings_from
from placet.cli.output import OutputForm, OutputOption
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from placet.streams.settings import Settings
from placet.streams.topics import plan as topics
from placet.streams.topics.configs import TopicSpec, required_topics
from placet.streams.topics.plan import Action, Step

__all__ = ["app"]

app = typer.Typer(
    help="Plan and apply the topics that an app needs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Partitions = Annotated[
    int | None,
    typer.Option(
        min=1, max=10_000, help="Of each entity type's topics; can't be changed later.  [as existing, else 6]"
    ),
]
Replicas = Annotated[
    int, typer.Option("--replication-factor", help="Replicas of new topics; -1: the brokers' default.")
]
_SIGNS = {Action.CREATE: "+", Action.ALTER: "~", Action.REFUSE: "!"}


@app.command("plan")
def plan(
    definition: Definitions = None,
    app: App = None,
    bootstrap_servers: BootstrapServers = None,
    partitions: Partitions = None,
    output: OutputOption = OutputForm.TEXT,
) -> None:
    """Show what `placet topics apply` would do. Changes nothing.

    Exit code: 0 all topics are as they must be, 1 `apply` would create or change some, 3 some need a person.

    Example:  placet topics plan --definition flight.yaml --partitions 12
    """
    settings, specs = _wanted(definition, app, bootstrap_servers, partitions)
    with Admin(LocalHost(), settings.librdkafka()) as admin:
        steps = topics.plan(specs, *topics.observe(admin, specs))
    _show(steps, output, f"All {len(specs)} topics are as they must be.")
    if any(step.action is Action.REFUSE for step in steps):
        raise typer.Exit(ExitCode.WRONG)
    raise typer.Exit(ExitCode.DIFFERENCE if steps else ExitCode.OK)


@app.command("apply")
def apply(
    definition: Definitions = None,
    app: App = None,
    bootstrap_servers: BootstrapServers = None,
    partitions: Partitions = None,
    replication_factor: Replicas = -1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the changes, as `plan` does.")] = False,
    output: OutputOption = OutputForm.TEXT,
) -> None:
    """Create missing topics, and change settings where this is safe. A second run changes nothing.

    Never changes a number of partitions, never lowers a limit, never removes a record. If a person has to decide about
    a topic, it says so and changes nothing at all.

    Exit code: 0 all topics are as they must be, 3 some need a person, 4 no broker answered.

    Example:  placet topics apply --definition flight.yaml --replication-factor 3
    """
    if dry_run:
        plan(definition, app, bootstrap_servers, partitions, output)
    settings, specs = _wanted(definition, app, bootstrap_servers, partitions)
    with Admin(LocalHost(), settings.librdkafka()) as admin:
        done = topics.apply(admin, specs, replication_factor)
    _show(done, output, f"All {len(specs)} topics are as they must be.")


def _wanted(
    definition: Definitions, app: str | None, bootstrap_servers: str | None, partitions: int | None
) -> tuple[Settings, list[TopicSpec]]:
    settings = settings_from(bootstrap_servers, definitions=definition, app=app)
    specs = required_topics(settings.app, definitions_of(settings), partitions, settings.record_bytes_max)
    return settings, specs


def _show(steps: Iterable[Step], output: OutputForm, nothing: str) -> None:
    if output is OutputForm.JSON:
        typer.echo(json.dumps([step._asdict() for step in steps], indent=2))
        return
    steps = list(steps)
    lines = [_line(step) for step in steps]
    todo = dict.fromkeys(step.todo for step in steps if step.action is Action.REFUSE)
    typer.echo("\n".join([*lines, *todo] or [nothing]))


def _line(step: Step) -> str:
    configs = " ".join(f"{name}={value}" for name, value in step.configs.items())
    match step.action:
        case Action.CREATE:
            said = f"create with {step.partitions} partition{'s' if step.partitions != 1 else ''}\n    {configs}"
        case Action.ALTER:
            said = f"set {configs}\n    {step.finding}"
        case Action.REFUSE:
            said = step.finding
    return f"{_SIGNS[step.action]} {step.topic}  {said}"
