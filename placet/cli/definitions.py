"""`placet definitions`: check, show, draw and compare definition files. Nothing here talks to Kafka.

Exit codes: 0 fine, 1 the definition is wrong or the change is incompatible, 2 wrong usage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from placet.cli.output import OutputForm, OutputOption
from placet.cli.tables import console_for_people, print_rows
from placet.definitions import load_definition, parse_definition, problems_of, read_text
from placet.processors.diagram import mermaid, when_due
from placet.processors.machine import Machine, Transition, compile_machine, compile_problems
from placet.processors.staleness import made_stale_by
from placet.schemas.definition.coverage import warnings
from placet.schemas.definition.diff import Difference, differences, is_compatible
from placet.schemas.definition.field_types import Field, expected
from placet.schemas.definition.grammar import written_ms
from placet.schemas.definition.jsonschema import json_schema
from placet.schemas.definition.model import Definition
from placet.schemas.errors import DefinitionError
from placet.schemas.messages import Kind
from placet.schemas.state import ABSENT

__all__ = ["app", "print_differences"]

app = typer.Typer(
    help="Check, show, draw and compare definition files; publish, list and withdraw definitions on a cluster.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


class Example(StrEnum):
    """The example definitions that come with Placet."""

    FLIGHT = "flight"
    WEARABLE = "wearable"
    REFUND = "refund"


File = Annotated[Path, typer.Argument(metavar="FILE", help="A definition file.", show_default=False)]


@app.command()
def validate(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Definition files.", show_default=False)],
    strict: Annotated[bool, typer.Option("--strict", help="Take warnings for errors, as in CI.")] = False,
    output: OutputOption = OutputForm.TEXT,
) -> None:
    """Check definition files: grammar, names, types, expressions. All errors are listed, each with its fix.

    Warnings name what can never happen (a status that nothing reaches, a transition that is never tried, a proposal
    that changes nothing, a timer that never fires), and facts that come again and again, but are refused in a status.

    Exit code: 0 all are fine (there may be warnings), 1 at least one is wrong; with --strict also: has a warning.

    Example:  placet definitions validate flight.yaml refund.yaml --strict
    """
    checked = [_checked(path) for path in paths]
    if output is OutputForm.JSON:
        form = [_as_json(path, found, strict=strict) for path, found in zip(paths, checked, strict=True)]
        typer.echo(json.dumps(form, ensure_ascii=False))
    else:
        for path, found in zip(paths, checked, strict=True):
            _print_checked(path, found, strict=strict)
    raise typer.Exit(0 if all(_passes(found, strict=strict) for found in checked) else 1)


@app.command()
def show(file: File, output: OutputOption = OutputForm.TEXT) -> None:
    """Print the table of transitions, the fields, timers, windows and limits, what makes each proposal stale, and where
    inputs are refused.

    Exit code: 0 printed, 1 the definition is wrong (the reason is on stderr).

    Example:  placet definitions show flight.yaml
    """
    with _errors_to_stderr(1):
        definition = load_definition(file)
        machine = compile_machine(definition)
    if output is OutputForm.JSON:
        stale = {name: made_stale_by(machine, name) for name in definition.proposals}
        form = {**definition.written(), "digest": definition.digest.hex(), "made_stale_by": stale}
        typer.echo(json.dumps(form, ensure_ascii=False))
        return
    _print_definition(definition, machine)


@app.command()
def diagram(file: File) -> None:
    """Print the state machine as a Mermaid diagram, drawn from the table of transitions.

    Exit code: 0 printed, 1 the definition is wrong (the reason is on stderr).

    Example:  placet definitions diagram flight.yaml > flight.mmd
    """
    with _errors_to_stderr(1):
        machine = compile_machine(load_definition(file))
    typer.echo(mermaid(machine), nl=False)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The definition in force.", show_default=False)],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The new definition.", show_default=False)],
    output: OutputOption = OutputForm.TEXT,
) -> None:
    """Compare two definitions: is the new one compatible with records on the log?

    Incompatible are: another entity, a version that is not higher, a status, field or input removed, a field
    re-typed, a field added without default, another `dedup`, a longer horizon.

    Exit code: 0 compatible or equal, 1 incompatible, 2 one of the files is no definition (the reason is on stderr).

    Example:  placet definitions diff flight-v1.yaml flight-v2.yaml --output json
    """
    with _errors_to_stderr(2):
        before, after = load_definition(old), load_definition(new)
        compile_machine(after)
    found = differences(before, after)
    if output is OutputForm.JSON:
        typer.echo(json.dumps({"compatible": is_compatible(found), "differences": [d._asdict() for d in found]}))
    else:
        print_differences(found)
    raise typer.Exit(0 if is_compatible(found) else 1)


@app.command()
def example(
    name: Annotated[Example, typer.Argument(help="Name of the example.", show_default=False)] = Example.FLIGHT,
) -> None:
    """Print an example definition with comments, to start your own from.

    Example:  placet definitions example refund > refund.yaml
    """
    typer.echo((files("placet.schemas") / "examples" / f"{name}.yaml").read_text(encoding="utf-8"), nl=False)


@app.command()
def jsonschema() -> None:
    """Print the JSON Schema of definition files, for completion and checks in editors.

    Save it, and begin a definition with `# yaml-language-server: $schema=placet-definition.schema.json`.

    Example:  placet definitions jsonschema > placet-definition.schema.json
    """
    typer.echo(json.dumps(json_schema(), indent=2))


class _Checked(NamedTuple):
    """What was found in a file: the definition, if it is one, its errors and its warnings."""

    definition: Definition | None
    errors: list[DefinitionError]
    warnings: list[DefinitionError]


def _checked(path: Path) -> _Checked:
    try:
        text = read_text(path)
    except DefinitionError as error:
        return _Checked(None, [error], [])
    errors = problems_of(text, str(path))
    if errors:
        return _Checked(None, errors, [])
    definition = parse_definition(text, str(path))
    found = sorted(map(definition.error, warnings(definition)), key=lambda warning: warning.line)
    return _Checked(definition, compile_problems(definition), found)


def _passes(found: _Checked, *, strict: bool) -> bool:
    return not found.errors and not (strict and found.warnings)


def _print_checked(path: Path, found: _Checked, *, strict: bool) -> None:
    for error in found.errors:
        typer.echo(f"error: {error}", err=True)
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    definition = found.definition
    if definition is not None and _passes(found, strict=strict):
        typer.echo(f"{path}: ok: {definition.entity} version {definition.version}, digest {definition.digest.hex()}")


def _as_json(path: Path, found: _Checked, *, strict: bool) -> dict[str, Any]:
    definition = found.definition
    return {
        "file": str(path),
        "ok": _passes(found, strict=strict),
        "digest": definition.digest.hex() if definition is not None and not found.errors else None,
        "errors": [_problem(error) for error in found.errors],
        "warnings": [_problem(warning) for warning in found.warnings],
    }


def _problem(error: DefinitionError) -> dict[str, Any]:
    return {"line": error.line, "path": error.path, "message": error.message, "fix": error.fix}


@contextmanager
def _errors_to_stderr(code: int) -> Iterator[None]:
    """Ends with the error's own sentence and an exit code, without a traceback: the reader is an author."""
    try:
        yield
    except DefinitionError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(code) from None


