"""`placet definitions list|publish|withdraw`: the definitions on the control topic, which running gates follow.

Exit codes: 0 done, 1 what does not go with the version in force, 3 wrong settings, topics or definitions, 4 no broker
answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from placet.cli.definitions import app, print_differences
from placet.cli.exit_codes import ExitCode
from placet.cli.options import App, BootstrapServers, definitions_of, settings_from
from placet.cli.output import OutputForm, OutputOption
from placet.cli.tables import console_for_people, print_rows
from placet.client.past import iso
from placet.definitions import parse_definition
from placet.processors.machine import compile_machine
from placet.schemas.codec.control import Published
from placet.schemas.definition.diff import Difference, differences
from placet.schemas.definition.model import Definition
from placet.schemas.errors import SettingsError
from placet.schemas.in_force import Usable
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from placet.streams.live_gates import Answered
from placet.streams.publishing import Publisher, publishing, read_rulebook
from placet.streams.rules.publication import vanished
from placet.streams.rules.rulebook import Rulebook
from placet.streams.settings import Settings

__all__ = ["app"]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; publish nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Publish what is incompatible, see `placet run --help`.")]
Entity = Annotated[str, typer.Argument(metavar="ENTITY", help="The entity type.", show_default=False)]


class Plan(NamedTuple):
    """What a publication would change.

    Attributes:
        definition: what is to be published.
        before: the version in force, if there is one.
        found: the differences between the two.
        standing: entities that stand in statuses which would vanish, by status.
    """

    definition: Definition
    before: Usable | None
    found: list[Difference]
    standing: dict[str, int]

    @property
    def verdict(self) -> str:
        """What will become of it."""
        version = self.definition.version
        if self.before is None:
            return f"version {version} will be the first one"
        now = self.before.published
        if now.digest == self.definition.digest:
            return f"version {version} is in force already"
        if now.version > version:
            return f"version {now.version} is in force; the lower version {version} will not be published"
        return f"version {version} will follow version {now.version}"


@app.command("list")
def list_published(
    app: App = None, bootstrap_servers: BootstrapServers = None, output: OutputOption = OutputForm.TEXT
) -> None:
    """List the published definitions: which are in force, which were, and which do not count and why.

    Exit code: 0 listed, 3 wrong settings or topics, 4 no broker answered.

    Example:  placet definitions list --app prod
    """
    rulebook = _rulebook_of(settings_from(bootstrap_servers, app=app))
    rows = list(_rows(rulebook))
    if output is OutputForm.JSON:
        names = ("entity", "version", "digest", "published_at", "state")
        typer.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows]))
    elif rows:
        columns = ("entity", "version", "digest", "published", "")
        print_rows(console_for_people(), columns, [tuple(map(str, row)) for row in rows], "  ".join, 5)
    else:
        typer.echo(f"nothing is published on {rulebook.topic} yet")


@app.command()
def publish(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Definition files.", show_default=False)],
    app: App = None,
    bootstrap_servers: BootstrapServers = None,
    output: OutputOption = OutputForm.TEXT,
    *,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Publish definitions: running gates decide by them from their next transaction on.

    It shows both sides of each change, and how many entities stand in statuses that would vanish. It checks what
    `placet run` checks before it publishes, and asks the live gates whether they can run it: each needs the code of
    `python:` functions. With --force those that can't leave the entity type to others.

    Exit code: 0 published, in force already, or fine (--dry-run); 1 it does not go with the version in force, or a live
    gate can't run it, and nothing was published; 3 wrong settings, topics or definitions; 4 no broker answered.

    Example:  placet definitions publish flight.yaml --app prod --dry-run
    """
    settings = settings_from(bootstrap_servers, definitions=paths, app=app)
    _publish(settings, definitions_of(settings), output, dry_run=dry_run, force=force)


