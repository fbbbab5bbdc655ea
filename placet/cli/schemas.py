"""`placet schemas`: export, check and register the Avro schemas of definitions. Only `register` uses the network.

Exit codes: 0 fine, 1 the new version is not compatible, 2 wrong usage, 3 a file or a setting is wrong, 4 the registry
did not answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from placet.cli.options import App, settings_from
from placet.cli.output import OutputForm, OutputOption
from placet.cli.tables import console_for_people, print_rows
from placet.definitions import load_definition
from placet.schemas.avro.schema import Record, parse_schema
from placet.schemas.codec.compatibility import Finding, check_all
from placet.schemas.codec.contracts import FIXED, Schema, contracts
from placet.schemas.errors import DecodeError, SettingsError
from placet.streams.host import LocalHost
from placet.streams.kafka.schema_registry import Registered, Registry

__all__ = ["app"]

app = typer.Typer(
    help="Export, check and register the Avro schemas of definitions.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A definition file.", show_default=False)]


@app.command()
def export(
    path: File,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the .avsc files; created if missing.")],
    output: OutputOption = OutputForm.TEXT,
) -> None:
    """Write the schemas of a definition, and those that all definitions share, as .avsc files.

    Producers generate code from <entity>.signal.avsc and <entity>.proposal.avsc, readers of the states from
    <entity>.change.avsc.

    Exit code: 0 written, 3 the definition is wrong or the folder can't be written.

    Example:  placet schemas export flight.yaml --out schemas
    """
    written = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, schema in _schemas_of(path).items():
            file = out / f"{name}.avsc"
            file.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            written.append(str(file))
    except OSError as error:
        raise SettingsError(f"{out} can't be written: {error}") from error
    typer.echo(json.dumps(written) if output is OutputForm.JSON else "\n".join(written))


@app.command()
def check(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="OLD... NEW", help="Definition files, .avsc files or exported folders.", show_default=False
        ),
    ],
    output: OutputOption = OutputForm.TEXT,
) -> None:
    """Compare the schemas of a new version with those of all earlier ones.

    The new version must read old inputs (BACKWARD_TRANSITIVE). Changelog, decisions and ledger must be readable in both
    directions (FULL_TRANSITIVE). Logical types count: a field never gets another type, not even another scale.

    Exit code: 0 compatible, 1 not compatible, 2 wrong usage, 3 a file is wrong.

    Example:  placet schemas check flight-v1.yaml flight-v2.yaml
    """
    if len(paths) < 2:
        raise typer.BadParameter("give at least two: OLD... NEW", param_hint="paths")
    try:
        found = check_all([_contracts_in(path) for path in paths])
    except DecodeError as error:
        raise SettingsError(str(error)) from error
    if output is OutputForm.JSON:
        typer.echo(json.dumps({"compatible": not _breaks(found), "findings": [item._asdict() for item in found]}))
    else:
        _print_findings(found)
    raise typer.Exit(1 if _breaks(found) else 0)


@app.command()
def register(
    path: File,
    app: App = None,
    url: Annotated[
        str | None,
        typer.Option("--registry", metavar="URL", help="Or SCHEMA_REGISTRY_URL; its options as for `placet run`."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would happen to each subject.")] = False,
    output: OutputOption = OutputForm.TEXT,
) -> None:
    """Register a definition's schemas under the subjects <topic>-value, with the compatibility that each must keep.

    A gate never registers schemas. Run this command in the deployment, before the gate starts.

    Exit code: 0 registered, 1 (with --dry-run) one would be refused, 3 one was refused, 4 the registry did not answer.

    Example:  placet schemas register flight.yaml --registry http://localhost:8081 --app demo
    """
    settings = settings_from(app=app)
    url = url or settings.registry.url
    if url is None:
        raise SettingsError("No registry is given: use --registry URL or PLACET_REGISTRY__URL.")
    definition = load_definition(path)
    done = Registry(LocalHost(), url, settings.registry_options()).register(settings.app, definition, dry_run=dry_run)
    if output is OutputForm.JSON:
        typer.echo(json.dumps([item._asdict() for item in done]))
    else:
        _print_registered(done)
    raise typer.Exit(1 if any(item.state == "refused" for item in done) else 0)


def _schemas_of(path: Path) -> dict[str, Schema]:
    """Return a definition's schemas and the fixed ones, by the name of their file."""
    definition = load_definition(path)
    own = contracts(definition)._asdict()
    return {**{f"{definition.entity}.{role}": schema for role, schema in own.items()}, **FIXED}


def _contracts_in(path: Path) -> Mapping[str, Record]:
    """Return what a definition file, an .avsc file or an exported folder holds, by full name."""
    if path.is_dir():
        texts: list[str | Schema] = [_text(file) for file in sorted(path.glob("*.avsc"))]
        if not texts:
            raise SettingsError(f"{path} has no .avsc files")
    elif path.suffix == ".avsc":
        texts = [_text(path)]
    else:
        texts = list(_schemas_of(path).values())
    try:
        records = [parse_schema(text) for text in texts]
    except DecodeError as error:
        raise SettingsError(f"{path}: {error}") from error
    return {record.name: record for record in records}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} can't be read: {error}") from error


def _breaks(found: list[Finding]) -> bool:
    return any(finding.breaks for finding in found)


def _print_findings(found: list[Finding]) -> None:
    if not found:
        typer.echo("compatible")
        return
    rows = [("breaks" if item.breaks else "note", item.path, item.sentence) for item in found]
    print_rows(console_for_people(), ("", "where", "what"), rows, lambda row: f"{row[0]}  {row[1]}", 2)
    typer.echo("not compatible" if _breaks(found) else "compatible")


def _print_registered(done: list[Registered]) -> None:
    rows = [(item.subject, item.state, "" if item.id is None else str(item.id), item.compatibility) for item in done]
    print_rows(console_for_people(), ("subject", "state", "id", "compatibility"), rows, "  ".join, 4)