def _print_definition(definition: Definition, machine: Machine) -> None:
    console = console_for_people()
    console.print(
        f"{definition.entity}, version {definition.version}, horizon {written_ms(definition.horizon_ms)}, "
        f"digest {definition.digest.hex()}",
        soft_wrap=True,
    )
    console.print(
        f"statuses: {', '.join(definition.statuses)}; final: {', '.join(definition.final) or 'none'}", soft_wrap=True
    )
    fields = [(name, expected(field), _default_of(field), field.doc) for name, field in definition.fields.items()]
    print_rows(console, ("field", "type", "default", "doc"), fields, lambda row: f"{row[0]}: {row[1]}", 2)
    print_rows(
        console,
        ("kind", "name", "from", "to", "guard", "copy and set"),
        _transitions(machine),
        lambda row: f"{row[0]} {row[1]}: {row[2]} -> {row[3]}",
        4,
    )
    timers = [
        (status, one.name, when_due(one)) for status in machine.statuses for one in machine.arming.get(status, ())
    ]
    if timers:
        print_rows(console, ("status", "timer", "due"), timers, lambda row: f"{row[0]}: {row[1]} {row[2]}", 3)
    windows = [(name, one.what, written_ms(one.within_ms)) for name, one in definition.windows.items()]
    if windows:
        print_rows(console, ("window", "counts", "within"), windows, lambda row: f"{row[0]}: {row[1]} in {row[2]}", 3)
    for name, proposal in definition.proposals.items():
        for text in proposal.limits:
            console.print(f"limit of {name}: {text}", soft_wrap=True)
    for name in definition.proposals:
        stale = made_stale_by(machine, name)
        console.print(f"{name} is made stale by: {', '.join(stale) or 'nothing'}", soft_wrap=True)
    for rule in machine.rules.values():
        if rule.kind is Kind.TIMER:
            continue  # it is armed in its statuses only
        if holes := [status for status in (ABSENT, *machine.statuses) if status not in rule.transitions]:
            what = "ignored" if rule.ignored_elsewhere else "refused"
            console.print(f"{rule.name} is {what} in: {', '.join(holes)}", soft_wrap=True)
    for name, text in definition.invariants.items():
        console.print(f"invariant {name}: {text}", soft_wrap=True)


def _default_of(field: Field) -> str:
    return repr(field.default) if field.has_default else ""


def _transitions(machine: Machine) -> Iterator[tuple[str, ...]]:
    for kind, name, statuses, transition in _rows(machine):
        target = "(stays)" if transition.target is None else transition.target
        assigned = "\n".join(transition.assignment_texts)
        shown = f"{name} (late)" if transition.late else name
        yield kind.name.lower(), shown, ", ".join(statuses), target, transition.guard_text, assigned


def _rows(machine: Machine) -> Iterator[tuple[Kind, str, list[str], Transition]]:
    """The table that runs, one row for each transition with all statuses that it leaves."""
    rows: dict[tuple[Kind, str, int], tuple[list[str], Transition]] = {}
    for (kind, name, status), transitions in machine.table.items():
        for transition in transitions:
            rows.setdefault((kind, name, transition.number), ([], transition))[0].append(status)
    for (kind, name, _), (statuses, transition) in sorted(rows.items(), key=lambda row: _place(machine, row[0])):
        yield kind, name, statuses, transition


def _place(machine: Machine, row: tuple[Kind, str, int]) -> tuple[int, int]:
    return list(machine.rules).index(row[:2]), row[2]


def print_differences(found: list[Difference]) -> None:
    """Print the differences between two definitions, and what they come to."""
    if not found:
        typer.echo("no difference in the rules")
        return
    rows = [("ok" if one.compatible else "INCOMPATIBLE", one.path, one.change, one.why) for one in found]
    console = console_for_people()
    print_rows(console, ("", "where", "change", "why"), rows, lambda row: f"{row[0]}  {row[1]}", 2)
    console.print("compatible" if is_compatible(found) else "incompatible")