@app.command()
def withdraw(
    entity: Entity,
    to: Annotated[int | None, typer.Option(min=1, help="The version to go back to.  [the one before]")] = None,
    app: App = None,
    bootstrap_servers: BootstrapServers = None,
    output: OutputOption = OutputForm.TEXT,
    *,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Withdraw the definition in force: publish an earlier one again, under the next version.

    It is a publication as any other. What the version in force has added, such as a field or a status, is then
    removed, which needs --force: see `placet run --help` for what follows.

    Exit code: as `placet definitions publish`.

    Example:  placet definitions withdraw flight --to 3 --dry-run
    """
    settings = settings_from(bootstrap_servers, app=app)
    definition = _earlier(_rulebook_of(settings), entity, to)
    _publish(settings, [definition], output, dry_run=dry_run, force=force)


def _publish(
    settings: Settings, definitions: Sequence[Definition], output: OutputForm, *, dry_run: bool, force: bool
) -> None:
    for definition in definitions:
        compile_machine(definition)
    refused = ""
    with publishing(LocalHost(), settings, definitions, _tell_waiting) as publisher:
        plans = [_plan(publisher, definition) for definition in definitions]
        if output is OutputForm.TEXT:
            _print_plans(plans)
        try:
            if dry_run:
                publisher.check(definitions, force=force)
            else:
                publisher.publish(definitions, force=force)
                refused = _overtaken(publisher, definitions)
        except SettingsError as error:
            refused = str(error)
        answered = publisher.answered
    if output is OutputForm.TEXT:
        _print_answers(answered)
    if output is OutputForm.JSON:
        done = not (refused or dry_run)
        typer.echo(
            json.dumps({"published": done, "refused": refused, "plans": [_form(plan, answered) for plan in plans]})
        )
    elif refused:
        typer.echo(refused, err=True)
    else:
        typer.echo("nothing was published: --dry-run" if dry_run else "in force: `placet top` shows who has heard")
    raise typer.Exit(ExitCode.DIFFERENCE if refused else ExitCode.OK)


def _overtaken(publisher: Publisher, definitions: Sequence[Definition]) -> str:
    """Say which of the definitions are not in force, "" where all are."""
    newest = [(each, publisher.rulebook.in_force(each.entity).newest) for each in definitions]
    return "\n".join(
        f"{each.entity} version {each.version} was not published: version {found.published.version} is in force"
        for each, found in newest
        if found is not None and found.published.digest != each.digest
    )


def _plan(publisher: Publisher, definition: Definition) -> Plan:
    before = publisher.rulebook.in_force(definition.entity).newest
    found = differences(before.definition, definition) if before is not None else []
    gone = frozenset(status for item in found if (status := vanished(item)))
    standing = publisher.survey(definition.entity, gone) if gone else {}
    return Plan(definition, before, found, {status: standing.get(status, 0) for status in sorted(gone)})


def _print_plans(plans: Sequence[Plan]) -> None:
    for plan in plans:
        typer.echo(f"{plan.definition.entity}: {plan.verdict}")
        if plan.found:
            print_differences(plan.found)
        for status, count in plan.standing.items():
            typer.echo(f"  {count:,} entities stand in `{status}`")


def _tell_waiting(gates: Sequence[str]) -> None:
    typer.echo(f"waiting for {', '.join(gates)} to say whether it can be run there", err=True)


def _print_answers(answered: Sequence[Answered]) -> None:
    """Say who can run it. A refusal names those who can't, and why; what was forced names them here."""
    for entity in dict.fromkeys(one.entity for one in answered):
        can = [one.gate for one in answered if one.entity == entity and not one.why_not]
        typer.echo(f"{entity}: {', '.join(can) or 'no live gate'} can run it")
        for one in answered:
            if one.entity == entity and one.why_not:
                typer.echo(f"  {one.gate} can't: {one.why_not}")


def _form(plan: Plan, answered: Sequence[Answered]) -> dict[str, Any]:
    return {
        "entity": plan.definition.entity,
        "version": plan.definition.version,
        "digest": plan.definition.digest.hex(),
        "in_force": plan.before.published.version if plan.before is not None else None,
        "verdict": plan.verdict,
        "differences": [difference._asdict() for difference in plan.found],
        "standing": plan.standing,
        "gates": {one.gate: one.why_not or None for one in answered if one.entity == plan.definition.entity},
    }


def _rulebook_of(settings: Settings) -> Rulebook:
    host = LocalHost()
    with Admin(host, settings.librdkafka()) as admin:
        return read_rulebook(host, settings, admin)


def _rows(rulebook: Rulebook) -> Iterator[tuple[str, int, str, str, str]]:
    for entity in rulebook.entities():
        known = rulebook.in_force(entity)
        passed_over = {entry.digest: why for entry, why in known.passed_over}
        newest = known.newest.published.digest if known.newest is not None else b""
        for entry in rulebook.of(entity):
            why = passed_over.get(entry.digest)
            state = f"passed over: {why}" if why else "in force" if entry.digest == newest else "was in force"
            yield entity, entry.version, entry.digest.hex(), iso(entry.published_at), state
    for entry in rulebook.overtaken:
        state = "does not count: another version was published at the same moment"
        yield entry.entity, entry.version, entry.digest.hex(), iso(entry.published_at), state


def _earlier(rulebook: Rulebook, entity: str, to: int | None) -> Definition:
    """Return an earlier definition, under the next version."""
    known = rulebook.in_force(entity)
    if known.newest is None:
        has = ", ".join(rulebook.entities()) or "none"
        raise SettingsError(f"No definition of `{entity}` is in force on {rulebook.topic}; it has {has}.")
    now, numbers = known.newest.published, [entry.version for entry in rulebook.of(entity)]
    earlier = {found.published.version: found.published for found in known.usable if found.published is not now}
    again = [number for number, entry in earlier.items() if _rules_in(entry) == _rules_in(now)]
    if to is None and again:  # withdrawn already, maybe a moment ago
        raise SettingsError(
            f"Version {now.version} of `{entity}` has the rules of version {again[0]} again: say which one with --to."
        )
    version = max(earlier, default=0) if to is None else to
    if version not in earlier:
        has = ", ".join(map(str, sorted(earlier))) or "none"
        raise SettingsError(
            f"There is no version {version} of `{entity}` before version {now.version}; there are: {has}."
        )
    document = json.loads(earlier[version].document)
    return parse_definition(json.dumps(document | {"version": max(numbers) + 1}), f"{entity} version {version}")


def _rules_in(entry: Published) -> dict[str, Any]:
    rules: dict[str, Any] = json.loads(entry.document)
    del rules["version"]
    return rules
